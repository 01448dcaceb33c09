"""The stream's own incidents, as the sweep opens and resolves them (MISSION W7)."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.inbox.tally import Tally
from linekeeper.inbox.unrouted import route_again
from linekeeper.incidents.lifecycle import Opening, open_new
from linekeeper.incidents.operate import mute
from linekeeper.store import new_id
from linekeeper.store.tables import Connection, Incident, IncidentEntry, Outbox, WebhookEvent
from linekeeper.sweep.stream_queries import LAG_SAMPLE, read_streams
from linekeeper.sweep.webhooks import watch_stream as watch
from linekeeper.views.webhook_figures import read_figures
from linekeeper.views.webhooks_page import webhooks_markdown
from tests.inbox.process.stage import Stage

SHOW = "show Makini what is said of it."


async def incidents(stage: Stage) -> dict[str, Incident]:
    """Those that are open, by kind."""
    async with stage.rt.store.read() as session:
        rows = await session.scalars(
            select(Incident).where(
                col(Incident.topic) == "stream", col(Incident.resolved_at).is_(None)
            )
        )
        return {row.kind: row for row in rows}


async def notified(stage: Stage) -> int:
    """How many Slack messages were written or rewritten."""
    async with stage.rt.store.read() as session:
        rows = await session.scalars(select(Outbox).where(col(Outbox.channel) == "slack"))
        return len(list(rows))


async def entries_of(stage: Stage, incident: str) -> list[str]:
    """The timeline of an incident."""
    of = select(col(IncidentEntry.text)).where(col(IncidentEntry.incident_id) == incident)
    async with stage.rt.store.read() as session:
        return list(await session.scalars(of))


async def shift(stage: Stage, **values: object) -> None:
    async with stage.rt.store.write() as session:
        await session.execute(update(WebhookEvent).values(**values))


async def test_dead_events_are_one_incident_that_ends_when_they_are_replayed(
    stage: Stage,
) -> None:
    [connection, *_] = stage.connections
    await stage.deliver({"id": "d1", "event": "moon.rising"}, to=connection)
    await stage.process()
    now = utcnow()
    changed = await watch(stage.rt, now)
    first = (await incidents(stage))["webhooks_dead"]
    assert changed == [first.id]
    assert (first.scope, first.app) == ("app", "default")
    assert first.title is not None
    assert "1 dead webhook" in first.title
    before = await notified(stage)
    assert before > 0

    await watch(stage.rt, now)
    assert await notified(stage) == before, "what is known is not told again"
    for number in range(2, 5):
        await stage.deliver({"id": f"d{number}", "event": "moon.rising"}, to=connection)
    await stage.process()
    assert await watch(stage.rt, now) == [first.id], "twice as many is news"
    assert "4 dead webhooks" in ((await incidents(stage))["webhooks_dead"].title or "")

    await shift(stage, status="processed")
    await watch(stage.rt, utcnow())
    assert await incidents(stage) == {}
    async with stage.rt.store.read() as session:
        entries = await session.scalars(select(IncidentEntry.text).order_by(col(IncidentEntry.id)))
        assert list(entries)[-1] == "No webhook is dead any more that a replay can help."


@pytest.mark.parametrize("body", [b"[1, 2]", b"{}", b"no json \xff"])
async def test_a_webhook_that_cannot_be_read_is_told_for_a_day_and_asks_for_no_replay(
    stage: Stage, body: bytes
) -> None:
    await stage.deliver(body)
    await stage.process()
    now = utcnow()
    await watch(stage.rt, now)
    first = (await incidents(stage))["webhooks_dead"]
    assert first.title == "app default · 1 dead webhook with a body that cannot be read"
    assert "run replay-webhooks" not in first.summary
    page = webhooks_markdown(await read_figures(stage.rt.store, ["default"], now=now))
    assert "replay-webhooks" not in page
    assert f"The body of 1 webhook cannot be read, and a replay does not help it: {SHOW}" in page
    await stage.deliver({"id": "d1", "event": "moon.rising"}, to=stage.connections[0])
    await stage.process()
    page = webhooks_markdown(await read_figures(stage.rt.store, ["default"], now=now))
    assert "then run `replay-webhooks`" in page
    assert SHOW in page
    await watch(stage.rt, now)
    both = (await incidents(stage))["webhooks_dead"].summary
    assert both.startswith(
        "1 dead webhook and 1 dead webhook with a body that cannot be read. The artifact"
    )
    await shift(stage, processed_at=now - timedelta(days=1, minutes=1))
    await watch(stage.rt, now)
    assert "body" not in (await incidents(stage))["webhooks_dead"].summary


async def test_what_waits_for_an_event_that_is_tried_again_is_not_the_consumers_doing(
    stage: Stage,
) -> None:
    """A consumer runs, and Makini doesn't give what the first event of the connection names."""
    first, other, *_ = stage.connections
    for number in range(3):
        await stage.deliver({"id": f"w{number}", "event": "assets.updated"}, to=first)
    await shift(stage, received_at=utcnow() - timedelta(minutes=17))
    async with stage.rt.store.write() as session:
        oldest = await session.scalar(
            select(col(WebhookEvent.id)).order_by(col(WebhookEvent.id)).limit(1)
        )
        await session.execute(
            update(WebhookEvent)
            .where(col(WebhookEvent.id) == oldest)
            .values(attempts=5, error="does not answer")
        )
    await watch(stage.rt, utcnow())
    assert "webhooks_behind" not in await incidents(stage)
    await stage.deliver({"id": "other", "event": "assets.updated"}, to=other)
    await watch(stage.rt, utcnow() + timedelta(minutes=6))
    assert "webhooks_behind" in await incidents(stage)


