"""A clock that was a day ahead and is set right: what was polled by it is polled again in time."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from sqlmodel import col, select
from starlette.responses import JSONResponse

from linekeeper import clock
from linekeeper.consumer.alive import DEAD_AFTER, beat
from linekeeper.consumer.clock_ahead import put_right
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Record
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, asset, server, with_one_connection
from tests.reconcile.conftest import adopt, pointed_at, run
from tests.reconcile.test_cadence import of

__all__ = ["server"]
pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""PostgreSQL's own clock counts for all machines."""
DAY = timedelta(days=1)


class Off(clock.Clock):
    """A machine's clock that is fast by `by`."""

    def __init__(self, by: timedelta) -> None:
        self._by = by

    def utcnow(self) -> datetime:
        return super().utcnow() + self._by


@contextmanager
def off(by: timedelta) -> Iterator[None]:
    before = clock.use(Off(by))
    try:
        yield
    finally:
        clock.use(before)


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime of one connection with two assets, of which nothing was read yet."""
    with_one_connection(server)
    server.answer("GET", ASSETS, of(asset("1"), asset("2")))
    managed = pointed_at(settings, server.url, makini_entities=("eam/assets",))
    async with Runtime.open(managed) as opened:
        await adopt(opened)
        yield opened


async def keys(rt: Runtime) -> set[str]:
    async with rt.store.read() as session:
        return set(await session.scalars(select(col(Record.key))))


async def test_what_was_polled_while_the_clock_was_ahead_is_polled_again(
    rt: Runtime, server: Peer
) -> None:
    with off(DAY):
        await run(rt, everything=False)
        await beat(rt.store, "one")
    assert len(await keys(rt)) == 2
    server.answer("GET", ASSETS, of(asset("1"), asset("2"), asset("3", 5)))
    assert await put_right(rt.store, beat=DEAD_AFTER) is not None
    with off(timedelta(minutes=70)):  # of its webhook nothing is heard
        await run(rt, everything=False)
    assert len(await keys(rt)) == 3


@pytest.mark.parametrize(("refusal", "minutes"), [(403, 70), (404, 20)])
async def test_what_was_refused_or_not_found_while_the_clock_was_ahead_is_asked_for_again(
    rt: Runtime, server: Peer, refusal: int, minutes: int
) -> None:
    server.answer("GET", ASSETS, lambda _: JSONResponse({"message": "no"}, refusal))
    with off(DAY):
        await run(rt, everything=False)
        await beat(rt.store, "one")
    server.answer("GET", ASSETS, of(asset("1"), asset("2")))
    assert await put_right(rt.store, beat=DEAD_AFTER) is not None
    with off(timedelta(minutes=minutes)):
        await run(rt, everything=False)
    assert len(await keys(rt)) == 2


async def test_what_a_listing_lacked_while_the_clock_was_ahead_is_deleted_today(
    rt: Runtime, server: Peer
) -> None:
    assets = [asset(str(number)) for number in range(40)]
    server.answer("GET", ASSETS, of(*assets))
    await run(rt, full=True)
    server.answer("GET", ASSETS, of(*assets[:-1]))
    with off(DAY):
        await run(rt, full=True)
        await beat(rt.store, "one")
    assert await put_right(rt.store, beat=DEAD_AFTER) is not None
    for minutes in (30, 60, 90):
        with off(timedelta(minutes=minutes)):
            await run(rt, full=True)
    async with rt.store.read() as session:
        query = select(col(Record.key)).where(col(Record.deleted_at).is_not(None))
        assert (await session.scalars(query)).all() == ["39"]
