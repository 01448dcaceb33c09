"""A product that is away until its messages are given up: said as it is, and handed on again."""

from datetime import timedelta

from sqlalchemy import select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.outbox.given_up import ForwardSelection, given_up_forwards, hand_on_again
from linekeeper.outbox.senders.forward import forwarding
from linekeeper.store.tables import Incident
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
    assert "2 messages for the product will not be handed on" in found["forward_dead"].summary
    assert "answered 503" in found["forward_behind"].summary

    done = [count async for count in hand_on_again(stage.rt.store, ForwardSelection(), now=now)]
    assert done == [2]
    await watch_stream(stage.rt, now)
    assert "forward_dead" not in await kinds(stage)
    await deliver(stage, timedelta(days=3.2))
    assert sorted(identity for identity, _ in stage.product.taken) == sorted(ids)
    await watch_stream(stage.rt, now)
    assert await kinds(stage) == {}


async def test_only_the_selected_forwards_are_handed_on_again(stage: Stage) -> None:
    await lost(stage)
    first, *_ = stage.connections
    now = utcnow() + timedelta(days=3.2)
    later = ForwardSelection(since=now)
    assert (await given_up_forwards(stage.rt.store, later)).count == 0
    of_one = ForwardSelection(connection_id=first.id)
    assert (await given_up_forwards(stage.rt.store, of_one)).count == 1
    assert [n async for n in hand_on_again(stage.rt.store, of_one, now=now)] == [1]
    assert [n async for n in hand_on_again(stage.rt.store, of_one, now=now)] == []
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
