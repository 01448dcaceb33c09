"""A product that is away until its messages are given up: said as it is, and handed on again."""

from datetime import timedelta

from sqlalchemy import delete, select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.outbox.given_up import (
    ForwardSelection,
    end_lost,
    given_up_forwards,
    hand_on_again,
)
from linekeeper.outbox.senders.forward import forwarding
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Incident, IncidentEntry, WebhookEvent
from linekeeper.sweep.webhooks import watch_stream
from tests.inbox.process.stage import Stage, about
from tests.patient import attended


async def kinds(stage: Stage) -> dict[str, Incident]:
    """The incidents about forwards that are open."""
    async with stage.rt.store.read() as session:
        rows = await session.scalars(select(Incident).where(col(Incident.resolved_at).is_(None)))
        return {row.kind: row for row in rows if row.kind.startswith("forward_")}


async def deliver(stage: Stage, ahead: timedelta) -> None:
    moment = utcnow() + ahead
    async with forwarding(stage.rt, lambda: moment) as forwarder:
        while await forwarder.deliver():
            pass


async def lost(stage: Stage) -> list[str]:
    """Messages of two connections of which the product takes none for three days; their ids."""
    ids = []
    for connection in stage.connections[:2]:
        body = about(connection, "connection.status_changed", utcnow(), to="online")
        ids.append((await stage.deliver(body)).id)
    await stage.process()
    stage.product.answers = [503] * 500
    for ahead in attended(timedelta(), timedelta(days=3.1)):
        await deliver(stage, ahead)
        await watch_stream(stage.rt, utcnow() + ahead)
    stage.product.answers = []
    return ids


async def test_what_is_given_up_leaves_the_product_in_trouble_until_it_is_replayed_and_taken(
    stage: Stage,
) -> None:
    """It had been green, *resolved*, the moment the last message was given up."""
    ids = await lost(stage)
    now = utcnow() + timedelta(days=3.2)
    await watch_stream(stage.rt, now)
    found = await kinds(stage)
    assert set(found) == {"forward_behind", "forward_dead"}
    assert "2 messages not handed on to the product" in found["forward_dead"].summary
    assert "answered 503" in found["forward_behind"].summary

    done = [count async for count in hand_on_again(stage.rt.store, ForwardSelection(), now=now)]
    assert done == [2]
    await watch_stream(stage.rt, now)
    assert "forward_dead" not in await kinds(stage)
    await deliver(stage, timedelta(days=3.2))
    assert sorted(identity for identity, _ in stage.product.taken) == sorted(ids)
    await watch_stream(stage.rt, now)
    assert await kinds(stage) == {}


async def test_handing_on_again_that_is_tried_again_goes_no_further_than_its_limit(
    stage: Stage,
) -> None:
    await lost(stage)
    selection, now = ForwardSelection(limit=1), utcnow() + timedelta(days=3.2)
    for _ in range(2):
        assert [count async for count in hand_on_again(stage.rt.store, selection, now=now)] == [1]
    assert (await given_up_forwards(stage.rt.store, ForwardSelection())).count == 1


async def test_only_the_selected_forwards_are_handed_on_again(stage: Stage) -> None:
    await lost(stage)
    first, *_ = stage.connections
    now = utcnow() + timedelta(days=3.2)
    later = ForwardSelection(since=now)
    assert (await given_up_forwards(stage.rt.store, later)).count == 0
    of_one = ForwardSelection(connection_id=first.id)
    assert (await given_up_forwards(stage.rt.store, of_one)).count == 1
    assert [n async for n in hand_on_again(stage.rt.store, of_one, now=now)] == [1]
    later_run = hand_on_again(stage.rt.store, of_one, now=now + timedelta(minutes=1))
    assert [n async for n in later_run] == []
    assert (await given_up_forwards(stage.rt.store, ForwardSelection())).count == 1


async def test_what_is_handed_on_again_is_tried_for_three_more_days(stage: Stage) -> None:
    await lost(stage)
    now = utcnow() + timedelta(days=3.2)
    assert [n async for n in hand_on_again(stage.rt.store, ForwardSelection(), now=now)] == [2]
    stage.product.answers = [503] * 500
    for ahead in attended(timedelta(days=3.2), timedelta(days=6.1)):
        await deliver(stage, ahead)
    assert {row.status for row in await stage.forwards()} == {"pending"}
    await deliver(stage, timedelta(days=6.3))
    assert {row.status for row in await stage.forwards()} == {"dead"}


async def removed(stage: Stage, ids: list[str]) -> None:
    """The events are too old to be kept."""
    async with stage.rt.store.write() as session:
        await session.execute(delete(WebhookEvent).where(col(WebhookEvent.id).in_(ids)))


async def test_what_is_no_longer_kept_ends_and_is_said_to_be_lost(stage: Stage) -> None:
    """It had been dead for ever, whoever handed it on again."""
    ids = await lost(stage)
    now = utcnow() + timedelta(days=91)
    await removed(stage, ids[:1])
    assert await end_lost(stage.rt, now=now) == 1
    assert await end_lost(stage.rt, now=now) == 0
    await watch_stream(stage.rt, now)
    summary = (await kinds(stage))["forward_dead"].summary
    assert "1 message not handed on to the product" in summary
    assert "1 message can't be handed on any more" in summary
    assert [n async for n in hand_on_again(stage.rt.store, ForwardSelection(), now=now)] == [1]
    await deliver(stage, timedelta(days=91))
    assert {row.status for row in await stage.forwards()} == {"skipped", "sent"}
    await watch_stream(stage.rt, now)
    (incident,) = (await kinds(stage)).values()
    assert incident.kind == "forward_dead"
    assert "unless" not in incident.summary
    await watch_stream(stage.rt, now + timedelta(days=1.1))
    assert await kinds(stage) == {}
    assert "never handed on" in await last_entry(stage, incident.id)


async def test_what_went_before_it_was_handed_on_again_ends_so_too(stage: Stage) -> None:
    ids = await lost(stage)
    now = utcnow() + timedelta(days=91)
    assert [n async for n in hand_on_again(stage.rt.store, ForwardSelection(), now=now)] == [2]
    await removed(stage, ids)
    await deliver(stage, timedelta(days=91))
    assert {row.status for row in await stage.forwards()} == {"skipped"}


async def test_nothing_is_said_of_messages_for_an_address_that_is_not_configured_any_more(
    stage: Stage,
) -> None:
    await lost(stage)
    body = about(stage.connections[0], "connection.status_changed", utcnow(), to="online")
    await stage.deliver(body)
    await stage.process()
    now = utcnow() + timedelta(days=3.2)
    await watch_stream(stage.rt, now)
    assert set(await kinds(stage)) == {"forward_behind", "forward_dead"}
    settings = stage.rt.settings.model_copy(update={"forward_url": None})
    async with Runtime.open(settings) as rt:
        await watch_stream(rt, now)
        assert await kinds(stage) == {}
    await watch_stream(stage.rt, now)
    assert set(await kinds(stage)) == {"forward_behind", "forward_dead"}


async def last_entry(stage: Stage, incident_id: str) -> str:
    statement = select(IncidentEntry).where(col(IncidentEntry.incident_id) == incident_id)
    async with stage.rt.store.read() as session:
        entries = await session.scalars(statement.order_by(col(IncidentEntry.id)))
        return [entry.text for entry in entries][-1]
