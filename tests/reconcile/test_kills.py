"""`kill -9` of a reconciling process at points a seed decides: nothing is lost or said twice."""

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from sqlmodel import col, func, select

from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Connection, Lease, Outbox, Watermark
from tests.forking import python
from tests.reconcile.conftest import Check, Peer, feed, index, parsed, run

ROUTES = ("/api/eam/work-orders", "/api/eam/assets", "/api/eam/sites", "/api/erp/purchase-orders")


async def trial(
    rt: Runtime, peer: Peer, settings: Settings, folder: Path, *, kills: int, seed: int
) -> None:
    """Changes, and processes that poll and are killed; the watermarks are looked at each time."""
    assert peer.world is not None
    peer.world.settings.page_limit = 7
    chance = random.Random(seed)
    environment = {
        **os.environ,
        "LINEKEEPER_HOME": str(settings.home),
        "LINEKEEPER_DATABASE_URL": settings.resolved_database_url,
        "LINEKEEPER_ENCRYPTION_KEYS": settings.encryption_keys[0].get_secret_value(),
        "LINEKEEPER_MAKINI_API_URL": peer.url,
        "LINEKEEPER_MAKINI_CLIENT_ID": "sandbox-client",
        "LINEKEEPER_MAKINI_CLIENT_SECRET": "sandbox-secret",
        "LINEKEEPER_MAKINI_MODE": "manage",
        "LINEKEEPER_MAKINI_PER_MINUTE": "0",
        "LINEKEEPER_MAKINI_ENTITIES": ",".join(route.removeprefix("/api/") for route in ROUTES),
        "LINEKEEPER_FORWARD_URL": "http://127.0.0.1:9/hooks",
    }
    for _ in range(kills):
        await peer.set(
            "records",
            make=chance.randint(0, 5),
            change=chance.randint(5, 40),
            delete=chance.randint(0, 1),
            announce=False,
        )
        await _killed(peer, environment, chance, folder / "poller.log")
        async with rt.store.write() as session:
            await session.execute(delete(Lease))  # they run out in a minute
        await no_watermark_ran_ahead(rt, peer)


async def _killed(
    peer: Peer, environment: dict[str, str], chance: random.Random, log: Path
) -> None:
    """Start a process and kill it after some call and some milliseconds."""
    reached = asyncio.Event()
    peer.at_call(chance.randint(1, 20), reached.set, route=chance.choice(ROUTES[:2]))
    with log.open("ab") as output:
        process = await python("tests.reconcile.poller", env=environment, stdout=output)
    try:
        async with asyncio.timeout(300):  # a busy machine starts a process slowly
            await reached.wait()
        await asyncio.sleep(chance.choice([0.0, 0.002, 0.01, 0.03]))
        assert process.returncode is None, log.read_text()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def no_watermark_ran_ahead(rt: Runtime, peer: Peer) -> None:
    """Whatever a source changed up to a watermark is in the index."""
    async with rt.store.read() as session:
        rows = await session.execute(
            select(col(Connection.makini_key), col(Watermark.entity), col(Watermark.position))
            .join(Connection, col(Connection.id) == col(Watermark.connection_id))
            .where(col(Watermark.position).is_not(None))
        )
        marks = list(rows)
    truth, found = parsed(await peer.truth()), await index(rt)
    for key, entity, position in marks:
        held = found.get(key, {}).get(entity, {})
        for record, time in truth[key].get(entity, {}).items():
            if time is not None and time <= position:
                assert held.get(record, position) >= time
                assert record in held


async def feed_is_right(rt: Runtime) -> None:
    """Numbered without a gap, each change once and in order, each handed on once."""
    changes = await feed(rt)
    last: dict[str, int] = {}
    times: dict[tuple[str, str, str], Any] = {}
    for change in changes:
        assert change.seq == last.get(change.connection_id, 0) + 1
        last[change.connection_id] = change.seq
        place = change.connection_id, change.entity, change.key
        if change.updated_at is not None:
            assert place not in times or change.updated_at > times[place]
            times[place] = change.updated_at
    async with rt.store.read() as session:
        handed_on = await session.scalar(
            select(func.count()).select_from(Outbox).where(col(Outbox.channel) == "forward")
        )
    assert handed_on == len(changes)


async def test_a_killed_process_loses_nothing_and_says_nothing_twice(
    forwarding: Runtime, peer: Peer, settings: Settings, tmp_path: Path, agree: Check
) -> None:
    await trial(forwarding, peer, settings, tmp_path, kills=2, seed=4)
    await _completed(forwarding, agree)


@pytest.mark.soak
async def test_fifty_kills(
    forwarding: Runtime, peer: Peer, settings: Settings, tmp_path: Path, agree: Check
) -> None:
    await trial(forwarding, peer, settings, tmp_path, kills=50, seed=7)
    await _completed(forwarding, agree)


async def _completed(rt: Runtime, agree: Check) -> None:
    await run(rt, full=True)
    await run(rt, full=True)
    await agree()
    await feed_is_right(rt)
