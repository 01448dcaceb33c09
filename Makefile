# Linekeeper. `make up` starts everything; `make test` proves it. Both install what they need first.
SHELL := /bin/bash
# The first that fits is taken. Debian's own is compiled with a profile, as those of version managers
# mostly are not: it takes a tenth less processor time.
PYTHONS := $(or $(PYTHON),/usr/bin/python3.11 python3 python3.14 python3.13 python3.12 python3.11 \
  /usr/bin/python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
unexport PYTHONDONTWRITEBYTECODE  # every command would compile all it imports anew
RULES := tests/house tests/docs/test_commands.py  # tests of the code and the pages: `make check` runs them
CHROMIUM := $(firstword $(wildcard /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome))

.PHONY: install up wheel test repeats soak simulate pictures bench check lock browser machines clean

install: $(STAMP)

$(BIN)/python:
	@for python in $(PYTHONS); do \
	  "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || continue; \
	  found=$${found:-$$python}; \
	  "$$python" -c 'import ensurepip, venv' 2>/dev/null && exec "$$python" -m venv $(VENV); \
	done; \
	[ "$$found" ] || { echo "Linekeeper needs Python 3.11 to 3.14, and found none (of 3.15, some packages are not there yet). Try: make PYTHON=/path/to/python3.13 $(MAKECMDGOALS)"; exit 1; }; \
	uv venv -q --seed --python "$$found" $(VENV) 2>/dev/null \
	  || { echo "$$found could not make a virtual environment. On Debian: apt-get install python3-venv"; exit 1; }

$(BIN)/uv: | $(BIN)/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv

$(STAMP): requirements/all.txt pyproject.toml | $(BIN)/uv
	@echo "Installing Linekeeper into $(VENV) ..."
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --compile-bytecode --require-hashes -r requirements/all.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --no-deps -e .
	@$(BIN)/python -m linekeeper.cli.prefect_template
	@touch $@

up: install
	@$(BIN)/linekeeper up $(ARGS)

# What is installed elsewhere (docs/deploy.md): Linekeeper, and its sandbox.
wheel: $(BIN)/uv
	@rm -rf dist && $(BIN)/uv build -q --wheel -o dist . && $(BIN)/uv build -q --wheel -o dist sandbox

# Debian and root: the browser is installed; elsewhere the one command to run first is printed.
browser:
ifeq ($(CHROMIUM),)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing chromium for the browser tests ..."; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core fonts-noto-color-emoji >/dev/null; \
	else echo "The browser tests need Chromium. Run first: sudo apt-get install chromium"; exit 1; fi
endif

# What the test of several machines needs. Debian and root: it is installed; else that test is skipped.
machines: install
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --require-hashes -r requirements/redis.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q podman-compose==1.6.0 kubernetes-validate==1.37.0
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  command -v nginx >/dev/null && command -v redis-server >/dev/null && command -v ip >/dev/null && command -v faketime >/dev/null && command -v promtool >/dev/null \
	  && command -v podman >/dev/null && command -v runc >/dev/null && command -v debootstrap >/dev/null \
	  && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
	  echo "Installing PostgreSQL, Redis, nginx, Prometheus and podman for the tests of deploying ..."; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql redis-server nginx-light iproute2 faketime openssl prometheus podman runc debootstrap >/dev/null; }; fi

test: install browser
	@$(BIN)/python -m pytest -n 6 --dist loadgroup $(RULES:%=--ignore %) $(ARGS) -m "not soak and not repeats"

# What each of its tests shows, another shows in `make test`, which it names.
repeats: install browser
	@$(BIN)/python -m pytest -n 6 --dist loadgroup $(ARGS) -m "repeats and not soak"

soak: install browser machines
	@$(BIN)/python -m pytest $(ARGS) -m "soak or hypothesis" --hypothesis-profile long --timeout 0

# The core in a simulated world (docs/reliability.md): ARGS="--seed 7 --days 14 --trace", "--seeds 500".
simulate: install
	@$(BIN)/python -m tests.simulation $(ARGS)

# The pictures of docs/images, all or some (docs/development.md): ARGS="desk weeks".
pictures: install browser
	@$(BIN)/python -m tests.e2e.pictures $(ARGS)

bench: install
	@$(BIN)/python -m benchmarks $(ARGS)

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@# Of the tests, only names and arguments that are gone: a test can fail to notice them.
	@$(BIN)/mypy -p tests > .mypy_cache/tests.txt; \
	  [ $$? -le 1 ] && ! grep -E "\[call-arg\]|^tests.*: error: Module .* has no attribute" .mypy_cache/tests.txt
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -n 0 $(RULES)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir site

# Exact versions with hashes, for every platform; no registry is named.
lock: $(BIN)/uv
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url pyproject.toml -o requirements/base.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url pyproject.toml --group dev -c requirements/base.txt -o requirements/all.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url pyproject.toml --extra redis -c requirements/base.txt -o requirements/redis.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
