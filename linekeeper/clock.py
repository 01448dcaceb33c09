"""Time, ids and chance, in one place: what a simulated world replaces; and people's zones."""

import random
import secrets
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import uuid_utils


class Clock:
    """Where this process takes time and chance from: the machine.

    A simulated world hands in its own with `use`, and replays the same run from the same seed.
    """

    def utcnow(self) -> datetime:
        """Now, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never step; only differences mean anything."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread; never call it on an event loop's thread."""
        time.sleep(seconds)

    def new_id(self) -> str:
        """A UUIDv7 as text: sorts by the time it was made."""
        return str(uuid_utils.uuid7())

    def token_bytes(self, size: int) -> bytes:
        """Bytes that nobody can guess."""
        return secrets.token_bytes(size)

    def uniform(self, low: float, high: float) -> float:
        """A number between the two, to spread work out; never for secrets."""
        return random.uniform(low, high)  # noqa: S311 - jitter


_clock = Clock()


def use(clock: Clock) -> Clock:
    """Take time and chance from `clock` from now on; returns the one before."""
    global _clock
    before, _clock = _clock, clock
    return before


def utcnow() -> datetime:
    """Now, aware, in UTC."""
    return _clock.utcnow()


def monotonic() -> float:
    """Seconds that never step; only differences mean anything."""
    return _clock.monotonic()


def sleep(seconds: float) -> None:
    """Block this thread; never call it on an event loop's thread."""
    _clock.sleep(seconds)


def new_id() -> str:
    """A UUIDv7 as text: sorts by the time it was made."""
    return _clock.new_id()


def token_bytes(size: int) -> bytes:
    """Bytes that nobody can guess."""
    return _clock.token_bytes(size)


def uniform(low: float, high: float) -> float:
    """A number between the two, to spread work out; never for secrets."""
    return _clock.uniform(low, high)


def as_utc(moment: datetime) -> datetime:
    """`moment` in UTC; one that names no zone is taken as UTC. Raises OverflowError at the ends."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def zone_of(name: str) -> ZoneInfo:
    """The time zone called `name`; UTC for one nobody knows."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")
