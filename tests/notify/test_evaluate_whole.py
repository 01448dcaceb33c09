"""An app in trouble as a whole, and an incident that is reopened: who is notified of what."""

from collections import Counter
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.incidents.announce import announce
from linekeeper.incidents.lifecycle import IncidentChange
from linekeeper.incidents.one_cause import FOREVER
from linekeeper.incidents.suppressed import whole_until
from linekeeper.store import new_id
from linekeeper.store.tables import (
    Connection,
    Incident,
    IncidentConnection,
)
from tests.notify.conftest import Desk
from tests.notify.test_evaluate import MORNING, NIGHT, at, reopen, with_policy


async def of_app(desk: Desk, kind: str, *, topic: str = "health", members: int = 0) -> str:
    """An incident of the app as a whole, and how many connections are members of it."""
    now = desk.now()
    async with desk.store.write() as session:
        app = Incident(
            id=new_id(),
            topic=topic,
            kind=kind,
            scope="app",
            cause=f"app:default:{kind}",
            app="default",
            title=f"app default · {kind}",
            opened_at=now - timedelta(minutes=1),
        )
        session.add(app)
        connections = [
            Connection(
                app="default",
                makini_key=f"whole-{n}",
                name=f"System {n}",
                slug=f"whole-{n}",
                setup="live",
                health=kind,
            )
            for n in range(members)
        ]
        session.add_all(connections)
        await session.flush()
        session.add_all(
            IncidentConnection(
                incident_id=app.id, connection_id=connection.id, kind=kind, joined_at=now
            )
            for connection in connections
        )
        await announce(
            desk.store, session, [IncidentChange(app.id, "opened", "The app fails.")], now=now
        )
    return app.id


def titles(desk: Desk) -> str:
    return " | ".join(message["text"].partition("\n")[0] for message in desk.messages())


async def test_an_app_unreachable_as_a_whole_silences_what_follows(desk: Desk) -> None:
    app = await of_app(desk, "unreachable", members=3)
    await desk.open(customer="Follows")
    await desk.open(customer="Login", kind="reauthorization_required")
    await desk.deliver()
    assert "Follows" not in titles(desk)
    assert "Login" in titles(desk)
    desk.ahead = timedelta(hours=1)
    async with desk.store.write() as session:
        await session.execute(
            update(IncidentConnection)
            .where(col(IncidentConnection.incident_id) == app)
            .values(left_at=desk.now())
        )
    await desk.change(app, "resolved", status="resolved", resolved_at=desk.now())
    desk.ahead = timedelta(hours=1, minutes=10)
    await desk.deliver()
    assert "Follows" not in titles(desk)
    desk.ahead = timedelta(hours=1, minutes=16)
    await desk.deliver()
    assert "Follows" in titles(desk)


@pytest.mark.parametrize("kind", ["list_failed", "list_truncated"])
async def test_a_list_in_trouble_silences_nobody(desk: Desk, kind: str) -> None:
    await of_app(desk, kind, topic="list")
    await desk.open(customer="Critical")
    await desk.deliver()
    assert "Critical" in titles(desk)


async def test_an_apps_incident_of_a_few_silences_nobody_else(desk: Desk) -> None:
    await of_app(desk, "unreachable", members=2)
    for n in range(3):
        await desk.open(customer=f"Customer {n}")
    await desk.deliver(limit=100)
    assert all(f"Customer {n}" in titles(desk) for n in range(3))


@pytest.mark.parametrize(
    ("left", "connections", "until"),
    [
        ([], 0, None),
        ([None], 4, None),
        ([None, None], 4, FOREVER),
        ([NIGHT, None], 4, NIGHT),
        ([MORNING, NIGHT, None], 4, MORNING),
        ([NIGHT, MORNING], 2, MORNING),
    ],
)
def test_an_app_is_whole_until_fewer_than_half_are_members(
    left: list[datetime | None], connections: int, until: datetime | None
) -> None:
    assert whole_until(Counter(left), connections) == until


async def test_a_reopened_incident_notifies_reminds_and_escalates_as_the_first_time(
    desk: Desk,
) -> None:
    with_policy(desk, escalate_from="normal")
    incident_id = await desk.open(customer="Acme")
    await desk.deliver()
    desk.ahead = timedelta(hours=5)  # escalated and reminded of, then over
    await desk.deliver()
    await desk.change(incident_id, "resolved", status="resolved", resolved_at=desk.now())
    await desk.deliver()
    for number in (1, 2):
        desk.ahead += timedelta(minutes=20)
        await reopen(desk, incident_id, number)
        began = desk.now()
        await desk.deliver()
        [message] = desk.messages()  # the same one, edited
        assert ":red_circle:" in message["text"]
        since = next(one for one in message["text"].splitlines() if "Since" in one)
        second = int(began.timestamp())  # or the one before, where it was written down rounded
        assert str(second) in since or str(second - 1) in since
        assert "first opened" in since
        texts = [one["text"] for one in message["replies"]]
        assert sum("Reopened: Acme" in one and "for less than" in one for one in texts) == number
        assert sum("Reopened" in one for one in texts) == number, "each time said once"
        assert "Petra" in next(one for one in texts if "Reopened: Acme" in one)
        desk.ahead += timedelta(minutes=61)
        await desk.deliver()
        desk.ahead += timedelta(hours=4)
        await desk.deliver()
        replies = desk.messages()[0]["replies"]
        assert sum("Escalated" in one["text"] for one in replies) == 1 + number
        assert sum("Reminder 1" in one["text"] for one in replies) == 1 + number
        await desk.change(incident_id, "resolved", status="resolved", resolved_at=desk.now())
        await desk.deliver()


async def test_one_reopened_in_quiet_hours_waits_for_the_morning(desk: Desk) -> None:
    at(desk, NIGHT - timedelta(hours=2))
    with_policy(desk, quiet_hours="22:00-07:00")
    incident_id = await desk.open(customer="Acme")
    await desk.deliver()
    await desk.change(incident_id, "resolved", status="resolved", resolved_at=desk.now())
    at(desk, NIGHT)
    await reopen(desk, incident_id)
    await desk.deliver()
    [message] = desk.messages()
    assert not any("Reopened: Acme" in one["text"] for one in message["replies"])
    at(desk, MORNING)
    await desk.deliver()
    [message] = desk.messages()
    assert any("Reopened: Acme" in one["text"] for one in message["replies"])
