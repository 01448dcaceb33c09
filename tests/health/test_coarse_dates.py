"""The date of Makini's last synchronization may be cut to the day: it was at some time of it."""

from datetime import UTC, datetime, time, timedelta

import pytest

import sandbox
from linekeeper.clock import utcnow
from linekeeper.reconnect.process import verify_login
from linekeeper.runtime import Runtime
from tests.health.test_sweep import adopt, connections, incidents, sweep


@pytest.mark.parametrize(("days", "health"), [(1, "healthy"), (2, "degraded")])
async def test_what_synced_yesterday_is_not_stale_at_midnight(
    rt: Runtime, fleet: sandbox.Served, days: int, health: str
) -> None:
    await adopt(rt, fleet)
    day = utcnow().date() - timedelta(days=days)
    for connection in fleet.world.connections.values():
        connection.sync_held_at = datetime.combine(day, time(), UTC)
        connection.cached_slot = -1
    await sweep(rt)
    assert {connection.health for connection in await connections(rt)} == {health}
    assert bool(await incidents(rt)) is (health == "degraded")


@pytest.mark.parametrize("what", ["stale", "failing"])
async def test_a_login_that_is_verified_says_nothing_of_its_synchronization(
    rt: Runtime, fleet: sandbox.Served, what: str
) -> None:
    """It was healthy for the minutes until the next sweep, which found it degraded again."""
    await adopt(rt, fleet)
    [connection, *_] = await connections(rt)
    found = fleet.world.find(connection.makini_key)
    assert found is not None
    if what == "stale":
        found.sync_held_at = utcnow() - timedelta(days=3)
        found.cached_slot = -1
    else:
        fleet.world.fail_sync(found)
    await sweep(rt)
    assert "can be read" in await verify_login(rt, connection.id)
    [connection, *_] = await connections(rt)
    assert connection.health == "degraded"
    found.sync_held_at, found.cached_slot = None, -1
    if what == "failing":
        fleet.world.mend_sync(found)
    await sweep(rt)
    [connection, *_] = await connections(rt)
    assert connection.health == "healthy"
