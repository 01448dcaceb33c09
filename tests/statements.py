"""A pytest plugin that writes `repetitions.txt`: what runs no statement of its own on PostgreSQL.

    EVERY_THIRD=1 python -m pytest -n 0 -p tests.statements -m "not soak" -k postgresql

It looks at all that `make test` would run there without that file, and keeps tests until each
statement is run by one that is kept, or by a module that runs on both databases in any case. A test
in which several do something at once, or a process is killed, is about locks: it is kept.
"""

import inspect
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.repetitions import ELSEWHERE, TESTS, is_run_whole

_LIST = re.compile(r"\$\d+(?:::[A-Z ]+(?:\(\d+\))?)?(?:, \$\d+(?:::[A-Z ]+(?:\(\d+\))?)?)*")
_ROWS = re.compile(r"(\(\?[^()]*\))(?:, \(\?[^()]*\))+")
_AT_ONCE = re.compile(r"gather|create_task|TaskGroup|kill|python\(|part\(|same_time|side_by_side")
_about_locks: set[str] = set()
_running: set[str] = set()
_by_test: defaultdict[str, set[str]] = defaultdict(set)
_seconds: defaultdict[str, float] = defaultdict(float)


@event.listens_for(Engine, "before_cursor_execute")
def _on_statement(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> None:
    if connection.dialect.name == "postgresql":
        _running.add(statement)


def shape(statement: str) -> str:
    """The statement whatever the number of its values and rows."""
    of_a_kind = _LIST.sub(
        lambda m: "?" + "".join(dict.fromkeys(re.findall("::[A-Z ]+", m[0]))), statement
    )
    return _ROWS.sub(r"\1", of_a_kind)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _running.clear()
    began = time.process_time()
    yield
    name = item.nodeid.partition("[")[0].removeprefix(TESTS)
    _by_test[name] |= {shape(statement) for statement in _running}
    _seconds[name] += time.process_time() - began
    if isinstance(item, pytest.Function) and _AT_ONCE.search(inspect.getsource(item.function)):
        _about_locks.add(name)


def pytest_sessionfinish() -> None:
    """What is left over goes to the file; a test that works through other processes is kept."""
    found = {
        name: shapes
        for name, shapes in _by_test.items()
        if not is_run_whole(name) and name not in _about_locks
    }
    run = set[str]().union(*(_by_test[name] for name in _by_test.keys() - found.keys()))
    over = {name: shapes for name, shapes in sorted(found.items()) if shapes}
    while over:
        best = max(over, key=lambda name: len(over[name] - run) / (_seconds[name] + 0.05))
        if not over[best] - run:
            break
        run |= over.pop(best)
    ELSEWHERE.write_text("".join(f"{name}\n" for name in over))
