"""What happens to a connection while the token that the product hands over is being verified."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.makini import TokenPair
from linekeeper.store.tables import Connection
from linekeeper.tokens.stored import destroy_tokens, load_tokens, own, save_tokens

from .test_custody import CutOver, cut_over

__all__ = ["cut_over"]  # a fixture


@asynccontextmanager
async def handing(
    cut_over: CutOver, handed: dict[str, Any], results: list[dict[str, Any]]
) -> AsyncIterator[AsyncSession]:
    """A transaction that begins while Makini is asked, and ends once the token is to be stored."""
    asked = ("GET", "/api/integrations/current")
    before = cut_over.makini.world.calls[asked]
    (found,) = (each for each in cut_over.makini.world.connections.values() if each.slow_seconds)
    task = asyncio.create_task(cut_over.hand_over(handed))
    while cut_over.makini.world.calls[asked] == before:
        await asyncio.sleep(0.01)
    async with cut_over.rt.store.write() as session:
        yield session
        await session.flush()
        await asyncio.sleep(found.slow_seconds + 0.3)
    results += await task


async def slow_one(cut_over: CutOver) -> Connection:
    """A connection whose status takes a moment."""
    first, *_ = await cut_over.connections()
    found = cut_over.makini.world.find(first.makini_key)
    assert found is not None
    found.slow_seconds = 0.3
    return first


@pytest.mark.parametrize("is_pair", [False, True])
async def test_one_that_is_disconnected_gets_no_tokens_back(
    cut_over: CutOver, is_pair: bool
) -> None:
    """Nobody would ever renew or destroy them, and the product had given its pair away."""
    first = await slow_one(cut_over)
    pair = cut_over.pair(first)
    handed = {"connection": first.id, "access_token": pair.access}
    handed |= {"refresh_token": pair.refresh} if is_pair else {}
    results: list[dict[str, Any]] = []
    async with handing(cut_over, handed, results) as session:
        await destroy_tokens(session, first.id)
        await session.execute(
            update(Connection).where(col(Connection.id) == first.id).values(setup="disconnected")
        )
    [result] = results
    assert (result["custody"], result["error"]) == (None, "the connection was disconnected")
    async with cut_over.rt.store.read() as session:
        assert await load_tokens(cut_over.rt.store, session, [first.id]) == {}


async def test_a_login_is_not_written_over_by_a_token_that_is_lent(cut_over: CutOver) -> None:
    first = await slow_one(cut_over)
    store, lent = cut_over.rt.store, cut_over.pair(first).access
    results: list[dict[str, Any]] = []
    async with handing(cut_over, {"connection": first.id, "access_token": lent}, results) as tx:
        await save_tokens(store, tx, {first.id: TokenPair("acc_login", "ref", None)}, now=utcnow())
        await own(tx, first.id)
    [result] = results
    assert result["custody"] is None
    assert "export it before lending another" in result["error"]
    async with store.read() as session:
        [kept] = (await load_tokens(store, session, [first.id])).values()
    assert (kept.access, kept.is_ours) == ("acc_login", True)
