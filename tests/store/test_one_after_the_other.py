"""Who decides by a row has it alone until the commit, on PostgreSQL by a lock on the row. SQLite
lets one transaction at a time write."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeAlias

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.budget import DatabaseBudget
from linekeeper.clock import utcnow
from linekeeper.health.held import load_held
from linekeeper.inbox.claim import Settled, claim_events, settle, still_ours
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.meaning import EventNames
from linekeeper.makini.budget import NothingLeft
from linekeeper.reconcile import feed
from linekeeper.reconcile.queries import lock_feed
from linekeeper.store import Store, new_id
from linekeeper.store.tables import AppState, Connection
from tests.inbox.process.stage import NO_HEADERS

pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")


async def test_nobody_takes_over_events_while_their_end_is_being_written(store: Store) -> None:
    """Their claim has run out: whoever stood still for so long settles them, or another does."""
    names = EventNames(("eam/assets",), {})
    body = b'{"event":"assets.updated","id":"1","body":["a-1"]}'
    identity = identify("default", names, NO_HEADERS, "k1", body, now=utcnow())
    async with Intake.open(store) as intake:
        await intake.store(make_delivery(new_id(), "default", identity, body, received_at=utcnow()))
    now = utcnow()
    claimed = await claim_events(store, "slow", rank=1, limit=10, now=now)
    later = now + timedelta(hours=1)
    async with store.write() as session:
        [event] = await still_ours(session, claimed, claimed.events)
        taken = await claim_events(store, "other", rank=1, limit=10, now=later)
        assert list(taken.events) == []
        await settle(session, {event.id: Settled("processed")}, now=now)
    assert list((await claim_events(store, "other", rank=1, limit=10, now=later)).events) == []


Locks: TypeAlias = Callable[[Store, AsyncSession, str], Awaitable[object]]
LOCKS: dict[str, Locks] = {
    "how a connection is": lambda _, session, of: load_held(session, [of], utcnow()),
    "the number of its last change": lock_feed,
    "the end of the change feed": lambda store, session, _: feed._lock_end(store, session),
}


@pytest.mark.parametrize("what", LOCKS)
async def test_what_one_goes_on_from_another_reads_after_the_commit(
    store: Store, what: str
) -> None:
    connection = Connection(app="default", makini_key="c1", name="C1", slug="c1", setup="live")
    lock = LOCKS[what]
    async with store.write() as session:
        session.add(connection)
        await session.flush()
        await lock(store, session, connection.id)  # the row is there from now on
    async with store.write() as first, store.engine.connect() as plain, plain.begin():
        await lock(store, first, connection.id)
        second = AsyncSession(plain)
        await second.execute(text("SET LOCAL lock_timeout = '100ms'"))
        with pytest.raises(DBAPIError, match="lock timeout"):
            await lock(store, second, connection.id)
    async with store.write() as third:
        await lock(store, third, connection.id)


async def test_many_processes_at_once_are_not_granted_the_same_call(
    store: Store,
) -> None:
    left = {"tokens": 1.0, "at": utcnow().isoformat(), "blocked_until": None}
    async with store.write() as session:
        session.add(AppState(app="plant", budget=left, circuit={}))

    async def is_granted() -> bool:
        try:
            await DatabaseBudget(store).take("plant", 1, waits=False)
        except NothingLeft:
            return False
        return True

    granted = await asyncio.gather(*(is_granted() for _ in range(12)))
    assert sum(granted) == 1
