"""Forgetting what a connection's system holds, while it is read."""

import asyncio

from sqlmodel import col, select

from linekeeper.reconcile.purge import forget_records
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Incident, IncidentConnection
from tests.reconcile.conftest import Peer, feed, index, run
from tests.reconcile.test_drift import changed


async def test_what_is_purged_while_it_is_read_begins_with_a_new_baseline(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    """The product was handed every record as one that the webhooks had missed."""
    await run(rt)
    await changed(peer, one, 3)
    purging: list[asyncio.Task[int | None]] = []

    def purge() -> None:
        purging.append(asyncio.create_task(forget_records(rt.store, one.id)))

    await peer.set("settings", latency_ms=100)
    peer.at_call(1, purge, route="/api/eam/assets")
    await run(rt, connections=[one.id], entities=["eam/assets"])
    await purging[0]
    await peer.set("settings", latency_ms=0)
    for full in (False, True):
        await run(rt, full=full, connections=[one.id])
    assert await feed(rt) == []
    there = (await peer.truth())[one.makini_key]
    held = (await index(rt))[one.makini_key]
    assert {entity: {*keys} for entity, keys in held.items()} == {
        entity: {*keys} for entity, keys in there.items()
    }


async def test_what_waited_for_a_decision_is_over_once_it_is_purged(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    """Its incident stayed open for good, and the form `deletions` had nothing to decide."""
    await run(rt)
    await peer.set("settings", data_list="short", page_limit=7)
    for _ in range(3):
        await run(rt, full=True)
    await peer.set("settings", data_list="")
    assert "deletions_held" in await held_at(rt, one)
    await forget_records(rt.store, one.id)
    await run(rt)
    assert await held_at(rt, one) == []


async def held_at(rt: Runtime, connection: Connection) -> list[str]:
    async with rt.store.read() as session:
        return list(
            await session.scalars(
                select(Incident.kind)
                .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
                .where(
                    col(IncidentConnection.connection_id) == connection.id,
                    col(Incident.resolved_at).is_(None),
                )
            )
        )