@pytest.mark.parametrize("applied", [False, True])
async def test_what_waited_for_its_connection_to_be_known_is_not_the_consumers_doing(
    stage: Stage, applied: bool
) -> None:
    """A new app's webhooks come before its connections are read for the first time."""
    [connection, *_] = stage.connections
    async with stage.rt.store.write() as session:
        row = await session.get_one(Connection, connection.id)
        row.makini_key, row.makini_id = "not-yet", None
    await stage.deliver({"event": "assets.updated", "body": ["a"]}, to="new-one")
    await stage.process()
    [event] = await stage.events()
    assert event.status == "unrouted"
    await shift(stage, received_at=event.received_at - timedelta(minutes=10))
    async with stage.rt.store.write() as session:
        (await session.get_one(Connection, connection.id)).makini_key = "new-one"
    assert await route_again(stage.rt.store, now=utcnow()) == 1
    if applied:
        await stage.process()
        assert [event.status for event in await stage.events()] == ["processed"]
    await watch(stage.rt, utcnow())
    assert "webhooks_behind" not in await incidents(stage)


async def test_what_is_unrouted_is_told_only_after_it_was_looked_at_again(stage: Stage) -> None:
    await stage.deliver({"id": "u", "type": "sync.completed", "connection_id": "nobody"})
    await stage.process()
    await watch(stage.rt, utcnow())
    assert await incidents(stage) == {}
    await watch(stage.rt, utcnow() + timedelta(minutes=40))
    assert "webhooks_unrouted" in await incidents(stage)
    async with stage.rt.store.read() as session:
        said = await session.scalars(select(col(Incident.summary)))
        assert any("no connection that is known, such as nobody. " in text for text in said)


async def test_what_came_before_its_connection_was_listed_is_not_failing(stage: Stage) -> None:
    await stage.deliver_all(
        [({"id": f"e{n}", "type": "sync.completed", "connection_id": "a"}, None) for n in range(13)]
    )
    await stage.process()
    async with stage.rt.store.write() as session:
        session.add(
            Connection(
                id=new_id(), app="default", makini_key="a", name="A", slug="a", provider="UpKeep"
            )
        )
    assert await route_again(stage.rt.store, now=utcnow()) == 13
    await watch(stage.rt, utcnow())
    assert await incidents(stage) == {}


async def test_an_event_nobody_takes_is_told_by_its_age(stage: Stage) -> None:
    await stage.deliver({"id": "w", "event": "assets.updated", "body": ["1"]})
    await watch(stage.rt, utcnow())
    assert await incidents(stage) == {}
    later = utcnow() + timedelta(minutes=6)
    await watch(stage.rt, later)
    incident = (await incidents(stage))["webhooks_behind"]
    assert "1 webhook waiting, the oldest for 6 min" in (incident.title or "")
    await stage.process()
    await watch(stage.rt, later)
    assert "webhooks_behind" not in await incidents(stage)


