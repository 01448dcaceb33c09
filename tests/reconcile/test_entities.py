"""What one entity answers says nothing of the others, nor of the login: it fails alone."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import (
    Connection,
    Incident,
    Observation,
    Outbox,
    Record,
    Transition,
    Watermark,
    WebhookEvent,
)
from linekeeper.sweep.batch import probe_batch
from tests.makini.peer import Peer
from tests.reconcile.answering import asset, server, with_one_connection
from tests.reconcile.conftest import ENTITIES, adopt, deliver, pointed_at, process, run

__all__ = ["server"]
ORDERS, OTHERS = ENTITIES[0], ENTITIES[1:]
STATUS = "/api/integrations/current"
MINT = "/api/system/connections/k1/token"


def of(*records: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(records), "meta": {"last_page": 1, "total": len(records)}}


def refusing(status: int, code: str = "NO") -> Callable[[Request], Response]:
    return lambda _: JSONResponse({"code": code, "message": "Not this."}, status)


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime of one connection whose four entities and status answer."""
    with_one_connection(server)
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", of(asset(f"{entity}-1"), asset(f"{entity}-2")))
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "done"}})
    async with Runtime.open(pointed_at(settings, server.url)) as opened:
        await adopt(opened)
        yield opened


async def entities_read(rt: Runtime) -> set[str]:
    async with rt.store.read() as session:
        return set(await session.scalars(select(col(Record.entity)).distinct()))


async def mark(rt: Runtime, entity: str = ORDERS) -> Watermark:
    async with rt.store.read() as session:
        return (
            await session.scalars(select(Watermark).where(col(Watermark.entity) == entity))
        ).one()


async def incidents(rt: Runtime) -> list[tuple[str, str, str]]:
    async with rt.store.read() as session:
        rows = await session.scalars(select(Incident).order_by(col(Incident.id)))
        return [(row.kind, row.title.partition(": ")[2], row.status) for row in rows]


async def health(rt: Runtime) -> str:
    async with rt.store.read() as session:
        return (await session.scalars(select(Connection))).one().health


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_an_entity_that_always_fails_starves_no_other_and_is_an_incident_of_its_own(
    rt: Runtime, server: Peer, status: int
) -> None:
    server.answer("GET", f"/api/{ORDERS}", refusing(status))
    for _ in range(3):
        done = await run(rt)
        assert {failure.entity for failure in done.failures} == {ORDERS}
    assert await entities_read(rt) == set(OTHERS)
    assert all(len(server.asked(f"/api/{entity}")) >= 3 for entity in OTHERS)
    title = f"no permission for {ORDERS}" if status < 500 else f"{ORDERS} unreadable"
    kind = "entity_forbidden" if status < 500 else "entity_failing"
    assert await incidents(rt) == [(kind, title, "open")]
    assert (await mark(rt)).failures == 3

    server.answer("GET", f"/api/{ORDERS}", of(asset("w")))
    assert not (await run(rt)).failures
    assert await incidents(rt) == [(kind, title, "resolved")]
    after = await mark(rt)
    assert (after.failure, after.failures, after.retry_at, after.error) == (None, 0, None, None)


@pytest.mark.parametrize("code", ["AUTHENTICATION_FAILED", "NO"])
async def test_a_401_for_one_entity_mints_nothing_asks_nobody_and_leaves_the_health_alone(
    rt: Runtime, server: Peer, code: str
) -> None:
    await run(rt)
    before = await health(rt)
    minted = len(server.asked(MINT))
    server.answer("GET", f"/api/{ORDERS}", refusing(401, code))
    for _ in range(4):
        await run(rt)
    assert len(server.asked(MINT)) - minted <= 1
    assert await health(rt) == before
    async with rt.store.read() as session:
        assert not list(
            await session.scalars(
                select(Observation).where(col(Observation.outcome) == "login_lost")
            )
        )
        assert not list(
            await session.scalars(
                select(Transition).where(col(Transition.after) == "reauthorization_required")
            )
        )
        channels = set(await session.scalars(select(col(Outbox.channel)).distinct()))
    assert not channels & {"email", "run"}
    assert [kind for kind, _, _ in await incidents(rt)] == ["entity_forbidden"]
    said = (await mark(rt)).error or ""
    assert said.startswith(f"Makini refuses {ORDERS} to this connection (401)")
    assert "login" not in said


