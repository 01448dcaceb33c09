"""A mail that was planned for the customer's working hours goes out in them, however late."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.outbox.senders import mail as mail_sender
from linekeeper.outbox.senders.mail import mailing
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.reconnect.ending import announce_ending
from linekeeper.reconnect.mails import mail
from linekeeper.reconnect.remind import next_working_moment
from linekeeper.store.tables import Connection, Customer, Outbox
from tests.delivering import deliver_mail
from tests.reconnect.asked import link_to_set_up
from tests.reconnect.conftest import House
from tests.reconnect.post import listening
from tests.reconnect.test_ask import Opened, asking, work
from tests.reconnect.test_ending import refused
from tests.reconnect.working_clock import at, monday_morning

ZONE = "Asia/Kathmandu"
SUNDAY_NIGHT = timedelta(hours=10, minutes=41)
"""Before work begins: 22:19 there."""
FRIDAY_EVENING = timedelta(days=2, hours=16, minutes=1)
"""Before work begins: 16:59 there."""


@pytest.mark.parametrize("what", ["remind", "setup", "ending"])
async def test_a_planned_mail_that_waited_goes_out_when_work_begins(
    open_house: Opened, what: str
) -> None:
    """No consumer had run for days, and the next one begins on a Sunday night."""
    monday = monday_morning(ZONE)
    async with listening() as post:
        house = await asking(open_house, post.url)
        await _planned(house, what)
        before = len(post.mails)
        await _deliver(house, monday - SUNDAY_NIGHT)
        assert len(post.mails) == before
        [row] = await _waiting(house)
        assert (row.attempts, row.next_attempt_at, row.due_at) == (0, monday, monday)
        await _deliver(house, monday + timedelta(seconds=1))
        assert len(post.mails) == before + 1
        assert await _waiting(house) == []


async def test_what_is_urgent_does_not_wait_behind_it(open_house: Opened) -> None:
    """The customer loses another login meanwhile, and is asked for that one at once."""
    async with listening() as post:
        house = await asking(open_house, post.url)
        await _planned(house, "remind")
        before = len(post.mails)
        night = monday_morning(ZONE) - SUNDAY_NIGHT
        await _deliver(house, night)
        first, second, *_ = await house.connections()
        async with house.store.write() as session:
            await session.execute(
                update(Connection)
                .where(col(Connection.id) == second.id)
                .values(customer_id=first.customer_id)
            )
        await house.lose_login(second)
        await advance_due_cases(house.rt)
        assert len(await _waiting(house)) == 2
        await _deliver(house, night)
        assert len(post.mails) == before + 1
        assert second.provider in post.mails[-1]["Subject"]
        [row] = await _waiting(house)
        assert row.payload["do"] == "remind"


@pytest.mark.parametrize("what", ["remind", "setup"])
@pytest.mark.parametrize("beside", [False, True])
async def test_nor_behind_one_that_version_0_1_wrote(
    open_house: Opened, what: str, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That version kept all mails of a customer in one order; it planned the one for a login.

    It may write `beside` this one, whose consumer has begun already.
    """
    monday = monday_morning(ZONE)
    monkeypatch.setattr(mail_sender, "ORDER_SECONDS", 0.0)
    async with listening() as post:
        house = await asking(open_house, post.url)
        consumer = mailing(house.rt)
        if beside:
            await consumer.deliver()
        await _planned(house, what)
        before = len(post.mails)
        first, second, *_ = await house.connections()
        async with house.store.write() as session:
            await session.execute(
                update(Outbox)
                .where(col(Outbox.channel) == "email", col(Outbox.status) == "pending")
                .values(
                    ordering_key=f"email:{first.customer_id}",
                    next_attempt_at=monday if what == "setup" else utcnow(),
                )
            )
            await session.execute(
                update(Connection)
                .where(col(Connection.id) == second.id)
                .values(customer_id=first.customer_id)
            )
        await house.lose_login(second)
        await advance_due_cases(house.rt)
        with at(monday - SUNDAY_NIGHT):
            await consumer.deliver()
            await consumer.deliver()
        assert len(post.mails) == before + 1
        assert second.provider in post.mails[-1]["Subject"]
        [row] = await _waiting(house)
        assert (row.payload["do"], row.next_attempt_at) == (what, monday)


