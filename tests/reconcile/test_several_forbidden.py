"""Several entities without permission are several entities: no lost login."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Observation, Watermark
from tests.health.test_sweep import sweep
from tests.makini.peer import Peer
from tests.reconcile.answering import asset, server, with_one_connection
from tests.reconcile.conftest import ENTITIES, adopt, pointed_at, run
from tests.reconcile.test_entities import MINT, STATUS, health, incidents, of, refusing

__all__ = ["server"]
READABLE, FORBIDDEN = ENTITIES[:2], ENTITIES[2:]


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime of one connection that has permission for two of four entities."""
    with_one_connection(server)
    for entity in READABLE:
        server.answer("GET", f"/api/{entity}", of(asset(f"{entity}-1"), asset(f"{entity}-2")))
    for entity in FORBIDDEN:
        server.answer("GET", f"/api/{entity}", refusing(401, "AUTHENTICATION_FAILED"))
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "done"}})
    async with Runtime.open(pointed_at(settings, server.url)) as opened:
        await adopt(opened)
        yield opened


async def waited(rt: Runtime, **values: object) -> None:
    """What waits after a failure waits no longer, and what `values` say of the marks."""
    async with rt.store.write() as session:
        await session.execute(update(Watermark).values(retry_at=None, **values))


async def lost(rt: Runtime) -> list[str]:
    async with rt.store.read() as session:
        rows = await session.scalars(
            select(col(Observation.source)).where(col(Observation.outcome) == "login_lost")
        )
        return list(rows)


async def test_reading_only_those_that_are_forbidden_asks_nobody_to_log_in(
    rt: Runtime, server: Peer
) -> None:
    """On its schedule: the others are not due yet, or were listed whole already."""
    await run(rt, everything=False)
    minted, before = len(server.asked(MINT)), await health(rt)
    for _ in range(3):
        await waited(rt)
        done = await run(rt, everything=False)
        assert {failure.entity for failure in done.failures} == set(FORBIDDEN)
    assert len(server.asked(MINT)) == minted, "a token that works is not replaced"
    assert await lost(rt) == []
    assert await health(rt) == before
    assert {kind for kind, _, _ in await incidents(rt)} == {"entity_forbidden"}


async def test_asked_for_by_name_they_are_no_lost_login(rt: Runtime, server: Peer) -> None:
    for _ in range(2):
        await run(rt, entities=FORBIDDEN)
    assert len(server.asked(MINT)) == 1, "it had no token yet"
    assert await lost(rt) == []


async def test_where_the_others_are_away_they_are_no_lost_login(rt: Runtime, server: Peer) -> None:
    """A daily test of the login finds what was forbidden all along, and nothing that answers."""
    await run(rt)
    for entity in READABLE:
        server.answer("GET", f"/api/{entity}", refusing(503))
    await run(rt)
    async with rt.store.write() as session:
        long_ago = utcnow() - timedelta(days=3)
        await session.execute(
            update(Connection).values(created_at=long_ago, next_probe_at=utcnow(), judged={})
        )
        await session.execute(update(Watermark).values(polled_at=long_ago, failing_since=long_ago))
    await sweep(rt)
    assert await lost(rt) == []
    assert await health(rt) == "healthy"


@pytest.mark.parametrize("read_before", [True, False])
async def test_a_login_that_is_lost_is_found_all_the_same(
    rt: Runtime, server: Peer, read_before: bool
) -> None:
    if read_before:
        await run(rt)
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", refusing(401, "AUTHENTICATION_FAILED"))
    await waited(rt)
    await run(rt)
    assert await health(rt) == "reauthorization_required"


async def test_while_makini_gives_no_new_token_no_login_is_taken_for_lost(
    rt: Runtime, server: Peer
) -> None:
    """A newer token may be all that is missing, and nobody knows yet whether there is one."""
    await run(rt)
    mint = server.answers["POST", MINT]
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", refusing(401, "AUTHENTICATION_FAILED"))
    server.answer("POST", MINT, refusing(503))
    await waited(rt)
    await run(rt)
    assert await lost(rt) == []
    server.answer("POST", MINT, mint)
    await waited(rt)
    await run(rt)
    assert await health(rt) == "reauthorization_required"
