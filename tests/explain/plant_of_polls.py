"""Causes planted that lie with polls, and with the connection itself."""

from datetime import timedelta

from linekeeper.clock import utcnow
from linekeeper.housekeeping import prune
from linekeeper.store.tables import (
    ApiKey,
    FeedRead,
)
from tests.explain.planting import (
    Planted,
    fall,
    mark,
    recovered,
    set_connection,
    subject,
    write,
)
from tests.inbox.process.stage import Stage


async def outside_the_window(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which, window_since=utcnow() - timedelta(days=60)))
    return Planted(await subject(stage, which, "old-1"), "outside_window", "poll", "makini")


async def listed_in_part(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which, listed=40, source_total=60, indexed=40, inconsistent=2))
    return Planted(await subject(stage, which, "p-1"), "listing_incomplete", "poll", "makini")


async def entity_failing(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which, failures=3, failing_since=utcnow(), error="403 forbidden"))
    return Planted(await subject(stage, which, "e-1"), "entity_failing", "poll", "makini")


async def entity_not_offered(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which, offered=False))
    return Planted(await subject(stage, which, "n-1"), "entity_not_offered", "poll", "makini")


async def never_polled(stage: Stage) -> Planted:
    which = stage.connections[0]
    return Planted(await subject(stage, which, "p-1"), "never_polled", "poll", "us")


async def never_seen(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which))
    return Planted(await subject(stage, which, "x-1"), "never_seen", "source", "customer")


async def login_lost(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which))
    await fall(stage, which, "reauthorization_required")
    return Planted(await subject(stage, which, "l-1"), "login_lost", "poll", "customer")


async def login_lost_of_a_known_record(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which), recovered(which, "l-2")[0])
    await fall(stage, which, "reauthorization_required")
    return Planted(await subject(stage, which, "l-2"), "login_lost", "poll", "customer")


async def unreachable_with_a_known_record(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which), recovered(which, "u-2")[0])
    await fall(stage, which, "unreachable")
    return Planted(await subject(stage, which, "u-2"), "system_unreachable", "poll", "customer")


async def entity_failing_of_a_known_record(stage: Stage) -> Planted:
    which = stage.connections[0]
    failing = mark(which, failures=3, failing_since=utcnow(), error="403 forbidden")
    await write(stage, failing, recovered(which, "e-2")[0])
    return Planted(await subject(stage, which, "e-2"), "entity_failing", "poll", "makini")


async def not_connected(stage: Stage) -> Planted:
    which = stage.connections[0]
    await set_connection(stage, which, setup="authorizing")
    return Planted(await subject(stage, which, "a-1"), "not_connected", "source", "customer")


async def disconnected(stage: Stage) -> Planted:
    which = stage.connections[0]
    await set_connection(stage, which, setup="disconnected")
    return Planted(await subject(stage, which, "d-1"), "disconnected", "source", "customer")


async def baseline(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, recovered(which, "b-1")[0])
    return Planted(await subject(stage, which, "b-1"), "baseline", None, "nobody")


async def read_from_the_feed(stage: Stage) -> Planted:
    which, key = stage.connections[0], ApiKey(name="crm", digest="x", created_by="tests")
    rows = recovered(which, "f-1", op="rekeyed", recovered=False, position=7)
    read = FeedRead(key_id=key.id, after=3, upto=9)
    await write(stage, *rows, key, read)
    return Planted(await subject(stage, which, "f-1"), "product_accepted", None, "product")


async def too_long_ago(stage: Stage) -> Planted:
    which = stage.connections[0]
    rows = recovered(which, "o-1", op="rekeyed", recovered=False)
    now = utcnow()
    rows[1].at = now - timedelta(days=40)
    await write(stage, *rows)
    ago = now - timedelta(days=14)
    await prune(stage.rt.store, outbox_before=ago, observations_before=ago, traces_before=ago)
    return Planted(await subject(stage, which, "o-1"), "not_recorded", None, "nobody")
