"""A connection that Makini rate-limits for good is one incident, which says so and ends."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from sqlalchemy import delete, update
from sqlmodel import col, select
from starlette.responses import JSONResponse

from linekeeper.clock import utcnow
from linekeeper.reconcile import pages
from linekeeper.reconcile.entity_failures import EntityState, find_failures
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Incident, Watermark
from tests.health.test_sweep import sweep
from tests.makini.peer import Peer
from tests.reconcile.answering import asset, server, with_one_connection
from tests.reconcile.conftest import ENTITIES, adopt, pointed_at, run

__all__ = ["server"]


def answer_all(server: Peer, *, limited: Sequence[str]) -> None:
    for entity in ENTITIES:
        listed = {"data": [asset("1")], "meta": {"current_page": 1, "last_page": 1, "total": 1}}
        server.answer("GET", f"/api/{entity}", listed)
    refused = JSONResponse({"code": "RATE_LIMIT_EXCEEDED", "message": "Too many."}, 429)
    for entity in limited:
        server.answer("GET", f"/api/{entity}", lambda _: refused)


@pytest.fixture
async def rt(
    settings: Settings, store: Store, server: Peer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Runtime]:
    """A runtime of one connection with four entities, which were all read."""
    monkeypatch.setattr(pages, "TRIES_A_PAGE", 1)
    with_one_connection(server)
    answer_all(server, limited=[])
    status = {"data": {"id": "k1", "sync_status": "done"}}
    server.answer("GET", "/api/integrations/current", status)
    async with Runtime.open(pointed_at(settings, server.url)) as opened:
        await adopt(opened)
        assert not (await run(opened)).failures
        yield opened


async def incidents(rt: Runtime) -> list[tuple[str, str]]:
    async with rt.store.read() as session:
        found = await session.scalars(select(Incident).order_by(col(Incident.id)))
        return [(incident.kind, incident.status) for incident in found]


async def test_a_limit_that_goes_on_is_one_incident_of_the_connection_until_all_is_read(
    rt: Runtime, server: Peer
) -> None:
    answer_all(server, limited=ENTITIES)
    calls = []
    for _ in range(3):
        server.seen.clear()
        assert len((await run(rt)).failures) == 1
        calls.append(sum(server.asked(f"/api/{entity}") != [] for entity in ENTITIES))
    assert calls == [1, 1, 1]  # who is told to wait asks for nothing else
    assert await incidents(rt) == [("reads_limited", "open")]
    async with rt.store.read() as session:
        (incident,) = (await session.scalars(select(Incident))).all()
    assert incident.title.endswith("records unread because of Makini's call limit")
    assert all(entity in incident.summary for entity in ENTITIES)
    answer_all(server, limited=ENTITIES[:1])
    await run(rt)
    assert await incidents(rt) == [("reads_limited", "open")]
    answer_all(server, limited=[])
    assert not (await run(rt)).failures
    assert await incidents(rt) == [("reads_limited", "resolved")]


async def make_unread(rt: Runtime) -> None:
    async with rt.store.write() as session:
        await session.execute(delete(Watermark))


@pytest.mark.parametrize("which", range(len(ENTITIES)))
async def test_an_entity_with_a_limit_of_its_own_keeps_no_other_from_being_read(
    rt: Runtime, server: Peer, which: int
) -> None:
    """Whoever met the limit had always been asked first again."""
    other_entities = {entity for entity in ENTITIES if entity != ENTITIES[which]}
    await make_unread(rt)
    answer_all(server, limited=[ENTITIES[which]])
    for _ in range(2):
        await run(rt)
    async with rt.store.read() as session:
        read = select(col(Watermark.entity)).where(col(Watermark.polled_at).is_not(None))
        assert set(await session.scalars(read)) == other_entities


async def test_nor_does_the_test_of_a_login_that_nobody_uses(rt: Runtime, server: Peer) -> None:
    """It comes with a sweep, before the run, and had met the limit first each time."""
    await make_unread(rt)
    answer_all(server, limited=ENTITIES[:1])
    await run(rt)
    async with rt.store.write() as session:
        long_ago = utcnow() - timedelta(days=2)
        await session.execute(update(Connection).values(created_at=long_ago, judged={}))
    await sweep(rt)
    async with rt.store.read() as session:
        assert (await session.scalars(select(Connection))).one().evidence == "read"


async def test_a_scheduled_run_leaves_it_alone_for_a_while(rt: Runtime, server: Peer) -> None:
    answer_all(server, limited=ENTITIES)
    await run(rt)
    async with rt.store.write() as session:
        await session.execute(update(Watermark).values(polled_at=col(Watermark.moved_at)))
    server.seen.clear()
    assert not (await run(rt, everything=False)).failures
    assert not [entity for entity in ENTITIES if server.asked(f"/api/{entity}")]


async def test_other_trouble_of_an_entity_is_an_incident_of_its_own_after_the_limit(
    rt: Runtime, server: Peer
) -> None:
    answer_all(server, limited=ENTITIES)
    await run(rt)
    await run(rt)
    answer_all(server, limited=[])
    other = JSONResponse({"message": "oops"}, 500)
    server.answer("GET", f"/api/{ENTITIES[1]}", lambda _: other)
    await run(rt)
    assert await incidents(rt) == [("reads_limited", "resolved"), ("entity_failing", "open")]


def state(connection: int, entity: str, failures: int) -> EntityState:
    return EntityState(
        connection_id=f"c{connection}",
        label=f"Acme · System {connection}",
        app="default",
        entity=entity,
        failure="rate_limited" if failures else None,
        failures=failures,
        since=None,
        error="Makini's call limit is reached.",
    )


def test_a_limit_that_many_meet_is_one_of_the_app() -> None:
    met = [state(number, entity, 2) for number in range(5) for entity in ENTITIES]
    well = [state(number, entity, 0) for number in range(5, 10) for entity in ENTITIES]
    (finding,) = find_failures([*met, *well])
    assert (finding.scope, len(finding.members)) == ("app", 5)
    assert len(find_failures([*met, *well, state(11, ENTITIES[0], 0)])) == 5