async def test_a_token_that_died_is_renewed_once_and_the_entity_read(
    rt: Runtime, server: Peer
) -> None:
    await run(rt)
    tokens = {"alive": "u"}

    def only_alive(answer: dict[str, Any]) -> Callable[[Request], Response]:
        def handle(request: Request) -> Response:
            if request.headers["authorization"] != f"Bearer {tokens['alive']}":
                return JSONResponse({"code": "AUTHENTICATION_FAILED"}, 401)
            return JSONResponse(answer)

        return handle

    server.answer("POST", MINT, {"token": "u", "expires_in": 3600})
    server.answer("GET", STATUS, only_alive({"data": {"id": "k1", "sync_status": "done"}}))
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", only_alive(of(asset(f"{entity}-1", 5))))
    minted = len(server.asked(MINT))
    assert not (await run(rt)).failures
    assert len(server.asked(MINT)) - minted == 1


@pytest.mark.parametrize("status", ["dead token", "fail"])
async def test_a_login_that_is_lost_as_a_whole_is_the_judges_business(
    rt: Runtime, server: Peer, status: str
) -> None:
    await run(rt)
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", refusing(401, "AUTHENTICATION_FAILED"))
    if status == "fail":
        server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "fail"}})
    else:
        server.answer("GET", STATUS, refusing(401, "AUTHENTICATION_FAILED"))
        server.answer("POST", MINT, refusing(403))
    done = await run(rt)
    assert len(done.failures) == 1
    assert await health(rt) == "reauthorization_required"
    assert [(kind, state) for kind, _, state in await incidents(rt)] == [
        ("reauthorization_required", "open")
    ]


async def test_where_every_entity_is_refused_the_reads_outrank_a_status_that_says_done(
    rt: Runtime, server: Peer
) -> None:
    await run(rt)
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", refusing(401, "AUTHENTICATION_FAILED"))
    minted = len(server.asked(MINT))
    server.answer("POST", MINT, {"token": "another", "expires_in": 3600})
    await run(rt)
    assert len(server.asked(MINT)) - minted == 1
    assert await health(rt) == "reauthorization_required"


@pytest.mark.parametrize("minted_token", ["another", "t"])
@pytest.mark.parametrize("status", [200, 403, 404, 422])
async def test_c1_where_every_entity_is_refused_one_token_is_minted_whatever_the_status_answers(
    rt: Runtime, server: Peer, status: int, minted_token: str
) -> None:
    await run(rt)
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", refusing(401, "AUTHENTICATION_FAILED"))
    if status != 200:
        server.answer("GET", STATUS, refusing(status))
    minted = len(server.asked(MINT))
    server.answer("POST", MINT, {"token": minted_token, "expires_in": 3600})
    await run(rt)
    assert len(server.asked(MINT)) - minted == 1


async def test_a_system_that_is_silent_as_a_whole_is_no_incident_of_its_entities(
    rt: Runtime, server: Peer
) -> None:
    await run(rt)
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", refusing(503))
    server.answer("GET", STATUS, refusing(503))
    for _ in range(3):
        assert len((await run(rt)).failures) == 1
    assert await incidents(rt) == []
    assert (await mark(rt)).failures == 0
    async with rt.store.read() as session:
        assert (await session.scalars(select(Connection))).one().suspect


async def test_a_connection_whose_entities_all_fail_though_it_answers_is_one_incident(
    rt: Runtime, server: Peer
) -> None:
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", refusing(403))
    await run(rt)
    assert await incidents(rt) == [("entity_forbidden", "no permission for any entity", "open")]
    server.answer("GET", f"/api/{OTHERS[0]}", of(asset("a")))
    await run(rt)
    assert sorted(title for _, title, status in await incidents(rt) if status == "open") == sorted(
        f"no permission for {entity}" for entity in ENTITIES if entity != OTHERS[0]
    )


