"""That a login ends is said in the customer's working hours; out of them, rather than too late."""

from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.reconnect.ending import announce_ending
from linekeeper.store.tables import Customer
from tests.delivering import deliver_mail
from tests.reconnect.conftest import House
from tests.reconnect.post import listening
from tests.reconnect.test_ask import Opened, asking
from tests.reconnect.test_ending import refused
from tests.reconnect.test_kills import with_slack
from tests.reconnect.test_working_hours import FRIDAY_EVENING, SUNDAY_NIGHT, ZONE
from tests.reconnect.working_clock import at, due_now, monday_morning

FRIDAY_NIGHT = FRIDAY_EVENING - timedelta(hours=4)


async def test_operators_read_it_in_the_customers_working_hours_however_late(
    open_house: Opened,
) -> None:
    """No consumer ran when it was due, and the next one begins on a Sunday night."""
    monday = monday_morning(ZONE)
    async with listening() as post:
        house = await _ends(open_house, post.url, monday + timedelta(days=2))
        friday = monday - FRIDAY_EVENING - timedelta(hours=3)
        await announce_ending(house.rt, now=friday)
        await _deliver(house, monday - SUNDAY_NIGHT)
        assert (_said(house), post.mails) == ([], [])
        await _deliver(house, monday + timedelta(seconds=1))
        [text] = _said(house)
        assert "sent late" not in text
        assert len(post.mails) == 1


async def test_what_ends_before_work_begins_is_said_at_once(open_house: Opened) -> None:
    """It is found on a Friday night that the login ends on Sunday."""
    monday = monday_morning(ZONE)
    async with listening() as post:
        house = await _ends(open_house, post.url, monday - timedelta(hours=20))
        await announce_ending(house.rt, now=monday - FRIDAY_NIGHT)
        await _deliver(house, monday - FRIDAY_NIGHT)
        assert (len(_said(house)), len(post.mails)) == (1, 1)


async def test_what_waited_and_ends_before_work_begins_is_said_once_somebody_is_there(
    open_house: Opened,
) -> None:
    """It was due on Friday afternoon, and the consumer is back on Friday night."""
    monday = monday_morning(ZONE)
    async with listening() as post:
        house = await _ends(open_house, post.url, monday - timedelta(hours=20))
        await announce_ending(house.rt, now=monday - FRIDAY_EVENING - timedelta(hours=3))
        await _deliver(house, monday - FRIDAY_NIGHT)
        assert (len(_said(house)), len(post.mails)) == (1, 1)


async def _ends(open_house: Opened, url: str, ends_at: datetime) -> House:
    """A login that Makini refuses to renew ends then, of a customer in Kathmandu."""
    house = await asking(open_house, url)
    await with_slack(house)
    connection, _ = await refused(house, ends_in=ends_at - utcnow())
    async with house.store.write() as session:
        await session.execute(
            update(Customer)
            .where(col(Customer.id) == connection.customer_id)
            .values(time_zone=ZONE)
        )
    return house


async def _deliver(house: House, moment: datetime) -> None:
    """A consumer begins to run at `moment`, and delivers what is due."""
    with at(moment):
        await due_now(house.store)
        await deliver_mail(house.rt)
        await deliver_due(house.store, await house.rt.configuration(), "tests")


def _said(house: House) -> list[str]:
    """What Slack shows of logins that end."""
    texts = [str(message["text"]) for message in house.fleet.world.slack.snapshot()]
    return [text for text in texts if "its login ends on" in text]
