"""What `make test` leaves to others: to `make repeats` what another of its tests shows as well, to
`make soak` what is long, and what is promised on both databases.

A test that repeats names the one that does not: `@pytest.mark.repeats("notify/test_x.py::…")`.

Each promise is tested on SQLite, and each statement that keeps it is run on PostgreSQL as well
(`tests.on_postgresql`). What that can't show, `make test` runs there too (`postgresql.txt`): what
several do at once, what a killed process leaves, values that not every database takes, what has a
form of its own for PostgreSQL, and each capability once; some of it there is in `make repeats`
(`postgresql_repeats.txt`). All the rest is run there by `make soak`, and by whoever asks for it:
`python -m pytest -m "" tests/notify`.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

TESTS = "tests/"
ON_BOTH = Path(__file__).with_name("postgresql.txt")
"""Modules, and tests: of these the first of their cases."""
ON_BOTH_AGAIN = Path(__file__).with_name("postgresql_repeats.txt")
"""Modules and tests that `make repeats` runs on PostgreSQL."""


def named_in(file: Path) -> list[str]:
    """The modules and tests that stand there, one a line."""
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]


_NAMED = named_in(ON_BOTH)
_AGAIN = tuple(named_in(ON_BOTH_AGAIN))
_MODULES_AGAIN = tuple(name.partition("::")[0] for name in _AGAIN)
_FUNCTIONS = frozenset(name for name in _NAMED if "::" in name)
_GIVEN_WITH_MARKS = type(pytest.param())
_PATHS = tuple(name for name in _NAMED if "::" not in name)


IN_TEST, IN_REPEATS = "not soak and not repeats", "repeats and not soak"
"""The marks by which `make test` and `make repeats` choose."""
_OF_MODULE = r"^pytestmark\b.*(\n    .*)*\b({})\b"


def left_out(marks: str) -> frozenset[str]:
    """The marks whose tests an expression like `IN_TEST` is sure to leave out."""
    return frozenset(() if " or " in marks else re.findall(r"\bnot (\w+)", marks))


def has_none(module: Path, marks: str) -> bool:
    """Whether its text says that `marks` choose no test of it: then nobody has to import it."""
    text = module.read_text()
    if marks.startswith("repeats"):
        return "mark.repeats(" not in text and not str(module).endswith(_MODULES_AGAIN)
    names = "|".join(left_out(marks))
    return bool(names) and re.search(_OF_MODULE.format(names), text, re.M) is not None


def collect_what_runs(metafunc: pytest.Metafunc) -> None:
    """Make no test of a value that is left out: thousands would be made in each worker."""
    out = left_out(metafunc.config.option.markexpr)
    if not out:
        return
    parametrize = metafunc.parametrize

    def parametrize_what_runs(names: Any, values: Iterable[Any], *more: Any, **how: Any) -> None:
        every = list(values)
        kept = [number for number, value in enumerate(every) if not out & _marks_of(value)]
        its = "repeats" if _is_again(metafunc.definition) else "soak"
        if names == "engine" and its in out and not is_on_both(metafunc.definition):
            kept = [number for number in kept if every[number] != "postgresql"] or kept
        if kept and len(kept) < len(every):
            if isinstance(how.get("ids"), Sequence):
                how["ids"] = [how["ids"][number] for number in kept]
            every = [every[number] for number in kept]
        parametrize(names, every, *more, **how)

    vars(metafunc)["parametrize"] = parametrize_what_runs


def _marks_of(value: object) -> set[str]:
    marks = value.marks if isinstance(value, _GIVEN_WITH_MARKS) else ()
    return {mark.name for mark in marks}


def leave_to_soak(items: Iterable[pytest.Item]) -> None:
    """Mark what is a repetition on PostgreSQL; what runs on PostgreSQL alone is none."""
    on: dict[str, set[str]] = {"sqlite": set(), "postgresql": set()}
    found = []
    for item in items:
        callspec = getattr(item, "callspec", None)
        engine = callspec.params.get("engine") if callspec is not None else None
        if engine in on:
            on[engine].add(function_of(item))
            found.append((engine, item))
    for engine, item in found:
        is_twice = function_of(item) in on["sqlite"]
        if engine == "postgresql" and is_twice and not _is_named(item):
            item.add_marker(pytest.mark.repeats if _is_again(item) else pytest.mark.soak)


def is_run_on_both(item: pytest.Item) -> bool:
    """Whether all of its module is run on PostgreSQL, as all that is about the database itself: by
    `make test` or by `make repeats`."""
    return _is_whole(item) or _is_again(item)


def is_on_both(item: pytest.Item) -> bool:
    """Whether `make test` runs it on PostgreSQL too, with the first of its other values."""
    return _is_whole(item) or function_of(item).removeprefix(TESTS) in _FUNCTIONS


def _is_named(item: pytest.Item) -> bool:
    return _is_whole(item) or (is_on_both(item) and _is_first_case(item))


def _is_whole(item: pytest.Item) -> bool:
    return function_of(item).removeprefix(TESTS).startswith(_PATHS)


def _is_again(item: pytest.Item) -> bool:
    return function_of(item).removeprefix(TESTS).startswith(_AGAIN)


def _is_first_case(item: pytest.Item) -> bool:
    """Whether each of its parameters but the engine has the first of its values."""
    assert isinstance(item, pytest.Function)
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0]
        names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
        values = list(mark.args[1])
        if "engine" in names or not values:
            continue
        first = values[0]
        if isinstance(first, _GIVEN_WITH_MARKS):
            first = first.values
        elif len(names) == 1:
            first = (first,)
        if [item.callspec.params[name] for name in names] != list(first):
            return False
    return True


def function_of(item: pytest.Item) -> str:
    """Its name without its parameters."""
    return item.nodeid.partition("[")[0]
