"""After a standstill nobody is reminded of what was wrong before it until it is looked at anew."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from linekeeper.clock import utcnow
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Incident, PartHeartbeat
from linekeeper.watch.queries import beat, done
from tests.watch.test_one_cause import notified
from tests.watch.test_standby import runtime, slack

__all__ = ["runtime", "slack"]  # fixtures


async def found(rt: Runtime, topic: str, kind: str) -> None:
    """It was found two days ago."""
    finding = Finding(kind=kind, cause=f"{topic}:x", app="", title="It", text="It.", scope="house")
    async with rt.store.write() as session:
        await apply_findings(rt.store, session, topic, [finding], now=utcnow())
        before = utcnow() - timedelta(days=2)
        await session.execute(update(Incident).values(opened_at=before))


async def minutes_pass(rt: Runtime, minutes: float) -> None:
    async with rt.store.write() as session:
        now = await rt.store.clock(session)
        since = now - timedelta(minutes=minutes)
        await session.execute(update(PartHeartbeat).values(since=since, at=now))


@pytest.mark.parametrize(
    ("topic", "kind", "minutes"),
    [("stream", "webhooks_dead", 2), ("parts", "prefect_silent", 4), ("runs", "run_failed", 4)],
)
async def test_what_watchers_find_out_again_waits_for_them(
    runtime: Runtime, topic: str, kind: str, minutes: float
) -> None:
    await found(runtime, topic, kind)
    assert kind in await notified(runtime)
    await beat(runtime.store, "consumer:a", "consumer", "there")
    assert await notified(runtime) == {}
    await minutes_pass(runtime, minutes)
    assert kind in await notified(runtime)


async def test_an_entity_waits_for_the_next_reconcile(runtime: Runtime) -> None:
    await found(runtime, "entities", "entity_failing")
    await beat(runtime.store, "consumer:a", "consumer", "there")
    assert await notified(runtime) == {}
    await minutes_pass(runtime, 30)
    assert await notified(runtime) == {}
    await done(runtime.store, "reconcile")
    assert "entity_failing" in await notified(runtime)


async def test_what_is_found_since_does_not_wait(runtime: Runtime) -> None:
    await beat(runtime.store, "consumer:a", "consumer", "there")
    await found(runtime, "stream", "webhooks_dead")
    async with runtime.store.write() as session:
        await session.execute(update(Incident).values(opened_at=utcnow()))
    assert "webhooks_dead" in await notified(runtime)
