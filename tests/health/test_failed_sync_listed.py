"""Where only Makini's list could contradict it, Makini's own event that a sync failed stands."""

from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

import sandbox
from linekeeper.clock import utcnow
from linekeeper.config import HealthPolicy
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.health.evidence import Health, Judged, Observation, Outcome
from linekeeper.health.judge import judge
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.meaning import EventNames
from linekeeper.runtime import Runtime
from linekeeper.store import new_id

from .test_contradictions import first, incidents, sweep

NOW = datetime.fromisoformat("2026-06-02T10:00:00+00:00")


async def announced(rt: Runtime, event: str) -> None:
    """Makini sends a webhook about the first connection, and the consumer applies it."""
    connection, app, now = await first(rt), await rt.app("default"), utcnow()
    body: dict[str, Any] = {
        "event": event,
        "id": new_id(),
        "connection_id": connection.makini_key,
        "timestamp": now.isoformat(),
    }
    raw = orjson.dumps(body)
    names = EventNames(app.entities, app.event_kinds)
    identity = identify(app.name, names, {}, connection.makini_key, raw, now=now)
    async with Intake.open(rt.store) as intake:
        await intake.store(make_delivery(new_id(), app.name, identity, raw, received_at=now))
    while await process_connection_events(rt):
        pass


async def test_in_observe_a_sync_that_failed_lasts_until_makini_says_that_one_succeeded(
    watcher: Runtime, fleet: sandbox.Served
) -> None:
    await sweep(watcher)
    await announced(watcher, "sync.failed")
    for _ in range(3):
        connection = await first(watcher)
        assert (connection.health, connection.judged["degraded_by"]) == ("degraded", "sync_failing")
        await sweep(watcher)
    [incident] = await incidents(watcher)
    assert (incident.kind, incident.status) == ("degraded", "open")
    await announced(watcher, "sync.completed")
    await sweep(watcher)
    assert (await first(watcher)).health == "healthy"
    [incident] = await incidents(watcher)
    assert incident.status == "resolved"


@pytest.mark.parametrize("swept", [False, True])
async def test_a_sync_that_fails_does_not_say_that_a_lost_login_works(
    watcher: Runtime, swept: bool
) -> None:
    """Universe 35229: it was said to be found again, and the connection to be `degraded`."""
    await sweep(watcher)
    await announced(watcher, "connection.auth_required")
    if swept:  # the list goes on saying active, and nothing may be read to settle it
        await sweep(watcher)
    health = "unknown" if swept else "reauthorization_required"
    assert (await first(watcher)).health == health
    await announced(watcher, "sync.failed")
    assert (await first(watcher)).health == health
    await announced(watcher, "sync.completed")
    assert (await first(watcher)).health == "healthy"


def failed() -> Judged:
    """A connection without a token, listed as active, of which Makini said that a sync failed."""
    event = Observation(at=NOW, source="webhook", outcome=Outcome.sync_failing)
    return judge(listed(Judged(), timedelta()), event, HealthPolicy()).judged


def listed(judged: Judged, later: timedelta, word: str = "active", **also: Any) -> Judged:
    """`judged` after the list was read so much later."""
    seen = Observation(
        at=NOW + later,
        source="list",
        outcome=Outcome.listed,
        lifecycle=word,
        decisive=True,
        unread=True,
        **also,
    )
    return judge(judged, seen, HealthPolicy()).judged


@pytest.mark.parametrize("source", ["later", "connected", "anew"])
def test_what_is_news_since_says_that_it_works(source: str) -> None:
    state = failed()
    assert listed(state, timedelta(hours=30)).health is Health.degraded
    match source:
        case "later":  # the longest interval is a day: two of them brought no further word
            state = listed(state, timedelta(hours=49))
        case "connected":
            at = NOW + timedelta(minutes=5)
            state = listed(state, timedelta(minutes=10), connected_at=at)
        case "anew":
            state = listed(listed(state, timedelta(minutes=5), "inactive"), timedelta(minutes=10))
    assert (state.health, state.degraded_by) == (Health.healthy, "")
