"""What is slow to start is started once: a Prefect server, and a house for the browser tests."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PREFECT = re.compile(r"Popen\((?:[^)]*\n)?[^)]*prefect_server")
HOUSE = re.compile(r"(?<![\w.])(?:started|living)\(\n? *(?:Path|tmp_path|home|connections)")


def _starting(what: re.Pattern[str]) -> set[str]:
    """The modules of tests of `make test` that start one."""
    modules = {str(path.relative_to(TESTS)): path.read_text() for path in TESTS.rglob("*.py")}
    return {
        name
        for name, text in modules.items()
        if what.search(text) and not re.search(r"^pytestmark\b.*(\n    .*)*\bsoak\b", text, re.M)
    }


def test_nobody_starts_a_prefect_server_beside_the_shared_one() -> None:
    # The other one has its key from its environment, not from its database.
    assert _starting(PREFECT) == {"fixtures_prefect.py", "cli/test_private.py"}


def test_the_browser_tests_share_one_house() -> None:
    # Those of `docs` and of the pictures are marked test by test, or are no tests.
    assert _starting(HOUSE) == {"e2e/conftest.py", "e2e/pictures.py", "docs/test_snippets.py"}


def test_who_ends_that_house_comes_last() -> None:
    assert max(path.name for path in (TESTS / "e2e").glob("test_*.py")) == "test_whole.py"
