"""How the work of deciding grows with the fleet, in steps that are counted and not timed."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from linekeeper.config import HealthPolicy
from linekeeper.incidents.causes import Trouble
from linekeeper.incidents.decide import Draft, Open, Past, decide

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def calls_of(doing: Callable[[], Any]) -> int:
    """How many functions are called."""
    count = 0

    def note(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        doing()
    finally:
        sys.setprofile(before)
    return count


def opened_of(wanted: list[Draft]) -> list[Open]:
    """What was wanted, as it is open an hour later."""
    since = NOW - timedelta(hours=1)
    return [
        Open(f"{number:06}", each.scope, each.kind, each.app, each.provider, since, each.members)
        for number, each in enumerate(wanted)
    ]


def work(connections: int, kind: str) -> int:
    """The calls it takes to decide about providers of which all five connections fail."""
    troubles = [
        Trouble(f"{number:06}", "a", f"p{number // 5}", "unreachable", NOW - timedelta(days=number))
        for number in range(connections)
    ]
    totals = {(each.app, each.provider): 5 for each in troubles} | {("a", "well"): connections * 3}
    past: dict[str, Past] = {}
    opened: list[Open] = []
    if kind == "half are open":
        half = decide(troubles[::2], [], past={}, totals=totals, policy=HealthPolicy(), now=NOW)
        opened = opened_of(list(half.wanted))
    if kind == "all begin again":
        ended = NOW - timedelta(minutes=5)
        past = {
            each.connection_id: Past(each.connection_id, "connection", each.kind, ended)
            for each in troubles
        }
    return calls_of(
        lambda: decide(troubles, opened, past=past, totals=totals, policy=HealthPolicy(), now=NOW)
    )


@pytest.mark.parametrize("kind", ["all are new", "half are open", "all begin again"])
def test_twice_as_many_in_trouble_are_twice_the_work(kind: str) -> None:
    assert work(600, kind) < 2.5 * work(300, kind)
