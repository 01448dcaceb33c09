"""The moments at which something that is tried for days is tried."""

from collections.abc import Iterator
from datetime import timedelta

from linekeeper.outbox.sender import NOBODY_THERE


def attended(start: timedelta, end: timedelta) -> Iterator[timedelta]:
    """From `start` to `end`, close enough that somebody was there all the time."""
    while start < end:
        yield start
        start += NOBODY_THERE * 0.9
    yield end
