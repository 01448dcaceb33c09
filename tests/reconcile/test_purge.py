"""Forgetting what a connection's system holds, while it is read."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, update
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.reconcile.purge import forget_records, purge_disconnected
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


async def test_one_that_is_back_before_its_turn_keeps_what_is_known_of_it(
    rt: Runtime, one: Connection
) -> None:
    """Of a thousand that are forgotten the last waits for minutes, and may be read meanwhile."""
    await run(rt)
    await ended(rt, one, "disconnected")
    before = (await index(rt))[one.makini_key]
    async with rt.store.write() as session:
        await session.execute(
            update(Connection).where(col(Connection.id) == one.id).values(setup="live")
        )
        purging = asyncio.create_task(purge_disconnected(rt.store, now=utcnow()))
        await asyncio.wait({purging}, timeout=0.5)
    assert await purging == 0
    assert (await index(rt))[one.makini_key] == before


async def test_what_is_forgotten_goes_in_short_transactions(
    rt: Runtime, one: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a million records held up every webhook for eleven seconds on SQLite."""
    monkeypatch.setattr("linekeeper.reconcile.purge.AT_ONCE", 20, raising=False)
    await run(rt)
    assert sum(map(len, (await index(rt))[one.makini_key].values())) > 40
    deleted: list[int] = []

    def note(*said: Any) -> None:
        _, cursor, statement, *_ = said
        if statement.startswith("DELETE FROM record"):
            deleted.append(cursor.rowcount)

    event.listen(rt.store.engine.sync_engine, "after_cursor_execute", note)
    gone = await forget_records(rt.store, one.id)
    assert max(deleted) == 20
    assert sum(deleted) == gone
    await ended(rt, one, "disconnected")
    assert one.makini_key not in await index(rt)


async def ended(rt: Runtime, connection: Connection, setup: str) -> None:
    async with rt.store.write() as session:
        await session.execute(
            update(Connection).where(col(Connection.id) == connection.id).values(setup=setup)
        )
