import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.doctor.examine import examine
from linekeeper.health.evidence import Observation as Seen
from linekeeper.health.evidence import Outcome
from linekeeper.health.service import observe
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Observation, Outbox, Transition, WebhookEvent
from tests.inbox.process.stage import Stage, about


async def test_an_auth_required_event_opens_an_incident_in_the_same_transaction(
    stage: Stage,
) -> None:
    [connection, *_] = stage.connections
    receipt = await stage.deliver(about(connection, "connection.auth_required", utcnow()))
    await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.connection_id) == ("processed", connection.id)
    assert (await stage.connection(connection)).health == "reauthorization_required"
    [incident] = await stage.incidents()
    assert incident.kind == "reauthorization_required"
    async with stage.rt.store.read() as session:
        said = select(Outbox).where(col(Outbox.channel) == "slack").order_by(col(Outbox.seq))
        slack = await session.scalars(said)
        assert [row.payload["do"] for row in slack] == ["show", "timeline"]


async def test_an_older_event_is_recorded_and_ends_stale(stage: Stage) -> None:
    [connection, *_] = stage.connections
    now = utcnow()
    await stage.deliver(about(connection, "connection.auth_required", now))
    late = await stage.deliver(
        about(connection, "connection.status_changed", now - timedelta(seconds=5), to="online")
    )
    await stage.process()
    assert (await stage.event(late.id)).status == "stale"
    assert (await stage.connection(connection)).health == "reauthorization_required"
    async with stage.rt.store.read() as session:
        rows = list(
            await session.scalars(
                select(Observation).where(
                    col(Observation.connection_id) == connection.id,
                    col(Observation.source) == "webhook",
                )
            )
        )
    assert sorted((row.outcome, row.applied) for row in rows) == [
        ("answered", False),
        ("login_lost", True),
    ]


@pytest.mark.parametrize("word", ["suspended", "paused", "disabled", "hibernating"])
async def test_a_status_word_that_names_no_cause_is_looked_into(stage: Stage, word: str) -> None:
    """It is told as none of the healths: the next sweep asks how the connection is."""
    [connection, *_] = stage.connections
    before = (await stage.connection(connection)).health
    event = await stage.deliver(about(connection, "connection.status_changed", utcnow(), to=word))
    await stage.process()
    assert (await stage.event(event.id)).status == "processed"
    now_held = await stage.connection(connection)
    assert (now_held.health, now_held.suspect) == (before, True)
    assert await stage.incidents() == []


async def test_a_late_event_that_raises_a_doubt_is_not_stale(stage: Stage) -> None:
    """Only a cached status has followed it: it makes the connection suspect, and a read decides."""
    [connection, *_] = stage.connections
    now = utcnow()
    policy = (await stage.rt.configuration()).policy
    seen = Seen(at=now, source="probe", outcome=Outcome.answered, sync_status="done")
    async with stage.rt.store.write() as session:
        await observe(stage.rt.store, session, [(connection.id, seen)], policy=policy, now=now)
    late = await stage.deliver(
        about(connection, "connection.auth_required", now - timedelta(minutes=1))
    )
    await stage.process()
    assert (await stage.connection(connection)).suspect
    assert (await stage.event(late.id)).status == "processed"


async def test_events_out_of_order_end_in_the_state_of_the_newest(stage: Stage) -> None:
    [connection, *_] = stage.connections
    now = utcnow()
    await asyncio.sleep(0.01)  # none of them is from the future
    for milliseconds, kind, word in (
        (3, "connection.status_changed", "online"),
        (1, "connection.auth_required", ""),
        (2, "connection.status_changed", "inactive"),
    ):
        await stage.deliver(
            about(connection, kind, now + timedelta(milliseconds=milliseconds), to=word)
        )
    await stage.process()
    assert (await stage.connection(connection)).health == "healthy"
    assert await stage.incidents() == []
    assert [event.status for event in await stage.events()] == ["processed", "stale", "stale"]


async def test_a_repeated_id_has_one_effect(stage: Stage) -> None:
    [connection, *_] = stage.connections
    body = about(connection, "connection.auth_required", utcnow())
    first, again = await stage.deliver(body), await stage.deliver(body)
    await stage.process()
    await stage.deliver(body)
    await stage.process()
    assert (first.id, True, False) == (again.id, first.is_new, again.is_new)
    [event] = await stage.events()
    assert event.status == "processed"
    async with stage.rt.store.read() as session:
        rows = list(
            await session.scalars(
                select(Transition).where(
                    col(Transition.connection_id) == connection.id,
                    col(Transition.source) == "webhook",
                )
            )
        )
    assert len(rows) == 1


async def test_an_event_of_an_unknown_connection_is_unrouted_and_says_so(stage: Stage) -> None:
    receipt = await stage.deliver({"id": "x", "type": "sync.completed", "connection_id": "nobody"})
    await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.error) == ("unrouted", "no connection is known as nobody")


