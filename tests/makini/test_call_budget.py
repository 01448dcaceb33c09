"""One bucket for all processes: a queue is waited for, a long pause is an error at once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.budget import AHEAD_SECONDS, DatabaseBudget
from linekeeper.clock import utcnow
from linekeeper.makini import (
    CONNECTION_PAUSED,
    PAUSED,
    ErrorKind,
    MakiniClient,
    MakiniError,
    Paused,
)
from linekeeper.makini.bucket_row import bucket_row, read_bucket
from linekeeper.makini.budget import Bucket, NothingLeft
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.spending import Purpose, many_calls, spends_on
from linekeeper.store import Store
from linekeeper.store.tables import AppState, CallPause, Connection
from linekeeper.sweep.report_call import Call, record_call
from tests.makini.peer import Peer

CURRENT = "/api/integrations/current"
Connect = Callable[..., MakiniClient]


async def test_a_pause_of_forty_minutes_is_an_error_at_once_for_every_process(
    store: Store,
) -> None:
    await DatabaseBudget(store).penalise("plant", utcnow() + timedelta(minutes=40))
    other_process = DatabaseBudget(store)
    endings = await asyncio.wait_for(
        asyncio.gather(
            *(other_process.take("plant", 600) for _ in range(5)), return_exceptions=True
        ),
        timeout=60,
    )
    pauses = [one.seconds for one in endings if isinstance(one, Paused)]
    assert len(pauses) == 5
    assert all(2_200 < seconds <= 2_400 for seconds in pauses)
    await other_process.take("another app", 600)


async def test_a_pause_of_a_moment_is_waited_for(store: Store) -> None:
    budget, until = DatabaseBudget(store), utcnow() + timedelta(seconds=1)
    await budget.penalise("plant", until)
    await budget.take("plant", 6_000)
    assert utcnow() >= until


async def test_a_queue_is_waited_for_however_long_it_is(store: Store) -> None:
    async with store.write() as session:
        empty = {"tokens": -100_000.0, "at": utcnow().isoformat(), "blocked_until": None}
        session.add(AppState(app="plant", budget=empty, circuit={}))
    with pytest.raises(TimeoutError):  # it is 20 minutes long, and nobody is sent away
        await asyncio.wait_for(DatabaseBudget(store).take("plant", 6_000), timeout=0.5)


def refuse(peer: Peer, seconds: int, *tokens: str) -> None:
    """Answer 429 to calls with one of `tokens`, and to the list with those of the app."""

    def answer(request: Request) -> Response:
        if request.headers["authorization"].removeprefix("Bearer ") in tokens:
            return JSONResponse({}, 429, {"Retry-After": str(seconds)})
        return JSONResponse({"data": {"id": "7", "sync_status": "done"}})

    peer.answer("GET", CURRENT, answer)


async def refused(makini: MakiniClient, connection: str) -> MakiniError:
    status = makini.status(connection, connection=connection)  # its token has its name
    with pytest.raises(MakiniError) as caught:
        await asyncio.wait_for(status, timeout=60)
    assert caught.value.kind is ErrorKind.rate_limited
    return caught.value


async def test_one_connections_429_pauses_that_connection_and_nobody_else(
    store: Store, peer: Peer, connect: Connect
) -> None:
    refuse(peer, 3600, "acme")
    makini = connect(budget=DatabaseBudget(store), per_minute=600)
    other_process = connect(budget=DatabaseBudget(store), per_minute=600)
    assert (await refused(makini, "acme")).code != CONNECTION_PAUSED
    for client in (makini, other_process):  # every process knows
        paused = await refused(client, "acme")
        assert (paused.code, paused.connection) == (CONNECTION_PAUSED, "acme")
        assert "a pause for this connection that is not over" in str(paused)
        assert paused.retry_after is not None
        assert 3_400 < paused.retry_after <= 3_600
        assert (await client.status("globex", connection="globex")).sync_status == "done"
    assert len(peer.asked(CURRENT)) == 3


async def test_three_connections_refused_within_a_minute_pause_the_app_for_a_minute(
    store: Store, peer: Peer, connect: Connect
) -> None:
    """That it is the app's limit is a guess: the others find out after a minute, not in an hour."""
    named = ("acme", "globex", "initech")
    refuse(peer, 2400, *named)
    budget = DatabaseBudget(store)
    makini = connect(budget=budget, per_minute=600)
    for connection in named[:2]:
        await refused(makini, connection)
    await makini.status("umbrella", connection="umbrella")
    await refused(makini, named[2])
    assert await all_may_call_in(store) > 50
    for connection in named:
        assert (await refused(makini, connection)).code == CONNECTION_PAUSED
    await pass_a_minute(store)
    assert (await makini.status("umbrella", connection="umbrella")).sync_status == "done"
    for connection in named:  # what was said of them holds
        paused = await refused(makini, connection)
        assert paused.code == CONNECTION_PAUSED
        assert paused.retry_after is not None
        assert paused.retry_after > 2_000


