"""Whoever is cancelled, and whoever else writes: the pair that lives is the one that is stored."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlmodel import col, select

from linekeeper.access.ending import Ending
from linekeeper.access.expiry import horizon
from linekeeper.access.links import make_link
from linekeeper.access.login import Attempt
from linekeeper.access.paste import Pasted, paste
from linekeeper.clock import utcnow
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Credential
from linekeeper.tokens.renew import renew
from linekeeper.tokens.stored import (
    StoredPair,
    Token,
    load_tokens,
    replace_pair,
    save_tokens,
)
from tests.access.rotating import (
    Rotating,
    managed,
    pair_of,
    rotating,
    rotating_server,
    with_k1,
)
from tests.forking import python

__all__ = ["managed", "rotating", "rotating_server"]  # fixtures


async def renewed(rt: Runtime, identifier: str) -> Token | None:
    async with rt.store.read() as session:
        refused = (await load_tokens(rt.store, session, [identifier])).get(identifier)
    app = await rt.app("default")
    renewal = await renew(
        rt.store,
        rt.makini(app),
        app,
        connection_id=identifier,
        makini_ref="k1",
        refused=refused,
        owner=rt.owner,
    )
    return renewal.token


async def assert_stored_is_alive(store: Store, identifier: str, makini: Rotating) -> None:
    pair = await pair_of(store, identifier)
    assert pair is not None
    assert (pair.token.access, pair.refresh) == (f"a{makini.number}", f"r{makini.number}")


async def log_in(rt: Runtime, identifier: str) -> Ending:
    """What the callback does once the `state` is good."""
    async with rt.store.write() as session:
        link = await make_link(
            session,
            app="default",
            connection_id=identifier,
            customer_id=None,
            system="UpKeep",
            by="tests",
            now=utcnow(),
        )
    return await Attempt(rt, link, None).take("code")


async def test_a_deadline_that_passes_after_makini_rotated_loses_nothing(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.may_answer.clear()
        asking = asyncio.create_task(renewed(rt, identifier))
        await rotating.has_rotated()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        rotating.may_answer.set()
        await rt.store.owned.finish()
        await assert_stored_is_alive(rt.store, identifier, rotating)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_stop_waits_for_the_pair_that_makini_rotated(
    managed: Settings, rotating: Rotating, store: Store, times: int
) -> None:
    """However often it is said: by a deadline, a signal, somebody who is impatient."""
    known = asyncio.Event()
    identifier = ""

    async def part() -> None:
        nonlocal identifier
        async with with_k1(managed, rotating) as (rt, identifier):
            known.set()
            await renewed(rt, identifier)

    rotating.may_answer.clear()
    running = asyncio.create_task(part())
    await known.wait()
    await rotating.has_rotated()
    for _ in range(times):
        running.cancel()
        await asyncio.sleep(0.2)
        assert not running.done()
    rotating.may_answer.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    await assert_stored_is_alive(store, identifier, rotating)


async def test_a_stop_does_not_wait_for_a_renewal_that_has_not_begun(
    managed: Settings, rotating: Rotating, store: Store
) -> None:
    async with Runtime.open(managed) as other, with_k1(managed, rotating) as (rt, identifier):
        rotating.may_answer.clear()
        ours = asyncio.create_task(renewed(rt, identifier))
        await rotating.has_rotated()
        theirs = asyncio.create_task(renewed(other, identifier))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(20):
            await other.store.owned.finish()
        assert theirs.cancelled() or theirs.cancel()
        rotating.may_answer.set()
        await ours
        assert rotating.refreshed == 1


async def test_a_login_during_a_renewal_is_what_stays(
    managed: Settings, rotating: Rotating
) -> None:
    async with Runtime.open(managed) as other, with_k1(managed, rotating) as (rt, identifier):
        rotating.may_answer.clear()
        renewing = asyncio.create_task(renewed(other, identifier))
        await rotating.has_rotated()
        coming_back = asyncio.create_task(log_in(rt, identifier))
        await asyncio.sleep(0.3)
        rotating.may_answer.set()
        assert (await coming_back).how == "done"
        await renewing
        await assert_stored_is_alive(rt.store, identifier, rotating)


async def test_a_pasted_pair_during_a_renewal_is_what_stays(
    managed: Settings, rotating: Rotating
) -> None:
    async with Runtime.open(managed) as other, with_k1(managed, rotating) as (rt, identifier):
        rotating.may_answer.clear()
        renewing = asyncio.create_task(renewed(other, identifier))
        await rotating.has_rotated()
        pasted: asyncio.Task[Pasted] = asyncio.create_task(
            paste(rt, "k1", "code", by="Petra", now=utcnow())
        )
        await asyncio.sleep(0.3)
        rotating.may_answer.set()
        assert (await pasted).is_stored
        await renewing
        await assert_stored_is_alive(rt.store, identifier, rotating)


async def test_a_renewal_that_ends_after_a_login_was_stored_does_not_write_over_it(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.may_answer.clear()
        renewing = asyncio.create_task(renewed(rt, identifier))
        await rotating.has_rotated()
        rotating.number += 1  # a login in a process that did not wait for the lease any longer
        async with rt.store.write() as session:
            await save_tokens(rt.store, session, {identifier: rotating.pair()}, now=utcnow())
        rotating.may_answer.set()
        token = await renewing
        assert token is not None
        assert token.access == f"a{rotating.number}"
        await assert_stored_is_alive(rt.store, identifier, rotating)


async def test_a_login_whose_caller_leaves_is_stored_all_the_same(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        coming_back = asyncio.create_task(log_in(rt, identifier))
        while rotating.number == 1:
            await asyncio.sleep(0.01)
        coming_back.cancel()
        await asyncio.wait({coming_back})
        while not is_stored(await pair_of(rt.store, identifier), rotating):
            await asyncio.sleep(0.01)


def is_stored(pair: StoredPair | None, makini: Rotating) -> bool:
    return pair is not None and pair.refresh == f"r{makini.number}"


async def test_disconnecting_during_a_renewal_brings_no_tokens_back(
    managed: Settings, rotating: Rotating
) -> None:
    async with Runtime.open(managed) as other, with_k1(managed, rotating) as (rt, identifier):
        rotating.may_answer.clear()
        renewing = asyncio.create_task(renewed(other, identifier))
        await rotating.has_rotated()
        ending = asyncio.create_task(disconnect(rt, "k1", confirm="k1", by="Petra"))
        await asyncio.sleep(0.3)
        rotating.may_answer.set()
        await asyncio.gather(ending, renewing)
        assert await pair_of(rt.store, identifier) is None
        assert await renewed(rt, identifier) is None
        assert rotating.refreshed == 1


async def test_a_pair_for_a_connection_that_was_ended_meanwhile_is_not_stored(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        before = await pair_of(rt.store, identifier)
        await disconnect(rt, "k1", confirm="k1", by="Petra")
        async with rt.store.write() as session:
            stored = await replace_pair(
                rt.store, session, identifier, rotating.pair(), instead_of=before, now=utcnow()
            )
        assert not stored
        async with rt.store.read() as session:
            assert await session.scalar(select(Credential)) is None
            assert await session.scalar(select(col(Connection.setup))) == "disconnected"


async def test_storage_that_fails_for_a_moment_does_not_cost_the_pair(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        failures = 2

        @event.listens_for(rt.store.engine.sync_engine, "before_cursor_execute")
        def failing(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            nonlocal failures
            if failures and statement.startswith("INSERT INTO credential"):
                failures -= 1
                raise OperationalError(statement, {}, OSError("the disk is away"))

        assert await renewed(rt, identifier) is not None
        assert failures == 0
        await assert_stored_is_alive(rt.store, identifier, rotating)


async def test_of_two_processes_that_renew_at_once_none_tries_a_pair_that_the_other_killed(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.may_answer.clear()
        environment = {
            "LINEKEEPER_HOME": str(managed.home),
            "LINEKEEPER_DATABASE_URL": managed.resolved_database_url,
            "LINEKEEPER_ENCRYPTION_KEYS": managed.encryption_keys[0].get_secret_value(),
            "LINEKEEPER_MAKINI_API_URL": rotating.peer.url,
            "LINEKEEPER_MAKINI_CLIENT_ID": "client",
            "LINEKEEPER_MAKINI_CLIENT_SECRET": "secret",
            "LINEKEEPER_MAKINI_MODE": "manage",
        }
        given = json.dumps({"connection": identifier, "key": "k1"})
        command = ("tests.reconnect.dying", "renew", "", given)
        processes = [await python(*command, env=environment) for _ in range(2)]
        await rotating.has_rotated()
        await asyncio.sleep(1)  # time for the other to wait for the lease
        rotating.may_answer.set()
        said = [(await process.communicate())[0].decode() for process in processes]
        assert [process.returncode for process in processes] == [0, 0], said
        assert rotating.dead == 0
        await assert_stored_is_alive(rt.store, identifier, rotating)


async def test_a_renewal_that_makini_refuses_is_remembered_until_the_next_login(
    managed: Settings, rotating: Rotating
) -> None:
    async with with_k1(managed, rotating) as (rt, identifier):
        rotating.number += 1  # the stored pair is dead, and nothing is minted
        in_a_week = utcnow() + timedelta(days=7)
        [before] = await horizon(rt, until=in_a_week)
        assert not before.refused
        assert await renewed(rt, identifier) is None
        [refused] = await horizon(rt, until=in_a_week)
        assert refused.refused
        async with rt.store.write() as session:
            await save_tokens(rt.store, session, {identifier: rotating.pair()}, now=utcnow())
        [after] = await horizon(rt, until=in_a_week)
        assert not after.refused