async def test_where_nobody_is_known_as_the_body_says_the_urls_connection_counts(
    stage: Stage,
) -> None:
    [connection, two, *_] = stage.connections
    said = {"type": "connection.auth_required", "connection_id": "nobody"}
    of_url = await stage.deliver({**said, "id": "a"}, to=connection)
    of_body = await stage.deliver(
        {**said, "id": "b", "connection_id": two.makini_id}, to=connection
    )
    of_neither = await stage.deliver({**said, "id": "c"}, to="nobody-else")
    records = await stage.deliver(
        {"id": "d", "event": "assets.updated", "body": ["1"], "connection_id": "nobody"},
        to=connection,
    )
    await stage.process()
    events = [await stage.event(sent.id) for sent in (of_url, of_body, of_neither, records)]
    assert [(event.status, event.connection_id) for event in events] == [
        ("processed", connection.id),
        ("processed", two.id),
        ("unrouted", None),
        ("deferred", connection.id),
    ]
    for lost in (connection, two):
        assert (await stage.connection(lost)).health == "reauthorization_required"


async def test_the_last_webhook_of_a_connection_is_noted(stage: Stage) -> None:
    [connection, *_] = stage.connections
    receipt = await stage.deliver(about(connection, "sync.completed", utcnow(), result="success"))
    await stage.process()
    event = await stage.event(receipt.id)
    after = await stage.connection(connection)
    assert after.last_webhook_at == event.received_at
    assert after.last_sync_at == event.event_at


async def test_what_the_sandbox_announces_is_understood(stage: Stage) -> None:
    [connection, two, *_] = stage.connections
    await stage.deliver(
        about(connection, "sync.failed", utcnow(), error="The system reported an error.")
    )
    await stage.deliver(about(two, "connection.status_changed", utcnow(), to="offline"))
    await stage.process()
    assert (await stage.connection(connection)).health == "degraded"
    suspect = await stage.connection(two)
    assert (suspect.health, suspect.suspect) == ("healthy", True)


async def test_a_whole_second_is_not_older_than_a_probe_within_it(stage: Stage) -> None:
    [connection, *_] = stage.connections
    probed = (await stage.connection(connection)).last_checked_at
    assert probed is not None
    receipt = await stage.deliver(
        about(connection, "connection.auth_required", probed.replace(microsecond=0))
    )
    await stage.process()
    assert (await stage.event(receipt.id)).status == "processed"
    assert (await stage.connection(connection)).health == "reauthorization_required"


async def test_good_news_of_a_login_ends_its_incident(stage: Stage) -> None:
    [one, two, *_] = stage.connections
    for connection, event in ((one, "connection.reauthorized"), (two, "credentials_updated")):
        await stage.deliver(about(connection, "connection.auth_required", utcnow()))
        await stage.process()
        assert (await stage.connection(connection)).health == "reauthorization_required"
        receipt = await stage.deliver(about(connection, event, utcnow()))
        await stage.process()
        assert (await stage.event(receipt.id)).status == "processed"
        assert (await stage.connection(connection)).health == "healthy"
    assert {incident.status for incident in await stage.incidents()} == {"resolved"}


async def test_a_sync_that_fails_at_a_table_of_logins_asks_nobody_to_log_in(stage: Stage) -> None:
    [connection, *_] = stage.connections
    text = "Table USER_LOGIN_HISTORY does not exist"
    await stage.deliver(about(connection, "sync.failed", utcnow(), error=text))
    await stage.process()
    assert (await stage.connection(connection)).health == "degraded"


async def test_an_event_waits_weeks_for_its_app_and_is_applied_with_it(stage: Stage) -> None:
    """After a day it had been dead, and settings that came later brought it back no more."""
    [connection, *_] = stage.connections
    receipt = await stage.deliver(about(connection, "connection.auth_required", utcnow()))
    cleared = stage.rt.settings.model_copy(
        update={"makini_api_url": None, "makini_client_id": None}
    )
    async with stage.rt.store.write() as session:
        await session.execute(
            update(WebhookEvent).values(
                attempts=500, received_at=utcnow() - timedelta(weeks=3), event_at=None
            )
        )
    async with Runtime.open(cleared) as without:
        assert await process_connection_events(without)
        found = await examine(without, seconds=0.1)
    [waiting] = [each for each in found if each.name == "webhooks · app default"]
    event = await stage.event(receipt.id)
    assert (event.status, event.attempts) == ("pending", 500)
    assert timedelta(minutes=9) < event.next_attempt_at - utcnow() <= timedelta(minutes=10)
    assert waiting.text.startswith("1 webhook of it waits")
    async with stage.rt.store.write() as session:
        await session.execute(update(WebhookEvent).values(next_attempt_at=utcnow()))
    await stage.process()
    assert (await stage.event(receipt.id)).status in ("processed", "stale")


async def test_an_event_whose_app_is_in_no_settings_waits_for_it(stage: Stage) -> None:
    """Universe 206: it had been applied, and never handed on."""
    [connection, *_] = stage.connections
    receipt = await stage.deliver(about(connection, "connection.auth_required", utcnow()))
    cleared = stage.rt.settings.model_copy(
        update={"makini_api_url": None, "makini_client_id": None}
    )
    async with Runtime.open(cleared) as without:
        assert not (await without.configuration()).apps
        assert await process_connection_events(without)
    event = await stage.event(receipt.id)
    assert (event.status, event.error) == (
        "pending",
        "NotConfigured: no Makini app default is configured",
    )
    assert await stage.forwards() == []
    async with stage.rt.store.write() as session:
        await session.execute(update(WebhookEvent).values(next_attempt_at=utcnow()))
    await stage.process()
    assert (await stage.event(receipt.id)).status == "processed"
    [forward] = await stage.forwards()
    assert receipt.id in forward.dedupe_key
    assert (await stage.connection(connection)).health == "reauthorization_required"
