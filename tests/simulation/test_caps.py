"""What the oracle says where a limit was disregarded: it must not be blind for it."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from tests.simulation.caps import HOUR, MINUTE, busiest, exceeded
from tests.simulation.unusual import CAP

BEGINS = datetime(2026, 3, 2, 6, tzinfo=UTC)


def universe(**differs: Any) -> Any:
    people = {
        "kinds": {"caps"}, "operators": SimpleNamespace(budgets=[]),
        "caps": SimpleNamespace(calls=[]), "customers": SimpleNamespace(tried=[]),
        "unusual": SimpleNamespace(muted=[]),
    }  # fmt: skip
    return SimpleNamespace(
        begins=BEGINS, slack=SimpleNamespace(channel=[]),
        pager=SimpleNamespace(said=[]), crashed_at=[],
        people=SimpleNamespace(**{**people, **differs}),
    )  # fmt: skip


def said(world: Any, rows: list[dict[str, str]] | None = None) -> list[str]:
    oracle: Any = SimpleNamespace(universe=world, rows=lambda *_: rows or [])
    return list(exceeded(oracle))


def after(minutes: float) -> datetime:
    return BEGINS + timedelta(minutes=minutes)


def test_more_calls_in_a_minute_than_the_settings_gave_are_seen() -> None:
    calls = [after(20 + number / 60) for number in range(40)]
    world = universe(
        operators=SimpleNamespace(budgets=[(BEGINS, after(30), 30)]),
        caps=SimpleNamespace(calls=calls),
    )
    assert [line.split(":")[0] for line in said(world)] == ["budget"]
    world.people.customers.tried = [(after(19.5), 200), (after(5), 502)]
    assert said(world) == []  # ten more: for a login of that minute, and for one that is kept
    world.people.customers.tried = [(after(5), 200), (after(10), 409)]
    assert [line.split(":")[0] for line in said(world)] == ["budget"]
    world.people.caps.calls = calls[:30]
    assert said(world) == []


def test_more_first_messages_in_an_hour_than_the_cap_are_seen() -> None:
    world = universe()
    for number in range(CAP + 1):
        texts = [(after(10 + number), "text")]
        world.slack.channel.append(SimpleNamespace(texts=texts, incident_id=str(number)))
    assert [line.split(":")[0] for line in said(world)] == ["cap"]
    world.slack.channel.pop()
    assert said(world) == []


def test_more_messages_in_an_hour_than_the_cap_are_seen_elsewhere_too() -> None:
    world = universe()
    rows = [{"at": after(10 + number).isoformat()} for number in range(CAP + 1)]
    assert [line.split(":")[0] for line in said(world, rows)] == ["cap"]
    world.pager.said = [(after(10), "Linekeeper: Acme")] * (CAP + 1)
    assert [line.split(":")[0] for line in said(world, rows[:CAP])] == ["cap"]
    world.pager.said.pop()
    assert said(world, rows[:CAP]) == []


def test_what_is_said_of_a_muted_incident_is_seen_until_the_mute_is_ended() -> None:
    world = universe(unusual=SimpleNamespace(muted=[("a", after(10), 1.0)]))
    rows = [{"step": "reminder:1", "at": after(40).isoformat()}]
    assert [line.split(":")[0] for line in said(world, rows)] == ["muted"]
    world.people.unusual.muted.append(("a", after(20), 0.0))
    assert said(world, rows) == []


def test_the_busiest_span_is_found() -> None:
    moments = [after(0), after(1), after(30), after(30.5), after(30.9)]
    assert busiest(moments, MINUTE) == (3, after(30))
    assert busiest(moments, HOUR) == (5, after(0))
    assert busiest([], HOUR)[0] == 0