async def test_a_burst_of_bad_signatures_is_one_incident_and_passes(stage: Stage) -> None:
    now = utcnow()
    tally = Tally()
    for _ in range(500):
        tally.count("default", "bad_signature")
    tally.count("", "unknown_app")
    await tally.flush(stage.rt.store, now=now)
    await watch(stage.rt, now)
    forged = (await incidents(stage))["webhooks_forged"]
    assert (forged.title or "").endswith(
        "500 deliveries in a row had an invalid signature, and none was accepted since"
    )
    await watch(stage.rt, now + timedelta(minutes=20))
    assert "webhooks_forged" in await incidents(stage), "none was accepted since"
    [connection, *_] = stage.connections
    await stage.deliver({"id": "d1", "event": "assets.updated", "body": []}, to=connection)
    await stage.process()
    await watch(stage.rt, now + timedelta(minutes=20))
    assert "webhooks_forged" not in await incidents(stage)


async def test_a_message_that_would_be_untrue_is_rewritten_without_another_notice(
    stage: Stage,
) -> None:
    now, tally = utcnow(), Tally()
    for _ in range(30):
        tally.count("default", "bad_signature")
    await tally.flush(stage.rt.store, now=now - timedelta(minutes=2))
    [forged] = await watch(stage.rt, now)
    delivery = {"id": "d1", "event": "assets.updated", "body": []}
    await stage.deliver(delivery, to=stage.connections[0])
    await stage.process()
    entries = await entries_of(stage, forged)
    assert forged in await watch(stage.rt, now), "the message said that none was accepted since"
    title = (await incidents(stage))["webhooks_forged"].title or ""
    assert title.endswith("in ten minutes had an invalid signature")
    assert await entries_of(stage, forged) == entries
    assert forged not in await watch(stage.rt, now)


@pytest.mark.parametrize("cause", ["no_secret", "bad_signature", "stale_timestamp", "no_id"])
async def test_ten_refused_deliveries_with_none_accepted_since_are_enough(
    stage: Stage, cause: str
) -> None:
    now = utcnow()
    tally = Tally()
    for _ in range(9):
        tally.count("default", cause)
    await tally.flush(stage.rt.store, now=now - timedelta(hours=6))
    await watch(stage.rt, now)
    assert await incidents(stage) == {}
    tally.count("default", cause)
    await tally.flush(stage.rt.store, now=now - timedelta(hours=2))
    await watch(stage.rt, now)
    refused = (await incidents(stage))["webhooks_forged"]
    assert ("Compare the clocks" in refused.summary) == (cause == "stale_timestamp")


async def test_a_wrong_secret_is_not_over_because_nothing_comes_any_more(stage: Stage) -> None:
    """Makini gives a delivery up after a day: a quiet account had been told that it is over."""
    now = utcnow()
    tally = Tally()
    for _ in range(12):
        tally.count("default", "bad_signature")
    await tally.flush(stage.rt.store, now=now - timedelta(minutes=2))
    for days in (0, 2, 6.9):
        await watch(stage.rt, now + timedelta(days=days))
        assert "webhooks_forged" in await incidents(stage), days
    [connection, *_] = stage.connections
    await stage.deliver({"id": "d1", "event": "assets.updated", "body": []}, to=connection)
    await stage.process()
    await watch(stage.rt, now + timedelta(days=2))
    assert "webhooks_forged" not in await incidents(stage)


async def test_refused_deliveries_of_a_day_ago_open_nothing(stage: Stage) -> None:
    now = utcnow()
    tally = Tally()
    for _ in range(12):
        tally.count("default", "bad_signature")
    await tally.flush(stage.rt.store, now=now - timedelta(hours=25))
    await watch(stage.rt, now)
    assert await incidents(stage) == {}


async def test_a_mute_outlives_what_the_watch_writes_and_others_topics_are_untouched(
    stage: Stage,
) -> None:
    [connection, *_] = stage.connections
    now = utcnow()
    await stage.deliver({"id": "d1", "event": "moon.rising"}, to=connection)
    await stage.process()
    await watch(stage.rt, now)
    dead = (await incidents(stage))["webhooks_dead"]
    await mute(stage.rt.store, dead.id, 4, by="Ada", now=now)
    async with stage.rt.store.write() as session:
        opening = Opening(
            topic="webhooks",
            kind="webhooks_unconfigured",
            scope="connection",
            cause=f"connection:{connection.id}:webhooks",
            app="default",
            title="Acme · webhooks apparently unconfigured",
            summary="No webhook came.",
            members={connection.id: "webhooks_unconfigured"},
        )
        other = await open_new(stage.rt.store, session, opening, now=now)
    for number in range(2, 9):
        await stage.deliver({"id": f"d{number}", "event": "moon.rising"}, to=connection)
    await stage.process()
    await watch(stage.rt, now + timedelta(minutes=1))
    dead = (await incidents(stage))["webhooks_dead"]
    assert dead.muted_until == now + timedelta(hours=4)
    assert "8 dead webhooks" in dead.summary
    async with stage.rt.store.read() as session:
        unconfigured = await session.get(Incident, other)
        assert unconfigured is not None
        assert unconfigured.resolved_at is None


