"""Renewing: one at a time, durable before anything else, and healed after a crash."""

import asyncio
import json
import os
import signal
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.expiry import horizon, renew_ending
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.makini import TokenPair
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.store.tables import Audit, Connection, ConnectLink, Credential, Lease
from linekeeper.sweep.interrupted import verify_interrupted
from linekeeper.tokens.renew import renew
from linekeeper.tokens.stored import Token, load_tokens, save_tokens
from tests.forking import python
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def a_pair(here: House, connection: Connection, *, days: float = 5) -> Token:
    """Gives `one` a pair as a login does, which ends in `days`."""
    got = (await here.makini.get(f"/_control/connections/{connection.makini_key}/tokens")).json()
    pair = TokenPair(
        got["access_token"], got["refresh_token"], utcnow() + timedelta(days=days), minted=False
    )
    async with here.store.write() as session:
        await save_tokens(here.store, session, {connection.id: pair}, now=utcnow())
    return await stored(here, connection)


async def stored(here: House, connection: Connection) -> Token:
    async with here.store.read() as session:
        found = (await load_tokens(here.store, session, [connection.id]))[connection.id]
    return replace(found, in_doubt_since=None)  # the pair; what is known of it changes


async def works(here: House, token: Token) -> bool:
    bearer = {"Authorization": f"Bearer {token.access}"}
    answer = await here.makini.get("/api/integrations/current", headers=bearer)
    return answer.status_code == 200


async def renewed(
    here: House, connection: Connection, refused: Token, owner: str = ""
) -> Token | None:
    app: AppConfig = await here.rt.app("default")
    renewal = await renew(
        here.store,
        here.rt.makini(app),
        app,
        connection_id=connection.id,
        makini_ref=connection.makini_key,
        refused=refused,
        owner=owner or here.rt.owner,
    )
    return renewal.token


async def calls(here: House, name: str) -> int:
    return int((await here.makini.get("/_control/calls")).json()["calls"].get(name, 0))


async def test_many_who_renew_at_once_refresh_once_and_get_the_same_token(house: House) -> None:
    [connection, *_] = await house.connections()
    old = await a_pair(house, connection)
    tokens = await asyncio.gather(
        *(renewed(house, connection, old, f"process-{n}") for n in range(6))
    )
    assert len({token.access for token in tokens if token}) == 1
    assert await calls(house, "GRANT refresh_token") == 1
    assert await works(house, await stored(house, connection))
    assert not await works(house, old)


async def test_a_refresh_that_makini_refuses_is_followed_by_minting(house: House) -> None:
    [connection, *_] = await house.connections()
    old = await a_pair(house, connection)
    await house.control(f"connections/{connection.makini_key}/expire-token", refresh=True)
    token = await renewed(house, connection, old)
    assert token is not None
    assert token.minted
    assert await works(house, token)


async def test_while_makini_stumbles_nothing_is_lost_and_it_is_said(house: House) -> None:
    [connection, *_] = await house.connections()
    old = await a_pair(house, connection)
    await house.control("settings", token="500")
    result = await renew_ending(house.rt, now=utcnow())
    assert len(result.failed) == 1
    assert result.renewed == []
    assert await stored(house, connection) == old
    await house.control("settings", token="")
    assert len((await renew_ending(house.rt, now=utcnow())).renewed) == 1


