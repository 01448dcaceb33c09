"""The time at which people work, or don't, on whatever day and at whatever hour the tests run."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import Clock, use, utcnow
from linekeeper.store import Store
from linekeeper.store.tables import Outbox


class MovedClock(Clock):
    """It runs as the machine's, from another moment on."""

    def __init__(self, since: datetime) -> None:
        self._moved = since - datetime.now(UTC)

    def utcnow(self) -> datetime:
        return datetime.now(UTC) + self._moved


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """This process believes that it is `moment`; a database with a clock of its own does not."""
    before = use(MovedClock(moment))
    try:
        yield
    finally:
        use(before)


async def due_now(store: Store) -> None:
    """Messages that are due by the moved clock are due by a database's own clock, too."""
    async with store.write() as session:
        await session.execute(
            update(Outbox)
            .where(col(Outbox.status) == "pending", col(Outbox.next_attempt_at) <= utcnow())
            .values(next_attempt_at=datetime.now(UTC) - timedelta(minutes=1))
        )


def monday_morning(zone: str) -> datetime:
    """When the first week to come begins at work: at nine in `zone`."""
    now = datetime.now(UTC).astimezone(ZoneInfo(zone))
    monday = now.date() - timedelta(days=now.weekday())
    morning = datetime.combine(monday, time(9), ZoneInfo(zone))
    return (morning if morning > now else morning + timedelta(days=7)).astimezone(UTC)
