"""The date of Makini's last synchronization may be cut to the day: it was at some time of it."""

from datetime import UTC, datetime, time, timedelta

import pytest

import sandbox
from linekeeper.clock import utcnow
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
