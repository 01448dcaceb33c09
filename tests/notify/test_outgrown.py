"""An incident that grows beyond what it was announced as: who is notified, and where."""

from datetime import timedelta

import pytest

from linekeeper.incidents.announce import announce
from linekeeper.incidents.lifecycle import IncidentChange
from linekeeper.store.tables import Connection, Customer, Incident, IncidentConnection
from linekeeper.views.digest_queries import read_lives
from tests.notify.conftest import Desk
from tests.notify.test_slack_channels import _channel, _of, _with


async def grow(desk: Desk, incident_id: str) -> None:
    """Connections of other customers and providers turn out to have the same root cause."""
    now = desk.now()
    async with desk.store.write() as session:
        for number in range(5):
            other = Customer(name=f"Other {number}", slug=f"other-{number}", owner="Quinn")
            session.add(other)
            await session.flush()
            connection = Connection(
                app="default",
                makini_key=f"other-{number}",
                customer_id=other.id,
                name="Maximo",
                slug=f"other-{number}",
                provider="maximo",
                setup="live",
                health="unreachable",
            )
            session.add(connection)
            await session.flush()
            session.add(
                IncidentConnection(
                    incident_id=incident_id,
                    connection_id=connection.id,
                    kind="unreachable",
                    joined_at=now,
                )
            )
        incident = await session.get_one(Incident, incident_id)
        incident.scope, incident.provider = "app", ""
        incident.title = "app default · 6 connections"
        change = IncidentChange(incident_id, "changed", "Joined: 5 connections")
        await announce(desk.store, session, [change], now=now)


async def test_the_channel_that_takes_all_of_it_is_notified_and_of_the_end(desk: Desk) -> None:
    _with(desk, petra=_channel(desk, "#ops", owners="Petra"))
    incident = await desk.open(customer="Acme", owner="Petra")
    await desk.deliver()
    assert _of(desk, "linekeeper") == []
    await grow(desk, incident)
    for _ in range(3):
        await desk.deliver()
    [there] = _of(desk, "linekeeper")
    assert "app default — Unreachable" in there["text"]
    assert "#ops" in there["text"]
    [here] = _of(desk, "ops")
    assert "6 connections" in str(here)
    await desk.change(
        incident, "resolved", "It answers.", status="resolved", resolved_at=desk.now()
    )
    for _ in range(3):
        await desk.deliver()
        desk.ahead += timedelta(minutes=1)
    [here], [there] = _of(desk, "ops"), _of(desk, "linekeeper")
    assert "resolved" in here["text"]
    assert [reply["text"] for reply in there["replies"]] == ["app default — Unreachable: resolved"]


@pytest.mark.parametrize("taken", [False, True])
async def test_what_became_critical_is_said_in_the_channel_once(desk: Desk, taken: bool) -> None:
    """Also where somebody took it: what was taken is one connection's trouble."""
    incident = await desk.open(customer="Acme", owner="Petra")
    await desk.deliver()
    if taken:
        acknowledged = {"status": "acknowledged", "acknowledged_at": desk.now()}
        await desk.change(incident, "acknowledged", "Petra has it.", **acknowledged)
        await desk.deliver()
    await grow(desk, incident)
    for _ in range(3):
        await desk.deliver()
    [message] = desk.messages()
    [worse] = [reply for reply in message["replies"] if "Worse" in reply["text"]]
    assert "severity critical, announced as normal" in worse["text"]
    shown = desk.slack.channel("#linekeeper").messages[worse["ts"]]
    assert shown.broadcast


async def test_what_was_wide_from_the_beginning_is_said_once(desk: Desk) -> None:
    _with(desk, petra=_channel(desk, "#ops", owners="Petra"))
    await desk.open(customer="Acme", owner="Petra", others=5)
    for _ in range(3):
        await desk.deliver()
    assert _of(desk, "linekeeper") == []
    [message] = _of(desk, "ops")
    assert "Worse" not in str(message)


async def test_the_digest_calls_what_became_critical_critical(desk: Desk) -> None:
    incident = await desk.open(customer="Acme", owner="Petra")
    await desk.deliver()
    await grow(desk, incident)
    await desk.deliver()
    async with desk.store.read() as session:
        [life] = await read_lives(session, desk.now() - timedelta(days=1))
    assert life.message is not None
    assert life.severity == "critical"
