import asyncio

import pytest
from sqlalchemy import select

from linekeeper.clock import utcnow
from linekeeper.incidents.announce import announce, say
from linekeeper.incidents.lifecycle import IncidentChange
from linekeeper.outbox.events import About, connection_event
from linekeeper.outbox.queue import enqueue
from linekeeper.store import Store
from linekeeper.store.tables import Incident, Outbox
from tests.notify.conftest import Desk


async def rows(store: Store, channel: str) -> list[Outbox]:
    async with store.read() as session:
        found = await session.scalars(
            select(Outbox).where(Outbox.channel == channel).order_by(Outbox.seq)
        )
        return list(found)


async def test_an_opened_incident_is_a_message_a_timeline_entry_and_an_event(desk: Desk) -> None:
    incident_id = await desk.open()
    ordering_key = f"slack:incident:{incident_id}"
    slack = await rows(desk.store, "slack")
    assert [row.dedupe_key for row in slack] == [
        f"{ordering_key}:show:1",
        f"{ordering_key}:timeline:1",
    ]
    assert {row.ordering_key for row in slack} == {ordering_key}
    [event] = await rows(desk.store, "event")
    assert event.payload["name"] == "linekeeper.incident.opened"
    assert event.payload["resource"]["prefect.resource.id"] == f"linekeeper.incident.{incident_id}"
    roles = {r["prefect.resource.role"]: r for r in event.payload["related"]}
    assert roles["customer"]["prefect.resource.name"] == "Acme"
    assert roles["provider"]["prefect.resource.id"] == "linekeeper.provider.sap-ecc"
    assert roles["connection"]["prefect.resource.name"] == "SAP ECC"


async def test_several_changes_of_one_incident_are_one_revision(desk: Desk) -> None:
    incident_id = await desk.open()
    async with desk.store.write() as session:
        changes = [
            IncidentChange(incident_id, "changed", "One more."),
            IncidentChange(incident_id, "resolved", "It answers again."),
        ]
        await announce(desk.store, session, changes, now=utcnow())
    entry = (await rows(desk.store, "slack"))[-1]
    assert entry.dedupe_key.endswith(":timeline:2")
    assert entry.payload["text"] == "One more.\nIt answers again."
    names = [row.payload["name"] for row in await rows(desk.store, "event")]
    assert names == ["linekeeper.incident.opened", "linekeeper.incident.resolved"]


async def test_a_reopened_incident_is_an_opened_event_of_its_own(desk: Desk) -> None:
    incident_id = await desk.open()
    await desk.change(incident_id, "resolved")
    await desk.change(incident_id, "reopened")
    opened = [
        row.payload
        for row in await rows(desk.store, "event")
        if row.payload["name"].endswith(".opened")
    ]
    assert [payload["payload"]["what"] for payload in opened] == ["opened", "reopened"]


async def test_announcing_at_the_same_time_gives_every_announcement_its_own_revision(
    desk: Desk,
) -> None:
    incident_id = await desk.open()
    await asyncio.gather(*(desk.change(incident_id, "changed", f"entry {n}") for n in range(8)))
    shows = [row for row in await rows(desk.store, "slack") if row.payload["do"] == "show"]
    assert sorted(int(row.dedupe_key.rsplit(":", 1)[1]) for row in shows) == list(range(1, 10))


async def test_nothing_is_announced_if_the_callers_transaction_fails(desk: Desk) -> None:
    incident_id = await desk.open()
    before = len(await rows(desk.store, "slack"))
    change = IncidentChange(incident_id, "changed", "never happened")

    async def announce_and_fail() -> None:
        async with desk.store.write() as session:
            await announce(desk.store, session, [change], now=utcnow())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await announce_and_fail()
    assert len(await rows(desk.store, "slack")) == before
    async with desk.store.read() as session:
        assert (await session.get_one(Incident, incident_id)).revision == 1


async def test_an_unknown_incident_is_an_error(store: Store) -> None:
    missing = IncidentChange("0198c2f0-0000-7000-8000-000000000000", "opened")
    with pytest.raises(LookupError, match="no such incident"):
        async with store.write() as session:
            await announce(store, session, [missing], now=utcnow())


async def test_what_a_database_can_not_hold_is_dropped_from_texts(desk: Desk) -> None:
    incident_id = await desk.open()
    await desk.change(incident_id, "changed", "null \x00 and half a pair \ud800 stay out")
    entry = (await rows(desk.store, "slack"))[-1]
    assert entry.payload["text"] == "null and half a pair stay out"


async def test_a_subject_is_said_once(store: Store) -> None:
    async with store.write() as session:
        await say(store, session, "test:1", "Hello", utcnow())
        await say(store, session, "test:1", "Hello again", utcnow())
    [row] = await rows(store, "slack")
    assert row.payload == {"do": "say", "subject": "test:1", "text": "Hello"}


async def test_a_transition_is_one_event_with_the_transitions_id(store: Store) -> None:
    about = About("c-1", "SAP ECC", "SAP ECC 6.0", "u-1", "Acme")
    message = connection_event(
        about,
        transition_id="0198c2f0-0000-7000-8000-000000000001",
        health="unreachable",
        before="healthy",
        source="probe",
        occurred=utcnow(),
    )
    async with store.write() as session:
        await enqueue(store, session, [message, message], now=utcnow())
    [row] = await rows(store, "event")
    assert row.payload["id"] == "0198c2f0-0000-7000-8000-000000000001"
    assert row.payload["name"] == "linekeeper.connection.unreachable"
    assert row.ordering_key == "event:linekeeper.connection.c-1"
    assert [r["prefect.resource.id"] for r in row.payload["related"]] == [
        "linekeeper.provider.sap-ecc-6-0",
        "linekeeper.customer.u-1",
    ]
