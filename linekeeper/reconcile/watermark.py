"""How far an entity has been read, and from where to read on. Pure; times are aware, UTC."""

from datetime import datetime, timedelta

OVERLAP = timedelta(minutes=15)
"""Read again before the watermark: a source may show a change some time after its `updatedAt`."""


def read_from(
    position: datetime, moved_at: datetime | None, polled_at: datetime | None
) -> datetime:
    """From which source time on to ask, for a watermark at `position`.

    That is `OVERLAP` before it. Once a whole run has begun more than `OVERLAP` after the run that
    moved it, what lies behind it has been read again already, and only newer changes are asked
    for: a source in which nothing changes is asked for nothing.
    """
    settled = moved_at is not None and polled_at is not None and polled_at - moved_at >= OVERLAP
    return position + timedelta(microseconds=1) if settled else position - OVERLAP


def move(
    position: datetime | None, newest: datetime | None, *, started: datetime
) -> datetime | None:
    """Where the watermark is after a run that began at `started` and read everything.

    The newest source time seen, at most `started` (a time in the future would skip what comes
    before it), and never back. Where no record has a time it stays None.
    """
    seen = [min(time, started) for time in (position, newest) if time is not None]
    return max(seen, default=None)
