"""The time, in one place: aware, UTC; and the zones people live in."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def utcnow() -> datetime:
    """Now, aware, in UTC."""
    return datetime.now(UTC)


def zone_of(name: str) -> ZoneInfo:
    """The time zone called `name`; UTC for one nobody knows."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")
