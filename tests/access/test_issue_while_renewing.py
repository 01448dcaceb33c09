"""A token is not handed out while it is being replaced: Makini has killed it already."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, update
from sqlmodel import col

from linekeeper.access.expiry import renew_ending
from linekeeper.clock import Clock, use, utcnow
from linekeeper.makini import TokenPair
from linekeeper.store import Store
from linekeeper.store.leases import TOKENS, acquire
from linekeeper.store.tables import Credential
from linekeeper.sweep.batch import probe_batch
from linekeeper.tokens.stored import save_tokens
from tests.access.test_renew import a_pair, stored, works
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def under_renewal(here: House, *, seconds: float) -> None:
    """As if a refresh had begun so long ago, and its answer were not here."""
    since = utcnow() - timedelta(seconds=seconds)
    async with here.store.write() as session:
        await session.execute(update(Credential).values(renewing_since=since))
    for connection in await here.connections():
        await acquire(here.store, TOKENS, "renewer", subject=connection.id, seconds=60, now=since)


@contextmanager
def at_look(house: House, number: int, act: Callable[[Store], Awaitable[None]]) -> Iterator[None]:
    """Do `act` right after the statement with which a token is looked at for the `number`th time.

    It is done as by another process. However long that takes, it doesn't count as waiting.
    """

    class Still(Clock):
        def monotonic(self) -> float:
            return 0.0

    async def do() -> None:
        async with Store.open(house.rt.settings) as store:
            await act(store)

    looks = 0
    engine = house.store.engine.sync_engine

    def executed(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        nonlocal looks
        if statement.startswith("SELECT") and "FROM credential" in statement:
            looks += 1
            if looks == number:
                with ThreadPoolExecutor(1) as another:
                    another.submit(asyncio.run, do()).result()

    event.listen(engine, "after_cursor_execute", executed)
    before = use(Still())
    try:
        yield
    finally:
        use(before)
        event.remove(engine, "after_cursor_execute", executed)


@pytest.mark.parametrize("look", [1, 2, 3])
async def test_the_product_gets_the_new_token_not_the_dead_one(house: House, look: int) -> None:
    [connection, *_] = await house.connections()
    headers = await house.key("tokens:read")
    url = f"/api/connections/{connection.id}/token"
    old = (await house.http.get(url, headers=headers)).json()["access_token"]
    await under_renewal(house, seconds=0)
    new = TokenPair("acc-new", "ref-new", utcnow() + timedelta(days=30), minted=False)

    async def renewed(store: Store) -> None:
        async with store.write() as session:
            await save_tokens(store, session, {connection.id: new}, now=utcnow())

    with at_look(house, look, renewed):
        answer = await house.http.get(url, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["access_token"] == "acc-new" != old


@pytest.mark.parametrize("seconds", [0, 61])
async def test_a_renewal_that_does_not_end_holds_up_nobody_for_long(
    house: House, seconds: int
) -> None:
    [connection, *_] = await house.connections()
    headers = await house.key("tokens:read")
    url = f"/api/connections/{connection.id}/token"
    old = (await house.http.get(url, headers=headers)).json()["access_token"]
    await under_renewal(house, seconds=seconds)
    answer = await house.http.get(url, headers=headers, timeout=60)
    assert answer.json()["access_token"] == old


@pytest.mark.parametrize("has_pair", [True, False])
async def test_a_token_that_makini_refuses_is_not_handed_out_while_no_other_can_be_had(
    house: House, has_pair: bool
) -> None:
    [connection, *_] = await house.connections()
    if has_pair:
        await a_pair(house, connection)
    headers = await house.key()
    path = f"/api/connections/{connection.id}/token"
    await house.control("settings", token="500")
    for token in house.fleet.world.tokens.access.values():  # the Admin API's as well
        token.expires_at = 0
    app = await house.rt.app("default")
    await probe_batch(house.rt, app, [connection.id], started=utcnow(), last_try=True)
    refused = await house.http.get(path, headers=headers, timeout=60)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    await house.control("settings", token="")
    answer = await house.http.get(path, headers=headers, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["access_token"] == (await stored(house, connection)).access
    assert await works(house, await stored(house, connection))
    assert await house.incidents() == []


async def test_a_renewal_that_failed_is_not_waited_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It left the pair in doubt: Makini is asked at once whether it works."""
    [connection, *_] = await house.connections()
    pair = await a_pair(house, connection)
    headers = await house.key()
    await house.control("settings", token="500")
    await renew_ending(house.rt, now=utcnow())
    async with house.store.read() as session:
        doubted = select(col(Credential.connection_id)).where(
            col(Credential.renewing_since).is_not(None)
        )
        assert connection.id in (await session.scalars(doubted)).all()
    await house.control("settings", token="")
    monkeypatch.setattr("linekeeper.access.issue.RENEWAL_SECONDS", 600.0)
    path = f"/api/connections/{connection.id}/token"
    answer = await house.http.get(path, headers=headers, timeout=60)
    assert (answer.status_code, answer.json().get("access_token")) == (200, pair.access)


async def test_a_refresh_that_was_not_begun_leaves_no_doubt(house: House) -> None:
    [connection, *_] = await house.connections()
    pair = await a_pair(house, connection)
    headers = await house.key()
    await house.control("settings", token="429")
    await renew_ending(house.rt, now=utcnow())
    asked = house.fleet.world.calls["GET", "/api/integrations/current"]
    answer = await house.http.get(f"/api/connections/{connection.id}/token", headers=headers)
    assert (answer.status_code, answer.json().get("access_token")) == (200, pair.access)
    assert house.fleet.world.calls["GET", "/api/integrations/current"] == asked
