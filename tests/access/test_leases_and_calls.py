"""Who waits for a call to Makini holds up nobody else: no lease is held meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.custody import return_tokens
from linekeeper.access.paste import paste
from linekeeper.clock import utcnow
from linekeeper.makini import ErrorKind, MakiniError, TokenPair
from linekeeper.makini.budget import NothingLeft
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.leases import TOKENS, is_taken, lease_name
from linekeeper.store.tables import AppState, Connection, Lease
from tests.access.rotating import (
    Rotating,
    managed,
    pair_of,
    rotating,
    rotating_server,
    with_k1,
)
from tests.access.test_writers import assert_stored_is_alive, log_in, renewed

__all__ = ["managed", "rotating", "rotating_server"]  # fixtures
FEW = 6
"""Calls a minute: who comes when none is left waits for ten seconds, a login for five minutes."""


@asynccontextmanager
async def without_calls(managed: Settings) -> AsyncIterator[Runtime]:
    """A process of which no call to Makini can be made at once, nor one for a login."""
    few = managed.model_copy(update={"makini_per_minute": FEW})
    async with Runtime.open(few) as rt:
        for budget in (rt.budget, rt.login_budget):
            with suppress(NothingLeft):
                while True:
                    await budget.take("default", FEW, waits=False)
        yield rt


async def one_call_more(rt: Runtime) -> None:
    """For a login."""
    async with rt.store.write() as session:
        state = await session.get_one(AppState, "default")
        state.budget = {**state.budget, "logins": {**state.budget["logins"], "tokens": 1.0}}


async def is_held(rt: Runtime, identifier: str) -> bool:
    async with rt.store.read() as session:
        return await is_taken(rt.store, session, TOKENS, identifier)


async def paste_pair(receiver: Runtime, _: str) -> None:
    given = TokenPair("a9", "r9", utcnow(), minted=False)
    await paste(receiver, "k1", given, by="tests", now=utcnow())


@pytest.mark.parametrize("come_back", [log_in, paste_pair], ids=["login", "pasted pair"])
async def test_who_comes_back_and_waits_for_calls_keeps_no_renewal_waiting(
    managed: Settings,
    rotating: Rotating,
    come_back: Callable[[Runtime, str], Coroutine[Any, Any, object]],
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier), without_calls(managed) as receiver:
        coming_back = asyncio.create_task(come_back(receiver, identifier))
        await asyncio.sleep(1)
        assert not coming_back.done()
        async with asyncio.timeout(5):
            assert await renewed(rt, identifier) is not None
        await assert_stored_is_alive(rt.store, identifier, rotating)
        coming_back.cancel()


async def test_a_login_whose_code_was_exchanged_waits_for_the_rest_alone(
    managed: Settings, rotating: Rotating
) -> None:
    """The one call that was left is spent on the code; whose it is can be asked in minutes."""
    async with with_k1(managed, rotating) as (rt, identifier), without_calls(managed) as receiver:
        coming_back = asyncio.create_task(log_in(receiver, identifier))
        await asyncio.sleep(0.2)
        await one_call_more(receiver)
        async with asyncio.timeout(15):
            while rotating.number == 1:
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        assert not coming_back.done()
        assert not await is_held(rt, identifier)
        async with asyncio.timeout(5):
            assert await renewed(rt, identifier) is None  # the pair that is stored is dead
        coming_back.cancel()


async def test_a_renewal_that_waits_for_its_calls_keeps_no_login_waiting(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier), without_calls(managed) as sweeping:
        renewing = asyncio.create_task(renewed(sweeping, identifier))
        await asyncio.sleep(1)
        assert not renewing.done()
        assert not await is_held(rt, identifier)
        async with asyncio.timeout(5):
            assert (await log_in(rt, identifier)).how == "done"
        token = await renewing
        assert token is not None
        assert token.access == f"a{rotating.number}"  # the login's: nothing was refreshed
        assert rotating.refreshed == 0


async def test_a_renewal_that_waits_for_its_calls_keeps_no_export_waiting(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier), without_calls(managed) as sweeping:
        renewing = asyncio.create_task(renewed(sweeping, identifier))
        await asyncio.sleep(1)
        async with rt.store.read() as session:
            connection = await session.get_one(Connection, identifier)
        async with asyncio.timeout(5):
            pair = await return_tokens(rt, connection, by="tests", now=utcnow())
        assert pair is not None
        assert pair["refresh_token"] == "r1"
        assert await renewing is None
        assert rotating.refreshed == 0


async def test_a_disconnection_that_waits_for_its_call_keeps_no_renewal_waiting(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier), without_calls(managed) as command:
        ending = asyncio.create_task(disconnect(command, "k1", confirm="k1", by="tests"))
        await asyncio.sleep(1)
        assert not ending.done()
        async with asyncio.timeout(5):
            assert await renewed(rt, identifier) is not None
        await ending
        assert await pair_of(rt.store, identifier) is None


async def test_a_renewal_whose_lease_is_lost_says_so_and_nothing_of_makini(
    managed: Settings, rotating: Rotating, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.tokens.renew.LEASE_SECONDS", 1.5)
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.may_answer.clear()
        renewing = asyncio.create_task(renewed(rt, identifier))
        await rotating.has_rotated()
        async with rt.store.write() as session:
            await session.execute(
                update(Lease)
                .where(col(Lease.name) == lease_name(TOKENS, identifier))
                .values(owner="another", fence=99, until=utcnow() + timedelta(minutes=1))
            )
        await asyncio.sleep(1)
        rotating.may_answer.set()
        with pytest.raises(MakiniError) as raised:
            await renewing
    error = raised.value
    assert (error.kind, error.retryable) == (ErrorKind.taken_over, True)
    assert "did not answer" not in str(error)
    assert "another process of Linekeeper" in str(error)
