"""Who lost a lease stops what it covers: two never work on it at once."""

import asyncio

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store import many_leases as module
from linekeeper.store.many_leases import ManyLeases, holding_many
from linekeeper.store.tables import Lease


async def test_what_another_run_took_over_is_cancelled_and_the_rest_goes_on(store: Store) -> None:
    leases = ManyLeases(store, "reconcile", "me", "routine")
    await leases.take(["a", "b"])
    readings = {name: asyncio.create_task(asyncio.sleep(60)) for name in ("a", "b")}
    for name, reading in readings.items():
        leases.cover(name, reading)
    async with store.write() as session:
        await session.execute(
            update(Lease).where(col(Lease.name) == "reconcile:a").values(owner="another")
        )
    await leases.renew()
    await asyncio.sleep(0)
    assert readings["a"].cancelled()
    assert not readings["b"].done()
    assert leases.held == {"b"}
    readings["b"].cancel()


async def test_leases_that_cannot_be_renewed_end_what_they_cover(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.6)
    async with holding_many(store, "reconcile", "me", purpose="routine") as leases:
        await leases.take(["a"])
        reading = asyncio.create_task(asyncio.sleep(60))
        leases.cover("a", reading)
        async with store.write() as session:
            await session.execute(update(Lease).values(owner="another"))
        await asyncio.wait({reading}, timeout=20)
        assert reading.cancelled()
        assert leases.held == set()
