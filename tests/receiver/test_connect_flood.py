"""A link in the wrong hands: a few attempts an hour, at nobody else's cost."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from sqlalchemy import select, update

from linekeeper.access.callback import ATTEMPTS_AN_HOUR, RETURNS_AN_HOUR
from linekeeper.access.links import make_state
from linekeeper.access.signing import load_signer
from linekeeper.budget import DatabaseBudget
from linekeeper.clock import utcnow
from linekeeper.housekeeping import prune
from linekeeper.store.tables import AppState, Audit, ConnectAttempt
from tests.receiver.test_connect import link_for, open_house, through
from tests.reconnect.conftest import House

__all__ = ["open_house"]  # a fixture


async def _junk(house: House, link_id: str, count: int) -> list[int]:
    """The answers to `count` callbacks at once, each with a state of its own and a made-up code."""
    signer = await load_signer(house.store)
    answers = await asyncio.gather(
        *(
            house.http.get(
                "/oauth/callback",
                timeout=90,
                params={
                    "code": f"junk-{number}",
                    "state": make_state(signer, link_id, now=utcnow()),
                },
            )
            for number in range(count)
        )
    )
    return [answer.status_code for answer in answers]


async def test_a_link_has_a_few_attempts_an_hour_and_costs_nobody_else_theirs(
    open_house: Callable[..., Awaitable[House]],
) -> None:
    house = await open_house(makini_per_minute=600)
    [connection, other, *_] = await house.connections()
    link, path = await link_for(house, connection)
    answers = await _junk(house, link.id, 55)
    assert answers.count(502) == ATTEMPTS_AN_HOUR
    assert answers.count(429) == 55 - ATTEMPTS_AN_HOUR
    assert len(await house.rows(ConnectAttempt)) == ATTEMPTS_AN_HOUR
    assert len(await house.rows(Audit)) <= ATTEMPTS_AN_HOUR

    _, others = await link_for(house, other)
    house.http.cookies.clear()
    assert (await through(house, others, other.makini_key)).status_code == 200
    async with house.store.write() as session:
        await session.execute(
            update(ConnectAttempt).values(at=utcnow() - timedelta(hours=1, seconds=1))
        )
    assert (await through(house, path, connection.makini_key)).status_code == 200


async def test_attempts_that_nothing_depends_on_any_more_are_pruned(
    open_house: Callable[..., Awaitable[House]],
) -> None:
    house = await open_house()
    [connection, *_] = await house.connections()
    link, _ = await link_for(house, connection)
    now = utcnow()
    await _junk(house, link.id, 3)
    async with house.store.write() as session:
        [old, *_] = await session.scalars(select(ConnectAttempt))
        old.at = now - timedelta(days=31)
    times = {
        "outbox_before": now - timedelta(days=7),
        "observations_before": now - timedelta(days=30),
        "traces_before": now - timedelta(days=30),
    }
    assert (await prune(house.store, **times, dry_run=True)).traces == 1
    assert len(await house.rows(ConnectAttempt)) == 3
    assert (await prune(house.store, **times)).traces == 1
    assert len(await house.rows(ConnectAttempt)) == 2


async def test_a_login_waits_for_no_sweep_and_no_sweep_for_logins(
    open_house: Callable[..., Awaitable[House]],
) -> None:
    house = await open_house(makini_per_minute=600)
    [connection, *_] = await house.connections()
    empty = {"tokens": -100_000.0, "at": utcnow().isoformat(), "blocked_until": None}
    async with house.store.write() as session:
        await session.execute(update(AppState).values(budget=empty))
    _, path = await link_for(house, connection)
    assert (await through(house, path, connection.makini_key)).status_code == 200

    [state] = await house.rows(AppState)
    assert state.budget["tokens"] < -90_000
    assert state.budget["logins"]["tokens"] < 12


async def test_a_pause_that_makini_asks_for_is_for_logins_too(
    open_house: Callable[..., Awaitable[House]],
) -> None:
    house = await open_house(makini_per_minute=600)
    [connection, *_] = await house.connections()
    await DatabaseBudget(house.store).penalise("default", utcnow() + timedelta(minutes=40))
    _, path = await link_for(house, connection)
    answer = await through(house, path, connection.makini_key)
    assert (answer.status_code, "not available" in answer.text) == (502, True)
    later = DatabaseBudget(house.store, logins=True)
    await later.penalise("another", utcnow() + timedelta(minutes=40))
    states = {state.app: state.budget for state in await house.rows(AppState)}
    assert states["another"]["blocked_until"] == states["another"]["blocked_until"] is not None


async def test_whoever_denies_has_tried_no_login_and_can_not_do_so_for_ever(
    open_house: Callable[..., Awaitable[House]],
) -> None:
    house = await open_house()
    [connection, *_] = await house.connections()
    link, path = await link_for(house, connection)
    signer = await load_signer(house.store)

    async def deny() -> int:
        state = make_state(signer, link.id, now=utcnow())
        given = {"error": "access_denied", "state": state}
        return (await house.http.get("/oauth/callback", params=given)).status_code

    assert [await deny() for _ in range(ATTEMPTS_AN_HOUR + 2)] == [400] * (ATTEMPTS_AN_HOUR + 2)
    answers = await _junk(house, link.id, ATTEMPTS_AN_HOUR - 1)
    assert set(answers) == {502}
    assert (await through(house, path, connection.makini_key)).status_code == 200
    link, _ = await link_for(house, connection)
    answers = [await deny() for _ in range(RETURNS_AN_HOUR + 3)]
    assert answers == [400] * RETURNS_AN_HOUR + [429] * 3
