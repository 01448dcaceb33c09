"""A login whose code is spent and whose status can't be had: its pair is kept until it can."""

import asyncio
from datetime import datetime, timedelta

import pytest
from sqlmodel import col, select

from linekeeper.access.ending import Ending
from linekeeper.access.pending import kept_logins
from linekeeper.access.superseded import REFUSAL_MAY_PASS
from linekeeper.access.verify import verify_logins
from linekeeper.clock import utcnow
from linekeeper.makini.budget import LOGINS, WORK
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.rotate import rotate_keys
from linekeeper.store.tables import Audit, ConnectLink, PendingLogin
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


def soon() -> datetime:
    return utcnow() + timedelta(seconds=90)


async def kept(rt: Runtime) -> list[PendingLogin]:
    async with rt.store.read() as session:
        return list(await session.scalars(select(PendingLogin)))


@pytest.mark.parametrize(
    ("status", "how"), [(503, "system_away"), (500, "system_away"), (401, "refused")]
)
async def test_a_login_whose_status_fails_is_kept_and_verified_once_makini_answers(
    managed: Settings, rotating: Rotating, status: int, how: str
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.status_fails = status
        ending: Ending = await log_in(rt, identifier)
        assert (ending.how, ending.is_kept) == (how, True)
        assert rotating.number == 2  # the pair that is stored is dead
        assert await verify_logins(rt, now=soon()) == 1
        assert [row.attempts for row in await kept(rt)] == [1]
        rotating.status_fails = 0
        assert await verify_logins(rt, now=soon()) == 0  # it waits longer each time
        assert await verify_logins(rt, now=utcnow() + timedelta(minutes=5)) == 1
        await assert_stored_is_alive(rt.store, identifier, rotating)
        assert await kept(rt) == []
        async with rt.store.read() as session:
            [link] = await session.scalars(select(ConnectLink))
            actions = list(await session.scalars(select(col(Audit.action)).order_by(Audit.id)))
        assert link.used_for == identifier
        assert actions == [f"login.{how}", "login.renewed"]  # said once, however often asked


async def test_a_renewal_does_not_wait_for_the_calls_that_a_kept_login_waits_for(
    managed: Settings, rotating: Rotating
) -> None:
    """Universe 30796: with six calls a minute a sweep ran for half an hour."""
    few = managed.model_copy(update={"makini_per_minute": 6})
    async with with_k1(managed, rotating) as (rt, identifier), Runtime.open(few) as consumer:
        rotating.status_fails = 503
        assert (await log_in(rt, identifier)).is_kept
        rotating.status_fails = 0
        for _ in range(WORK.burst_of(6)):
            await consumer.budget.take("default", 6)
        for _ in range(LOGINS.burst_of(6)):
            await consumer.login_budget.take("default", 6)
        asking = asyncio.create_task(verify_logins(consumer, now=soon()))
        await asyncio.sleep(1)  # it waits for its next call from here
        assert not asking.done()
        async with asyncio.timeout(5):
            assert await renewed(rt, identifier) is None  # the pair that is stored is dead
        asking.cancel()
        assert len(await kept(rt)) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_that_makini_asks_for_is_kept_until_its_end(
    managed: Settings, rotating: Rotating, status: int
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.status_fails, rotating.status_asks_for = status, 3_000
        assert (await log_in(rt, identifier)).is_kept
        assert rotating.status_calls == 1
        rotating.status_fails = 0
        assert await verify_logins(rt, now=utcnow() + timedelta(minutes=49)) == 0
        assert rotating.status_calls == 1
        assert await verify_logins(rt, now=utcnow() + timedelta(minutes=51)) == 1
        await assert_stored_is_alive(rt.store, identifier, rotating)


async def test_a_newer_login_by_the_same_link_is_what_stays(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.status_fails = 503
        await log_in(rt, identifier)
        rotating.status_fails = 0
        assert (await log_in(rt, identifier)).how == "done"
        async with rt.store.read() as session:
            assert await kept_logins(session, [identifier]) == {}
        assert await verify_logins(rt, now=soon()) == 1  # it may be another connection's
        await assert_stored_is_alive(rt.store, identifier, rotating)
        assert len(await kept(rt)) == 1  # a refusal may pass
        async with rt.store.write() as session:
            [row] = await session.scalars(select(PendingLogin))
            row.refused_seconds = int(REFUSAL_MAY_PASS.total_seconds())
        await verify_logins(rt, now=utcnow() + timedelta(minutes=20))
        assert await kept(rt) == []
        await assert_stored_is_alive(rt.store, identifier, rotating)


async def test_an_older_kept_login_is_not_stored_over_a_newer_one(
    managed: Settings, rotating: Rotating
) -> None:
    """A Makini that leaves the pairs before a login alive answers for each of them."""
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.leaves_alive = True
        rotating.status_fails = 503
        await log_in(rt, identifier)
        rotating.status_fails = 0
        assert (await log_in(rt, identifier)).how == "done"
        await verify_logins(rt, now=soon())
        await assert_stored_is_alive(rt.store, identifier, rotating)
        assert await kept(rt) == []


async def test_disconnecting_forgets_a_login_that_is_still_to_be_verified(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.status_fails = 503
        await log_in(rt, identifier)
        await disconnect(rt, "k1", confirm="k1", by="Petra")
        rotating.status_fails = 0
        assert await verify_logins(rt, now=soon()) == 0
        assert await pair_of(rt.store, identifier) is None


async def test_a_kept_login_is_sealed_and_turned_with_the_keys(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.status_fails = 503
        await log_in(rt, identifier)
        [row] = await kept(rt)
        assert rt.store.cipher.decrypt(row.access_token) == "a2"
        assert "a2" not in (row.access_token, repr(row))
        assert (await rotate_keys(rt.store)).unreadable == []


async def test_a_pair_that_has_ended_unverified_is_forgotten_and_audited(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.status_fails = 503
        await log_in(rt, identifier)
        async with rt.store.write() as session:
            [row] = await session.scalars(select(PendingLogin))
            row.received_at -= timedelta(days=40)
            row.expires_at = utcnow() - timedelta(days=1)
        await verify_logins(rt, now=soon())
        assert await kept(rt) == []
        async with rt.store.read() as session:
            assert "login.ended" in list(await session.scalars(select(col(Audit.action))))
