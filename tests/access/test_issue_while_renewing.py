"""A token is not handed out while it is being replaced: Makini has killed it already."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import update

from linekeeper.clock import utcnow
from linekeeper.makini import TokenPair
from linekeeper.store.tables import Credential
from linekeeper.tokens.stored import save_tokens
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def under_renewal(here: House, *, seconds: float) -> None:
    """As if a refresh had begun so long ago, and its answer were not here."""
    since = utcnow() - timedelta(seconds=seconds)
    async with here.store.write() as session:
        await session.execute(update(Credential).values(renewing_since=since))


async def test_the_product_gets_the_new_token_not_the_dead_one(house: House) -> None:
    [connection, *_] = await house.connections()
    headers = await house.key("tokens:read")
    url = f"/api/connections/{connection.id}/token"
    old = (await house.http.get(url, headers=headers)).json()["access_token"]
    await under_renewal(house, seconds=0)
    asking = asyncio.create_task(house.http.get(url, headers=headers))
    await asyncio.sleep(0.5)
    assert not asking.done()
    new = TokenPair("acc-new", "ref-new", utcnow() + timedelta(days=30), minted=False)
    async with house.store.write() as session:
        await save_tokens(house.store, session, {connection.id: new}, now=utcnow())
    answer = await asking
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
