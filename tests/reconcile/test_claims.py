"""A run that lost its claim on a connection stops reading it: two never read it at once."""

import asyncio

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.reconcile import claims as module
from linekeeper.reconcile.claims import Claims, claiming
from linekeeper.store import Store
from linekeeper.store.tables import Lease


async def test_what_another_run_took_over_is_cancelled_and_the_rest_goes_on(store: Store) -> None:
    claims = Claims(store, "me", "due")
    await claims.take(["a", "b"])
    readings = {name: asyncio.create_task(asyncio.sleep(60)) for name in ("a", "b")}
    for name, reading in readings.items():
        claims.cover(name, reading)
    async with store.write() as session:
        await session.execute(
            update(Lease).where(col(Lease.name) == "reconcile:a").values(owner="another")
        )
    await claims.renew()
    await asyncio.sleep(0)
    assert readings["a"].cancelled()
    assert not readings["b"].done()
    assert claims.held == {"b"}
    readings["b"].cancel()


async def test_claims_that_cannot_be_renewed_end_what_they_cover(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.6)
    async with claiming(store, "me", "due") as claims:
        await claims.take(["a"])
        reading = asyncio.create_task(asyncio.sleep(60))
        claims.cover("a", reading)
        async with store.write() as session:
            await session.execute(update(Lease).values(owner="another"))
        await asyncio.wait({reading}, timeout=20)
        assert reading.cancelled()
        assert claims.held == set()