async def test_a_limit_that_is_the_apps_pauses_it_again_after_the_minute(
    store: Store, peer: Peer, connect: Connect
) -> None:
    every = [f"c{number}" for number in range(6)]
    refuse(peer, 2400, *every)
    makini = connect(budget=DatabaseBudget(store), per_minute=600)
    for connection in every[:3]:
        await refused(makini, connection)
    await pass_a_minute(store)
    for connection in every[3:]:
        await refused(makini, connection)
    assert await all_may_call_in(store) > 50


async def all_may_call_in(store: Store) -> float:
    """The seconds until the app may be called."""
    async with store.read() as session:
        [state] = await session.scalars(select(AppState))
        now = await store.clock(session)
    bucket = read_bucket(state.budget)
    assert bucket is not None
    if bucket.blocked_until is None:
        return 0.0
    return (bucket.blocked_until - now).total_seconds()


async def pass_a_minute(store: Store) -> None:
    """Put everything the budget keeps a minute back."""
    ago = timedelta(seconds=61)
    async with store.write() as session:
        for pause in await session.scalars(select(CallPause)):
            pause.refused_at, pause.until = pause.refused_at - ago, pause.until - ago
        [state] = await session.scalars(select(AppState))
        kept = state.budget
        moved = {
            name: (datetime.fromisoformat(kept[name]) - ago).isoformat()
            for name in ("at", "blocked_until")
            if kept.get(name)
        }
        state.budget = {**kept, **moved}


async def test_three_refusals_spread_over_time_are_not_the_apps(store: Store) -> None:
    budget, until = DatabaseBudget(store), utcnow() + timedelta(hours=1)
    for connection in ("acme", "globex"):
        await budget.penalise("plant", until, connection=connection)
    async with store.write() as session:
        earlier = utcnow() - timedelta(minutes=2)
        await session.execute(update(CallPause).values(refused_at=earlier))
    await budget.penalise("plant", until, connection="initech")
    await budget.take("plant", 600, connection="umbrella")
    for connection in ("acme", "globex", "initech"):
        with pytest.raises(Paused):
            await budget.take("plant", 600, connection=connection)


async def test_a_429_of_the_admin_api_pauses_that_and_all_others_for_a_minute(
    store: Store, peer: Peer, connect: Connect
) -> None:
    """That it is the limit of all is a guess: what has its own token finds out after a minute."""
    route = "/api/system/connections/acme/token"
    peer.answer("POST", route, lambda _: JSONResponse({}, 429, {"Retry-After": "2400"}))
    refuse(peer, 2400)
    makini = connect(budget=DatabaseBudget(store), per_minute=600)
    with pytest.raises(MakiniError):
        await makini.mint_token("acme")
    assert await all_may_call_in(store) > 50
    await pass_a_minute(store)
    assert (await makini.status("globex", connection="globex")).sync_status == "done"
    for connection in ("acme", "globex"):
        with pytest.raises(MakiniError) as caught:
            await makini.mint_token(connection)
        assert caught.value.code == PAUSED
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 2_000
    assert len(peer.asked(route)) == 1


async def test_calls_on_a_paused_connection_keep_no_call_from_the_others(store: Store) -> None:
    budget, until = DatabaseBudget(store), utcnow() + timedelta(hours=1)
    await budget.penalise("plant", until, connection="acme")
    fresh = DatabaseBudget(store)  # knows nothing of it before it asks
    endings = await asyncio.gather(
        *(fresh.take("plant", 6_000, connection=name) for name in ["acme", "globex"] * 20),
        return_exceptions=True,
    )
    assert [type(base_exception) for base_exception in endings] == [Paused, type(None)] * 20


async def test_a_call_granted_ahead_and_not_made_is_lost_and_what_was_known_with_it(
    store: Store,
) -> None:
    """Another process was told meanwhile to leave the connection alone."""
    reading = DatabaseBudget(store)
    with many_calls(100):
        await reading.take("plant", 6_000)
    await DatabaseBudget(store).penalise(
        "plant", utcnow() + timedelta(minutes=40), connection="refused"
    )
    await asyncio.sleep(AHEAD_SECONDS + 0.1)
    with pytest.raises(Paused):
        await asyncio.wait_for(reading.take("plant", 6_000, connection="refused"), timeout=60)


async def test_a_short_pause_of_a_connection_is_waited_for(store: Store) -> None:
    budget, until = DatabaseBudget(store), utcnow() + timedelta(seconds=1)
    await budget.penalise("plant", until, connection="acme")
    await budget.take("plant", 6_000, connection="acme")
    assert utcnow() >= until


