"""What `make test` leaves to `make soak` of what is promised on both databases.

Each promise is tested on SQLite, and each statement that keeps it is run on PostgreSQL as well
(`tests.on_postgresql`). What that can't show, `make test` runs there too (`postgresql.txt`): what
several do at once, what a killed process leaves, values that not every database takes, what has a
form of its own for PostgreSQL, and each capability once. All the rest is run there by `make soak`,
and by whoever asks for it: `python -m pytest -m "" tests/notify`.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

TESTS = "tests/"
ON_BOTH = Path(__file__).with_name("postgresql.txt")
"""Modules, and tests: of these the first of their cases."""
_NAMED = [line for line in ON_BOTH.read_text().splitlines() if not line.startswith("#")]
_FUNCTIONS = frozenset(name for name in _NAMED if "::" in name)
_GIVEN_WITH_MARKS = type(pytest.param())
_PATHS = tuple(name for name in _NAMED if "::" not in name)


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
            item.add_marker(pytest.mark.soak)


def is_run_on_both(item: pytest.Item) -> bool:
    """Whether all of its module is run on PostgreSQL, as all that is about the database itself."""
    return function_of(item).removeprefix(TESTS).startswith(_PATHS)


def _is_named(item: pytest.Item) -> bool:
    is_listed = function_of(item).removeprefix(TESTS) in _FUNCTIONS
    return is_run_on_both(item) or (is_listed and _is_first_case(item))


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