async def test_killed_between_makinis_answer_and_our_commit_it_is_healed_at_the_next_use(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    old = await a_pair(house, connection)
    code = await in_a_process_that_dies_at_the_commit(house, connection)
    assert code == -signal.SIGKILL
    assert await stored(house, connection) == old  # the new pair is lost, and the old one is dead
    assert not await works(house, old)
    async with house.store.write() as session:  # its lease runs out
        await session.execute(update(Lease).values(until=utcnow()))
    await house.sweep()
    assert (await house.connection(connection.id)).health == "healthy"
    assert await works(house, await stored(house, connection))
    assert await house.incidents() == []


@pytest.mark.parametrize("mint", ["token", "refused"])
async def test_b4_a_renewal_that_was_killed_is_known_verified_by_one_read_and_asked_for_once(
    house: House, mint: str
) -> None:
    [connection, *_] = await house.connections()
    await a_pair(house, connection)
    assert await in_a_process_that_dies_at_the_commit(house, connection) == -signal.SIGKILL
    await house.control("settings", mint_shape=mint)
    [pair] = await house.rows(Credential, col(Credential.connection_id) == connection.id)
    assert pair.renewing_since is not None
    assert await verify_interrupted(house.rt, now=utcnow()) == 0  # its lease may still run
    await its_lease_runs_out(house)
    refreshed = await calls(house, "GRANT refresh_token")
    assert await verify_interrupted(house.rt, now=utcnow()) == 1
    assert await verify_interrupted(house.rt, now=utcnow()) == 0
    assert await calls(house, "GRANT refresh_token") == refreshed + 2
    [entry] = await house.rows(Audit, col(Audit.action) == "token.renewal_interrupted")
    health = (await house.connection(connection.id)).health
    if mint == "token":
        assert "a new one was minted" in entry.detail["outcome"]
        assert (health, await house.incidents()) == ("healthy", [])
        assert await works(house, await stored(house, connection))
    else:
        assert "has to log in again" in entry.detail["outcome"]
        assert health == "reauthorization_required"
        for _ in range(2):
            await house.sweep()
            await advance_due_cases(house.rt)
        assert [incident.kind for incident in await house.incidents()] == [health]
        assert len(await house.rows(ConnectLink)) == 1


async def test_a_pair_that_is_in_doubt_and_then_refused_is_asked_about_all_the_same(
    house: House,
) -> None:
    """It may be refused because it was replaced when the answer was lost: then it is dead."""
    [connection, *_] = await house.connections()
    await a_pair(house, connection)
    assert await in_a_process_that_dies_at_the_commit(house, connection) == -signal.SIGKILL
    await house.control("settings", mint_shape="refused")
    async with house.store.write() as session:  # its lease runs out
        await session.execute(update(Lease).values(until=utcnow()))
    assert (await renew_ending(house.rt, now=utcnow())).renewed == []
    await its_lease_runs_out(house)
    assert await verify_interrupted(house.rt, now=utcnow()) == 1
    assert (await house.connection(connection.id)).health == "reauthorization_required"


async def test_b4_a_pair_that_was_not_replaced_after_all_is_said_to_work(house: House) -> None:
    [connection, *_] = await house.connections()
    old = await a_pair(house, connection)
    await house.control("settings", token="500")
    assert (await renew_ending(house.rt, now=utcnow())).renewed == []
    await house.control("settings", token="")
    await its_lease_runs_out(house)
    assert await verify_interrupted(house.rt, now=utcnow()) == 1
    assert await stored(house, connection) == old
    [entry] = await house.rows(Audit, col(Audit.action) == "token.renewal_interrupted")
    assert entry.detail == {"outcome": "its tokens work"}


@pytest.mark.parametrize("app", ["gone", "default"])
async def test_those_that_cannot_be_asked_do_not_hold_up_the_others(house: House, app: str) -> None:
    """A hundred renewals were interrupted before: their app is out of the settings, or they were
    just asked in vain."""
    [connection, *_] = await house.connections()
    await a_pair(house, connection)
    await house.control("settings", token="500")
    assert (await renew_ending(house.rt, now=utcnow())).renewed == []
    await house.control("settings", token="")
    await its_lease_runs_out(house)
    before = utcnow() - timedelta(days=1)
    others = [
        Connection(
            app=app, makini_key=f"g{n}", name=f"g{n}", slug=f"g{n}",
            health_since=before, last_checked_at=utcnow(),
        )
        for n in range(100)
    ]  # fmt: skip
    token = house.store.cipher.encrypt("of nobody")
    async with house.store.write() as session:
        session.add_all(others)
        await session.flush()
        session.add_all(
            Credential(
                connection_id=other.id, access_token=token, expires_at=before + timedelta(days=9),
                renewing_since=before, updated_at=before,
            )
            for other in others
        )  # fmt: skip
    await verify_interrupted(house.rt, now=utcnow())
    [entry] = await house.rows(Audit, col(Audit.subject) == connection.id)
    assert entry.action == "token.renewal_interrupted"


async def its_lease_runs_out(here: House) -> None:
    async with here.store.write() as session:
        await session.execute(update(Lease).values(until=utcnow()))
        await session.execute(
            update(Credential)
            .where(col(Credential.renewing_since).is_not(None))
            .values(renewing_since=utcnow() - timedelta(minutes=3))
        )


async def in_a_process_that_dies_at_the_commit(here: House, connection: Connection) -> int:
    settings = here.rt.settings
    environment = {
        **os.environ,
        "LINEKEEPER_HOME": str(settings.home),
        "LINEKEEPER_DATABASE_URL": settings.resolved_database_url,
        "LINEKEEPER_ENCRYPTION_KEYS": settings.encryption_keys[0].get_secret_value(),
        "LINEKEEPER_MAKINI_API_URL": str(settings.makini_api_url),
        "LINEKEEPER_MAKINI_CLIENT_ID": "sandbox-client",
        "LINEKEEPER_MAKINI_CLIENT_SECRET": "sandbox-secret",
        "LINEKEEPER_MAKINI_MODE": "manage",
    }
    process = await python(
        *("tests.reconnect.dying", "renew", "INTO credential"),
        json.dumps({"connection": connection.id, "key": connection.makini_key}),
        env=environment,
    )
    await process.communicate()
    return await process.wait()


async def test_a_minted_token_has_no_expiry_and_is_never_announced(house: House) -> None:
    now = utcnow()
    async with house.store.write() as session:
        await session.execute(update(Credential).values(expires_at=now + timedelta(days=3)))
    assert await horizon(house.rt, until=now + timedelta(days=31)) == []
    assert (await renew_ending(house.rt, now=now)).renewed == []


async def test_what_ends_soon_is_renewed_and_what_ends_later_is_left(house: House) -> None:
    soon, later, *_ = await house.connections()
    await a_pair(house, soon, days=6)
    kept = await a_pair(house, later, days=8)
    result = await renew_ending(house.rt, now=utcnow())
    assert len(result.renewed) == 1
    assert await stored(house, later) == kept
    ends = (await stored(house, soon)).expires_at
    assert ends is not None
    assert ends > utcnow() + timedelta(days=25)


async def test_one_who_must_log_in_is_not_renewed(house: House) -> None:
    [connection, *_] = await house.connections()
    old = await a_pair(house, connection)
    async with house.store.write() as session:
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == connection.id)
            .values(health="reauthorization_required")
        )
    result = await renew_ending(house.rt, now=utcnow())
    assert (result.renewed, result.ending) == ([], [])
    assert await stored(house, connection) == old


async def test_a_refresh_token_that_was_refused_is_offered_again_an_hour_later(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    old = await a_pair(house, connection)
    key = connection.makini_key
    await house.control(f"connections/{key}/expire-token", refresh=True)
    await house.control("settings", mint_shape="refused")
    for _ in range(3):
        assert await renewed(house, connection, old) is None
    assert await calls(house, "GRANT refresh_token") == 2
    async with house.store.write() as session:
        await session.execute(
            update(Credential).values(refused_at=utcnow() - timedelta(hours=1, seconds=1))
        )
    assert await renewed(house, connection, old) is None
    assert await calls(house, "GRANT refresh_token") == 4