async def test_after_a_limit_that_the_product_met_every_process_goes_on_at_half_the_pace(
    store: Store,
) -> None:
    budget, other_process = DatabaseBudget(store), DatabaseBudget(store)
    await budget.take("plant", 600)
    await budget.yield_calls("plant", 600)
    with pytest.raises(NothingLeft):  # what had been saved up is the product's at once
        await other_process.take("plant", 600, waits=False)
    await other_process.take("another app", 600, waits=False)
    for _ in range(3):  # it meets it again and again: what is left to us stays
        await budget.yield_calls("plant", 600)
        await asyncio.wait_for(other_process.take("plant", 600), timeout=20)


async def test_a_limit_that_the_product_reports_slows_its_whole_app(
    store: Store, settings: Settings
) -> None:
    async with store.write() as session:
        row = Connection(app="default", makini_key="k", name="k", slug="k", setup="live")
        session.add(row)
        await session.flush()
    managed = settings.model_copy(
        update={
            "makini_api_url": "http://127.0.0.1:9",
            "makini_client_id": "tests",
            "makini_client_secret": SecretStr("tests"),
            "makini_per_minute": 600,
        }
    )
    async with Runtime.open(managed) as rt:
        app = await rt.app("default")
        await record_call(rt, app, row.id, Call(status=429, at=utcnow()))
        with pytest.raises(NothingLeft):
            await rt.budget.take(app.name, app.calls_a_minute, waits=False)
        await asyncio.wait_for(rt.budget.take(app.name, app.calls_a_minute), timeout=20)
    async with store.read() as session:
        pauses = list(await session.scalars(select(CallPause)))
    assert [pause.connection for pause in pauses] == ["k"]


@spends_on(Purpose.reconcile)
async def read(budget: DatabaseBudget) -> None:
    await budget.take("plant", 600)


async def test_while_a_sweep_waits_a_reconcile_of_another_process_does_too(store: Store) -> None:
    now = utcnow()
    one_left = Bucket(1.9, now, waited_at=now)  # a sweep was left without a call just now
    async with store.write() as session:
        session.add(AppState(app="plant", budget=bucket_row(one_left), circuit={}))
    reading = asyncio.create_task(read(DatabaseBudget(store)))
    await asyncio.wait({reading}, timeout=0.2)
    assert not reading.done()
    await asyncio.wait_for(DatabaseBudget(store).take("plant", 60), timeout=60)
    await asyncio.wait_for(reading, timeout=60)  # its own share, or nobody waits any more


async def test_what_was_granted_to_a_sweep_is_not_spent_by_a_reconcile_of_the_same_process(
    store: Store,
) -> None:
    async with store.write() as session:
        empty = bucket_row(Bucket(0.0, utcnow()))
        session.add(AppState(app="plant", budget=empty, circuit={}))
    budget, order = DatabaseBudget(store), []

    async def noted(call: Awaitable[None], name: str) -> None:
        await call
        order.append(name)

    sweep = [noted(budget.take("plant", 600), "sweep") for _ in range(4)]
    await asyncio.wait_for(
        asyncio.gather(*sweep, *(noted(read(budget), "reconcile") for _ in range(4))), timeout=60
    )
    assert order.count("sweep") == 4
    assert order[-1] == "reconcile"


async def test_a_sweep_beside_a_reconcile_of_another_process_is_granted_most_calls(
    store: Store,
) -> None:
    async with store.write() as session:
        empty = bucket_row(Bucket(0.0, utcnow()))
        session.add(AppState(app="plant", budget=empty, circuit={}))
    beside, sweeping, count = DatabaseBudget(store), DatabaseBudget(store), 0

    async def read_on() -> None:
        nonlocal count
        while True:
            await read(beside)
            count += 1

    async def probe() -> None:
        for _ in range(3):
            await sweeping.take("plant", 600)

    readers = [asyncio.create_task(read_on()) for _ in range(16)]
    try:
        await asyncio.wait_for(asyncio.gather(*(probe() for _ in range(10))), timeout=60)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    assert count < 15  # of the sweep's thirty; it had been as many


async def test_many_who_log_in_at_once_are_granted_calls_that_a_sweep_would_have(
    store: Store,
) -> None:
    """Three of a hundred calls are for logins alone: each further one had waited for minutes."""
    now = utcnow()
    budget = {**bucket_row(Bucket(6.0, now)), "logins": bucket_row(Bucket(0.0, now))}
    async with store.write() as session:
        session.add(AppState(app="plant", budget=budget, circuit={}))
    logins = DatabaseBudget(store, logins=True)
    await asyncio.wait_for(
        asyncio.gather(*(logins.take("plant", 60) for _ in range(5))), timeout=20
    )
