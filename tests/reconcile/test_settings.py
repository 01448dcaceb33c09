"""What a connection was configured to is what it is read for, how often, and what is kept."""

from datetime import timedelta
from typing import Any

from sqlalchemy import delete
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store.tables import (
    Connection,
    ConnectionSetting,
    Record,
    Watermark,
    WebhookEvent,
)
from tests.reconcile.conftest import Peer, deliver, index, parsed, process, run


async def configure(rt: Runtime, connection: Connection, *rows: dict[str, Any]) -> None:
    """Have `connection` read for these entities and no others."""
    async with rt.store.write() as session:
        await session.execute(
            delete(ConnectionSetting).where(col(ConnectionSetting.connection_id) == connection.id)
        )
        session.add_all(ConnectionSetting(connection_id=connection.id, **row) for row in rows)


async def read_back(rt: Runtime, to: timedelta) -> None:
    """Say of every entity that it was last read `to` ago."""
    async with rt.store.write() as session:
        for mark in await session.scalars(select(Watermark)):
            mark.polled_at = utcnow() - to


async def polled(rt: Runtime, connection: Connection) -> dict[str, timedelta]:
    """How long ago each entity of `connection` was read."""
    async with rt.store.read() as session:
        rows = await session.scalars(
            select(Watermark).where(col(Watermark.connection_id) == connection.id)
        )
        return {row.entity: utcnow() - row.polled_at for row in rows if row.polled_at}


async def test_a_configured_connection_is_read_for_its_entities_and_no_others(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await configure(rt, one, {"entity": "eam/assets"})
    await run(rt)
    found, truth = await index(rt), parsed(await peer.truth())
    assert found[one.makini_key] == {"eam/assets": truth[one.makini_key]["eam/assets"]}
    others = {key: entities for key, entities in truth.items() if key != one.makini_key}
    assert {key: found[key] for key in others} == others
    await run(rt, full=True)
    assert set((await index(rt))[one.makini_key]) == {"eam/assets"}
    await run(rt, entities=["eam/sites"])
    assert set((await index(rt))[one.makini_key]) == {"eam/assets"}
    await configure(rt, one, {"entity": "eam/assets"}, {"entity": "eam/sites"})
    await run(rt, everything=False)
    assert set((await index(rt))[one.makini_key]) == {"eam/assets", "eam/sites"}


async def test_each_entity_is_read_by_the_cadence_it_was_given(
    rt: Runtime, one: Connection
) -> None:
    await run(rt)
    await configure(
        rt,
        one,
        {"entity": "eam/assets", "cadence_minutes": 60},
        {"entity": "eam/work-orders", "cadence_minutes": 1440},
        {"entity": "eam/sites"},
    )
    hour = timedelta(hours=1)
    await read_back(rt, timedelta(minutes=20))
    await run(rt, everything=False)
    ago = await polled(rt, one)
    assert {entity for entity, since in ago.items() if since < timedelta(minutes=1)} == {
        "eam/sites"
    }
    await read_back(rt, 2 * hour)
    await run(rt, everything=False)
    ago = await polled(rt, one)
    assert ago["eam/assets"] < hour
    assert ago["eam/sites"] < hour
    assert ago["eam/work-orders"] >= 2 * hour
    assert ago["erp/purchase-orders"] >= 2 * hour
    await read_back(rt, 24 * hour)
    await run(rt, everything=False)
    assert (await polled(rt, one))["eam/work-orders"] < hour


async def test_bodies_are_kept_for_the_entities_that_were_configured_so(
    rt: Runtime, one: Connection
) -> None:
    await configure(rt, one, {"entity": "eam/assets", "keep_bodies": True}, {"entity": "eam/sites"})
    await run(rt)
    async with rt.store.read() as session:
        rows = list(await session.scalars(select(Record)))
    kept = {(row.connection_id, row.entity) for row in rows if row.body is not None}
    assert kept == {(one.id, "eam/assets")}
    assert all(row.body for row in rows if (row.connection_id, row.entity) in kept)


async def test_a_webhook_of_an_entity_that_is_not_configured_reads_nothing(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    await configure(rt, one, {"entity": "eam/sites"})
    truth = (await peer.truth())[one.makini_key]
    await peer.calls()
    await deliver(rt, one.makini_key, list(truth["eam/assets"])[:3])
    await process(rt)
    assert not [route for route in await peer.calls() if "assets" in route]
    async with rt.store.read() as session:
        [event] = await session.scalars(select(WebhookEvent))
    assert event.status == "processed"
    assert event.connection_id == one.id


async def test_a_webhook_of_an_entity_only_the_connection_is_read_for_is_applied(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await configure(rt, one, {"entity": "eam/locations", "keep_bodies": True})
    await run(rt)
    async with rt.store.read() as session:
        keys = list(await session.scalars(select(col(Record.key))))
    await peer.calls()
    await deliver(rt, one.makini_key, keys[:1] or ["1"], plural="locations")
    await process(rt)
    asked = [route for route in await peer.calls() if "/eam/locations" in route]
    assert asked, "the record was not read"
