"""Silence is a sender's: not our own absence, nor that of a login that was lost (MISSION W7)."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import delete, insert, select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.customers.succession import succeed
from linekeeper.inbox.claim import hour_of
from linekeeper.store.tables import (
    Connection,
    IncidentEntry,
    PartHeartbeat,
    ReceiverHeartbeat,
    Transition,
    WebhookHour,
)
from linekeeper.sweep.webhooks import watch_stream as watch
from tests.inbox.process.stage import Stage, about
from tests.inbox.process.test_watch import incidents

HOUR = timedelta(hours=1)


async def came(stage: Stage, connection: Connection, hours_ago: Iterable[int]) -> None:
    """Webhooks of the connection came in these hours; it has been healthy for a month."""
    now = utcnow()
    hours = sorted(hours_ago)
    async with stage.rt.store.write() as session:
        rows = [
            {"connection_id": connection.id, "hour": hour_of(now - each * HOUR), "events": 3}
            for each in hours
        ]
        await session.execute(insert(WebhookHour), rows)
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == connection.id)
            .values(
                last_webhook_at=now - hours[0] * HOUR,
                setup="live",
                health="healthy",
                health_since=now - timedelta(days=30),
            )
        )


async def received(stage: Stage, *spans: tuple[datetime, datetime]) -> None:
    """Receivers lived at these times, and at no other."""
    async with stage.rt.store.write() as session:
        await session.execute(delete(ReceiverHeartbeat))
        session.add_all(
            ReceiverHeartbeat(receiver=f"r{number}", since=since, at=until)
            for number, (since, until) in enumerate(spans)
        )


async def test_a_connection_that_falls_silent_against_its_habit_is_told(stage: Stage) -> None:
    [connection, two, *_] = stage.connections
    now = utcnow()
    await came(stage, connection, range(9, 57))
    await came(stage, two, range(48))
    await watch(stage.rt, now)
    silent = (await incidents(stage))["webhooks_silent"]
    assert (silent.title or "").endswith(f"from {connection.name}")
    await stage.deliver(about(connection, "sync.completed", now, result="success"))
    await stage.process()
    await watch(stage.rt, now)
    assert await incidents(stage) == {}


@pytest.mark.parametrize("others", [0, 1])
async def test_a_night_in_which_linekeeper_was_off_is_nobodys_silence(
    stage: Stage, others: int
) -> None:
    now = utcnow()
    month = now - timedelta(days=30)
    for connection in stage.connections[: 1 + others]:
        await came(stage, connection, range(10, 58))
    await received(stage, (month, now - 9.5 * HOUR), (now - HOUR / 10, now))
    await watch(stage.rt, now)
    assert await incidents(stage) == {}, "one call after the start nobody can be silent"

    later = now + 7 * HOUR
    await received(stage, (month, now - 9.5 * HOUR), (now - HOUR / 10, later))
    await watch(stage.rt, later)
    assert "no webhook of any connection for 8 h" in (
        (await incidents(stage))["webhooks_silent"].title or ""
    )


async def test_what_waited_through_the_night_is_not_behind_in_the_first_seconds(
    stage: Stage,
) -> None:
    now = utcnow()
    await stage.deliver(about(stage.connections[0], "sync.completed", now, result="success"))
    slept, woke = now + HOUR / 60, now + 9 * HOUR
    async with stage.rt.store.write() as session:
        sweep = PartHeartbeat(part="sweep", kind="sweep", since=now - HOUR / 12, at=now)
        session.add(sweep)
    await received(stage, (now - HOUR, slept), (woke, woke + HOUR / 120))
    await watch(stage.rt, woke + HOUR / 120)
    assert await incidents(stage) == {}
    await received(stage, (now - HOUR, slept), (woke, woke + HOUR / 10))
    await watch(stage.rt, woke + HOUR / 10)
    assert list(await incidents(stage)) == ["webhooks_behind"]


async def test_an_outage_of_ours_makes_no_habit_of_silence(stage: Stage) -> None:
    [connection, two, *_] = stage.connections
    now = utcnow()
    for each, since in ((connection, 9), (two, 0)):
        await came(stage, each, [*range(since, since + 30), *range(since + 80, since + 110)])
    lived = [(now - timedelta(days=30), now - 88 * HOUR), (now - 38 * HOUR, now)]
    await received(stage, *lived)
    await watch(stage.rt, now)
    silent = (await incidents(stage))["webhooks_silent"]
    assert (silent.title or "").endswith(f"from {connection.name}")


@pytest.mark.parametrize("others", [0, 1])
async def test_a_connection_whose_login_was_lost_has_not_been_silent(
    stage: Stage, others: int
) -> None:
    [connection, two, *_] = stage.connections
    now = utcnow()
    await came(stage, connection, range(70, 130))
    if others:
        await came(stage, two, range(60))
    async with stage.rt.store.write() as session:
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == connection.id)
            .values(health_since=now - HOUR)
        )
    await watch(stage.rt, now)
    assert await incidents(stage) == {}, "it can send anything since an hour"

    async with stage.rt.store.write() as session:
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == connection.id)
            .values(health="reauthorization_required")
        )
    await watch(stage.rt, now)
    assert await incidents(stage) == {}, "and nothing while its login is lost"


async def test_a_login_that_was_lost_makes_no_habit_of_silence(stage: Stage) -> None:
    """It was lost for two days, some days ago: a real silence was found only after four."""
    [connection, two, *_] = stage.connections
    now = utcnow()
    for each, since in ((connection, 9), (two, 0)):
        await came(stage, each, [*range(since, since + 30), *range(since + 80, since + 110)])
    lost, back = now - 88 * HOUR, now - 40 * HOUR
    async with stage.rt.store.write() as session:
        session.add_all(
            Transition(
                connection_id=connection.id, at=at, axis="health", before=before, after=after,
                source="probe",
            )
            for at, before, after in (
                (lost, "healthy", "reauthorization_required"),
                (back, "reauthorization_required", "healthy"),
            )
        )  # fmt: skip
    await watch(stage.rt, now)
    silent = (await incidents(stage))["webhooks_silent"]
    assert (silent.title or "").endswith(f"from {connection.name}")


async def test_people_are_notified_when_the_whole_app_is_silent_after_some_were(
    stage: Stage,
) -> None:
    """Two connections are not less than three hours: each is another measure."""
    [one, two, three, *_] = stage.connections
    now = utcnow()
    for each, since in ((one, 9), (two, 9), (three, 0)):
        await came(stage, each, range(since, since + 48))
    await watch(stage.rt, now)
    names = ", ".join(sorted((one.name, two.name)))
    assert await said(stage) == [f"no webhook for much longer than usual from {names}"]
    later = now + 3.3 * HOUR
    await watch(stage.rt, later)
    assert (await said(stage))[1:] == [
        "no webhook of any connection for 3 h (longest silence before: 1 h). Is the URL still set "
        "at Makini?"
    ]
    await watch(stage.rt, later + HOUR / 10)
    assert len(await said(stage)) == 2, "it is said once"


async def said(stage: Stage) -> list[str]:
    """What the timeline says, in order."""
    async with stage.rt.store.read() as session:
        return list(
            await session.scalars(select(col(IncidentEntry.text)).order_by(col(IncidentEntry.id)))
        )


async def test_a_successor_is_silent_by_the_habit_of_the_connection_before(stage: Stage) -> None:
    """It was made by a new login, and its own webhooks were never set up: nobody was notified."""
    [before, after, other, *_] = stage.connections
    now = utcnow()
    await came(stage, before, range(80, 140))
    await came(stage, other, range(48))
    lost, back = now - 80 * HOUR, now - 30 * HOUR
    async with stage.rt.store.write() as session:
        session.add(
            Transition(
                connection_id=before.id,
                at=lost,
                axis="health",
                before="healthy",
                after="reauthorization_required",
                source="probe",
            )
        )
        session.add(
            Transition(
                connection_id=after.id,
                at=back,
                axis="health",
                before="unknown",
                after="healthy",
                source="probe",
            )
        )
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == after.id)
            .values(setup="live", health="healthy", health_since=back)
        )
        await succeed(
            stage.rt.store,
            session,
            before.id,
            after.id,
            source="list",
            message="new login",
            now=back,
        )
    await watch(stage.rt, now)
    silent = (await incidents(stage))["webhooks_silent"]
    assert (silent.title or "").endswith(f"from {after.name}")


async def test_the_time_between_a_connection_and_its_successor_is_no_habit_of_silence(
    stage: Stage,
) -> None:
    [before, after, other, *_] = stage.connections
    now = utcnow()
    lost, back = now - 88 * HOUR, now - 39 * HOUR
    await came(stage, before, range(89, 120))
    await came(stage, after, range(9, 39))
    await came(stage, other, range(48))
    async with stage.rt.store.write() as session:
        session.add_all(
            Transition(
                connection_id=each.id, at=at, axis="health", before=was, after=became,
                source="probe",
            )
            for each, at, was, became in (
                (before, lost, "healthy", "reauthorization_required"),
                (after, back, "unknown", "healthy"),
            )
        )  # fmt: skip
        await succeed(
            stage.rt.store, session, before.id, after.id, source="list", message="new login",
            now=back,
        )  # fmt: skip
    await watch(stage.rt, now)
    silent = (await incidents(stage))["webhooks_silent"]
    assert (silent.title or "").endswith(f"from {after.name}")