async def test_one_that_was_refused_is_tried_again_in_working_hours_and_ages(
    open_house: Opened,
) -> None:
    monday = monday_morning(ZONE)
    async with listening() as post:
        house = await asking(open_house, post.url)
        await _planned(house, "remind")
        before = len(post.mails)
        post.answer = "451 not now"
        await _deliver(house, monday - FRIDAY_EVENING)
        [refused_once] = await _waiting(house)
        assert refused_once.attempts == 1
        post.answer = "250 OK"
        await _deliver(house, monday - FRIDAY_EVENING + timedelta(minutes=6))
        [row] = await _waiting(house)
        assert (row.attempts, row.next_attempt_at) == (1, monday)
        assert (row.due_at, row.created_at) == (refused_once.due_at, refused_once.created_at)
        assert len(post.mails) == before
        await _deliver(house, monday + timedelta(seconds=1))
        assert len(post.mails) == before + 1


async def test_what_is_sent_at_once_is_sent_at_night(open_house: Opened) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url)
        [connection, *_] = await house.connections()
        await _move(house, connection)
        await house.lose_login(connection)
        await advance_due_cases(house.rt)
        assert post.mails == []
        await _deliver(house, monday_morning(ZONE) - SUNDAY_NIGHT)
        assert len(post.mails) == 1


@pytest.mark.parametrize(
    ("now", "begins"),
    [
        ("2026-10-23T18:00:00+02:00", "2026-10-26T09:00:00+01:00"),
        ("2026-03-27T18:00:00+01:00", "2026-03-30T09:00:00+02:00"),
    ],
)
def test_work_begins_at_nine_after_the_clocks_have_changed(now: str, begins: str) -> None:
    at = next_working_moment(datetime.fromisoformat(now).astimezone(UTC), "Europe/Berlin")
    assert at == datetime.fromisoformat(begins)
    assert at.tzinfo == ZoneInfo("Europe/Berlin")


async def _planned(house: House, what: str) -> None:
    """A mail of this kind waits to be sent now, to a customer in Kathmandu."""
    [connection, *_] = await house.connections()
    await _move(house, connection)
    assert connection.customer_id is not None
    if what == "ending":
        await refused(house, ends_in=timedelta(days=7) - timedelta(minutes=1))
        await announce_ending(house.rt, now=utcnow())
        return
    if what == "remind":
        await house.lose_login(connection)
        await work(house)
        [incident] = await house.incidents()
        message = mail(incident.id, 1, connection.customer_id, "remind", "1")
    if what == "setup":
        link = await link_to_set_up(house, connection)
        payload = {"do": what, "customer_id": connection.customer_id, "link_id": link.id}
        message = Message("email", f"email:setup:{link.id}:0", payload)
    async with house.store.write() as session:
        await enqueue(house.store, session, [message], now=utcnow())


async def _move(house: House, connection: Connection) -> None:
    async with house.store.write() as session:
        await session.execute(
            update(Customer)
            .where(col(Customer.id) == connection.customer_id)
            .values(time_zone=ZONE)
        )


async def _waiting(house: House) -> list[Outbox]:
    found: list[Outbox] = await house.rows(
        Outbox, col(Outbox.channel) == "email", col(Outbox.status) == "pending"
    )
    return found


async def _deliver(house: House, moment: datetime) -> None:
    """A consumer begins to run at `moment`, and delivers what was due before."""
    due = min(utcnow(), moment)
    async with house.store.write() as session:
        await session.execute(
            update(Outbox).where(col(Outbox.status) == "pending").values(next_attempt_at=due)
        )
    with at(moment):
        await deliver_mail(house.rt)