async def test_webhooks_that_were_applied_late_are_over_once_they_are_applied_in_time_again(
    stage: Stage,
) -> None:
    """What waited while no consumer ran is applied: nothing that comes now is late."""
    connection = stage.connections[0]
    late = [
        await stage.deliver({"id": f"l{number}", "event": "sync.completed"}, to=connection)
        for number in range(20)
    ]
    await stage.process()
    now = utcnow()
    ids = [receipt.id for receipt in late]
    waited = {"received_at": now - timedelta(minutes=7), "processed_at": now}
    async with stage.rt.store.write() as session:
        await session.execute(
            update(WebhookEvent).where(col(WebhookEvent.id).in_(ids)).values(**waited)
        )
    await watch(stage.rt, now + timedelta(seconds=30))
    assert "webhooks applied 7 min after they came, in the last 5 min" in (
        (await incidents(stage))["webhooks_behind"].title or ""
    )
    await watch(stage.rt, now + timedelta(minutes=6))
    assert await incidents(stage) == {}


async def tried_in_vain(stage: Stage) -> None:
    """What waits was tried once, and is to be tried again."""
    failed = {"attempts": 1, "error": "the database is away"}
    async with stage.rt.store.write() as session:
        await session.execute(
            update(WebhookEvent).where(col(WebhookEvent.status) == "pending").values(**failed)
        )


async def test_dead_webhooks_are_one_incident_and_none_of_those_that_are_tried_again(
    stage: Stage,
) -> None:
    for number in range(6):
        await stage.deliver({"id": f"d{number}", "event": "moon.rising"})
    await stage.process()
    await watch(stage.rt, utcnow())
    assert list(await incidents(stage)) == ["webhooks_dead"]


async def test_a_canary_is_none_of_the_webhooks_of_which_a_share_fails(stage: Stage) -> None:
    await stage.deliver({"id": "c", "event": "linekeeper.canary"})
    await stage.process()
    for number in range(5):
        await stage.deliver({"id": f"d{number}", "event": "sync.completed"})
    await tried_in_vain(stage)
    await watch(stage.rt, utcnow())
    title = (await incidents(stage))["webhooks_failing"].title or ""
    assert "5 webhooks failing, to be tried again (5 came" in title


async def test_the_page_names_what_is_tried_again_and_says_why(stage: Stage) -> None:
    for number in range(5):
        await stage.deliver({"id": f"d{number}", "event": "sync.completed"})
    untried = webhooks_markdown(await read_figures(stage.rt.store, ["default"], now=utcnow()))
    assert "## To be tried again" not in untried
    await tried_in_vain(stage)
    await watch(stage.rt, utcnow())
    assert "webhooks_failing" in await incidents(stage)
    page = webhooks_markdown(await read_figures(stage.rt.store, ["default"], now=utcnow()))
    _, _, named = page.partition("## To be tried again")
    assert named.count("| sync.completed | the database is away |") == 5


async def test_two_sweeps_at_once_open_each_incident_once(stage: Stage) -> None:
    import asyncio

    await stage.deliver({"id": "d", "event": "moon.rising"}, to=stage.connections[0])
    await stage.process()
    await asyncio.gather(*(watch(stage.rt, utcnow()) for _ in range(4)))
    assert list(await incidents(stage)) == ["webhooks_dead"]


async def test_an_app_whose_events_wait_is_seen_beside_a_busy_one(stage: Stage) -> None:
    now = utcnow()
    lags = [("sick", 600)] * 30 + [("busy", 1)] * LAG_SAMPLE
    async with stage.rt.store.write() as session:
        session.add_all(
            WebhookEvent(
                app=app, delivery_key=f"d{number}", kind="records", ordering_key="", attempts=1,
                status="processed", received_at=now - timedelta(seconds=lag), processed_at=now,
            )
            for number, (app, lag) in enumerate(lags)
        )  # fmt: skip
    async with stage.rt.store.read() as session:
        streams = await read_streams(session, ["busy", "sick"], now=now)
    assert {stream.app: stream.lag_seconds for stream in streams} == {"busy": 1, "sick": 600}
