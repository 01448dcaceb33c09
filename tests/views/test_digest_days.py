"""Which days a digest is of: each is said once, and each month's availability is said."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.notify.view import Links
from linekeeper.store import Store, new_id
from linekeeper.store.tables import (
    AppState,
    Connection,
    Incident,
    Notice,
    Outbox,
    WebhookTrust,
)
from linekeeper.views.digest_measures import measure
from linekeeper.views.digest_page import gather, say_digest, slack_text
from linekeeper.views.digest_queries import read_lives

UTC = ZoneInfo("UTC")


async def months_said(store: Store, at: Sequence[datetime]) -> list[str]:
    """The month whose availability each digest has; empty where it has none."""
    async with store.write() as session:
        session.add(
            Connection(
                id=new_id(),
                app="default",
                makini_key="k",
                name="ECC",
                slug="ecc",
                provider="SAP",
                setup="live",
                health="healthy",
                created_at=datetime(2027, 1, 5, tzinfo=UTC),
            )
        )
    months = []
    for now in at:
        day = await gather(store, {}, now=now)
        months.append(day.availability.partition(":")[0])
        assert bool(day.availability) == ("*Availability*" in slack_text(day, Links()))
        await say_digest(store, day, Links())
    return months


async def said(store: Store) -> int:
    """How many digests were said."""
    async with store.read() as session:
        return len((await session.scalars(select(col(Outbox.id)))).all())


def on(month: int, day: int, hour: int = 7) -> datetime:
    """That hour of a day in 2027 (UTC)."""
    return datetime(2027, month, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "months"),
    [
        ([on(2, 28), on(3, 1), on(3, 2)], ["", "2027-02", ""]),
        # on working days only: the 1st of May 2027 is a Saturday
        ([on(4, 30), on(5, 3), on(5, 4)], ["", "2027-04", ""]),
        # everything was paused, or Prefect was away, for two weeks
        ([on(2, 27), on(3, 12), on(3, 13)], ["", "2027-02", ""]),
        # asked for again on the same day
        ([on(2, 28), on(3, 1), on(3, 1, 9)], ["", "2027-02", "2027-02"]),
        ([on(12, 31), datetime(2028, 1, 1, 7, tzinfo=UTC)], ["", "2027-12"]),
    ],
)
async def test_the_first_digest_of_a_month_has_the_availability_of_the_month_before(
    store: Store, at: list[datetime], months: list[str]
) -> None:
    assert await months_said(store, at) == months


@pytest.mark.parametrize(("month", "day"), [(3, 12), (11, 5)])
async def test_each_day_has_its_digest_where_clocks_change(
    store: Store, month: int, day: int
) -> None:
    """Half past four in Los Angeles is before midnight in UTC in summer, and after it in winter."""
    start = datetime(2027, month, day, 16, 30, tzinfo=ZoneInfo("America/Los_Angeles"))
    evenings = [start + timedelta(days=n) for n in range(4)]
    await months_said(store, [at.astimezone(UTC) for at in evenings])
    assert await said(store) == 4


async def test_one_asked_for_again_on_its_day_is_not_said_again(store: Store) -> None:
    await months_said(store, [on(3, 4), on(3, 4, 8), on(3, 4, 23), on(3, 5)])
    assert await said(store) == 2


async def test_a_connection_that_is_over_is_none_whose_webhooks_can_be_relied_on(
    store: Store,
) -> None:
    """Nothing measures its webhooks any more; what was measured last stays in its row."""
    async with store.write() as session:
        for setup, state in (("live", "good"), ("disconnected", "bad"), ("disconnected", "good")):
            connection = Connection(
                id=new_id(),
                app="default",
                makini_key=f"{setup}-{state}",
                name=f"{setup} {state}",
                slug=f"{setup}-{state}",
                provider="sap",
                setup=setup,
            )
            session.add(connection)
            await session.flush()
            session.add(WebhookTrust(connection_id=connection.id, state=state))
    said = slack_text(await gather(store, {}, now=on(3, 4)), Links())
    assert "*Webhook trust* 1 of 1 can be relied on\n" in said
    assert "disconnected" not in said


@pytest.mark.parametrize("order", [("first", "never"), ("never", "first")])
async def test_what_was_announced_in_one_of_its_openings_is_not_said_to_be_unannounced(
    store: Store, order: Sequence[str]
) -> None:
    """It came back within the hour, and was over before anybody was to be notified again."""
    now = on(2, 28)
    async with store.write() as session:
        incident = Incident(
            topic="health", kind="unreachable", scope="connection", cause="c", app="default",
            title="Acme · ECC", round=1, opened_at=now - timedelta(hours=2),
            reopened_at=now - timedelta(hours=1), resolved_at=now - timedelta(minutes=59),
            status="resolved",
        )  # fmt: skip
        session.add(incident)
        await session.flush()
        for number, step in enumerate(order):
            session.add(
                Notice(
                    incident_id=incident.id, channel="slack", step=step, round=number,
                    why="over before anybody was notified", at=now - timedelta(hours=2 - number),
                )
            )  # fmt: skip
            await session.flush()
    async with store.read() as session:
        [life] = await read_lives(session, now - timedelta(days=1))
    assert life.withheld == ""
    assert life.notified_at is not None


async def test_a_reopened_incident_is_measured_from_its_present_round(store: Store) -> None:
    now = datetime.now(UTC)
    async with store.write() as session:
        session.add(
            Incident(
                topic="health", kind="unreachable", scope="connection", cause="c", app="default",
                title="Acme · ECC", round=1, opened_at=now - timedelta(hours=9),
                reopened_at=now - timedelta(minutes=30), resolved_at=now - timedelta(minutes=20),
                status="resolved",
            )
        )  # fmt: skip
    async with store.read() as session:
        lives = await read_lives(session, now - timedelta(days=1))
    resolve = measure(lives, since=now - timedelta(days=1), now=now).resolve
    assert resolve is not None
    assert resolve.worst == timedelta(minutes=10)


async def test_connections_of_an_app_that_was_taken_out_are_not_counted(store: Store) -> None:
    now = datetime.now(UTC)
    async with store.write() as session:
        for app in ("default", "gone"):
            connection = Connection(
                app=app, makini_key=app, name="ECC", slug=app, provider="SAP", setup="live",
                health="healthy", evidence="listed", created_at=now,
            )  # fmt: skip
            session.add(connection)
            await session.flush()
            session.add(WebhookTrust(connection_id=connection.id, state="none"))
        session.add(AppState(app="gone", budget={}, circuit={}, removed_at=now))
    day = await gather(store, {}, now=now)
    assert (dict(day.fleet), day.listed, day.trust) == ({"healthy": 1}, 1, {"none": 1})
    assert len(day.distrusted) == 1
