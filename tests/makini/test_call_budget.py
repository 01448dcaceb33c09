"""One bucket for all processes: a queue is waited for, a long pause is an error at once."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from starlette.responses import JSONResponse

from linekeeper.budget import DatabaseBudget
from linekeeper.clock import utcnow
from linekeeper.makini import PAUSED, ErrorKind, MakiniClient, MakiniError, Paused
from linekeeper.store import Store
from linekeeper.store.tables import AppState
from tests.makini.peer import Peer

CURRENT = "/api/integrations/current"
Connect = Callable[..., MakiniClient]


async def test_a_pause_of_forty_minutes_is_an_error_at_once_for_every_process(
    store: Store,
) -> None:
    await DatabaseBudget(store).penalise("plant", utcnow() + timedelta(minutes=40))
    elsewhere = DatabaseBudget(store)
    endings = await asyncio.wait_for(
        asyncio.gather(*(elsewhere.take("plant", 600) for _ in range(5)), return_exceptions=True),
        timeout=60,
    )
    pauses = [one.seconds for one in endings if isinstance(one, Paused)]
    assert len(pauses) == 5
    assert all(2_200 < seconds <= 2_400 for seconds in pauses)
    await elsewhere.take("another app", 600)


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


async def test_after_a_long_retry_after_nobody_calls_and_everybody_is_told_for_how_long(
    store: Store, peer: Peer, connect: Connect
) -> None:
    peer.answer("GET", CURRENT, lambda _: JSONResponse({}, 429, {"Retry-After": "2400"}))
    makini = connect(budget=DatabaseBudget(store), per_minute=600)
    errors = []
    for _ in range(2):
        with pytest.raises(MakiniError) as caught:
            await asyncio.wait_for(makini.status("token", connection="acme-ecc"), timeout=60)
        errors.append(caught.value)
    assert [error.kind for error in errors] == [ErrorKind.rate_limited] * 2
    assert [error.code == PAUSED for error in errors] == [False, True]
    paused = errors[1]
    assert (paused.app, paused.connection, paused.retryable) == ("plant", "acme-ecc", True)
    assert paused.retry_after is not None
    assert 2_200 < paused.retry_after <= 2_400
    assert "a pause that is not over" in str(paused)
    assert len(peer.asked(CURRENT)) == 1