async def test_an_entity_that_failed_waits_longer_and_longer_on_the_schedule_the_others_do_not(
    rt: Runtime, server: Peer
) -> None:
    began = utcnow()
    await run(rt, started=began)
    server.answer("GET", f"/api/{ORDERS}", refusing(403))
    tried = []
    for quarter in range(1, 17):
        asked = len(server.asked(f"/api/{ORDERS}"))
        started = began + timedelta(minutes=15 * quarter)
        async with rt.store.write() as session:
            for held in await session.scalars(
                select(Watermark).where(col(Watermark.entity) != ORDERS)
            ):
                held.polled_at = started - timedelta(minutes=15)
                session.add(held)
        done = await run(rt, started=started, everything=False)
        assert done.readings == 3
        if len(server.asked(f"/api/{ORDERS}")) > asked:
            tried.append(quarter)
    assert tried == [1, 2, 4, 8, 16]


async def test_a_webhook_about_an_entity_that_may_not_be_read_says_nothing_of_the_login(
    rt: Runtime, server: Peer
) -> None:
    await run(rt)
    before, minted = await health(rt), len(server.asked(MINT))
    for status in (401, 403):
        server.answer("GET", "/api/eam/assets", refusing(status, "AUTHENTICATION_FAILED"))
        server.answer("GET", "/api/eam/assets/a1", refusing(status, "AUTHENTICATION_FAILED"))
        await deliver(rt, "k1", ["a1"])
        await process(rt)
        assert await health(rt) == before
    assert len(server.asked(MINT)) == minted
    async with rt.store.read() as session:
        assert set(await session.scalars(select(col(WebhookEvent.status)))) == {"deferred"}


async def probe(rt: Runtime) -> None:
    """A sweep asks the connection for its status."""
    async with rt.store.read() as session:
        ids = list(await session.scalars(select(col(Connection.id))))
    await probe_batch(rt, await rt.app("default"), ids, started=utcnow(), last_try=True)


async def fails_for_hours(rt: Runtime, server: Peer, began: datetime) -> None:
    """The entity alone can't be read, so that it waits for hours."""
    await run(rt, started=began)
    server.answer("GET", f"/api/{ORDERS}", refusing(503))
    for minutes in (1, 240):
        await run(rt, started=began + timedelta(minutes=minutes))
    assert ((await mark(rt)).retry_at or began) > began + timedelta(hours=3)


async def is_read_on_the_schedule(rt: Runtime, server: Peer, started: datetime) -> bool:
    asked = len(server.asked(f"/api/{ORDERS}"))
    await run(rt, started=started, everything=False)
    return len(server.asked(f"/api/{ORDERS}")) > asked


async def test_who_tries_an_entity_by_hand_again_and_again_makes_it_wait_no_longer(
    rt: Runtime, server: Peer
) -> None:
    """Five tries within five minutes had put the next scheduled one off by four hours."""
    began = utcnow()
    await run(rt, started=began)
    server.answer("GET", f"/api/{ORDERS}", refusing(403))
    for minutes in range(1, 6):
        await run(rt, started=began + timedelta(minutes=minutes))
    server.answer("GET", f"/api/{ORDERS}", of(asset("w"), asset("x")))
    assert not await is_read_on_the_schedule(rt, server, began + timedelta(minutes=15))
    assert await is_read_on_the_schedule(rt, server, began + timedelta(minutes=30))


async def test_a_record_that_a_webhook_names_and_can_be_read_ends_the_wait_of_its_entity(
    rt: Runtime, server: Peer
) -> None:
    began = utcnow()
    await fails_for_hours(rt, server, began)
    server.answer("GET", f"/api/{ORDERS}", of(asset("w"), asset("x")))
    server.answer("GET", f"/api/{ORDERS}/w", {"data": asset("w")})
    later = began + timedelta(minutes=16)
    assert not await is_read_on_the_schedule(rt, server, later)
    await deliver(rt, "k1", ["w"], plural="work-orders")
    await process(rt)
    assert await is_read_on_the_schedule(rt, server, later)
    assert (await mark(rt)).failures == 0


async def test_a_connection_that_is_healthy_again_has_the_entities_read_that_waited(
    rt: Runtime, server: Peer
) -> None:
    """Without a webhook, too: the system was down, and each entity had failed for hours."""
    began = utcnow()
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "error"}})
    await probe(rt)
    await fails_for_hours(rt, server, began)
    server.answer("GET", f"/api/{ORDERS}", of(asset("w"), asset("x")))
    later = began + timedelta(minutes=16)
    await probe(rt)
    assert not await is_read_on_the_schedule(rt, server, later)
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "done"}})
    await probe(rt)
    assert await health(rt) == "healthy"
    assert await is_read_on_the_schedule(rt, server, later)
