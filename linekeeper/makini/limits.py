"""What an answer's headers say of the call limit. Pure.

Makini's documentation names no such header. The usual ones are read where they come: the draft of
the IETF (`RateLimit-…`) and its forerunners (`X-RateLimit-…`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from linekeeper.makini.failures import retry_after
from linekeeper.makini.fields import number

LONGEST_WAIT = timedelta(seconds=60)
"""Limits are per minute (MAKINI "Data API"): whatever is said, no more is waited for."""
_AN_INSTANT = 1e9
"""Above it a reset is a Unix time, below it seconds from now."""


@dataclass(frozen=True, slots=True)
class StatedLimit:
    """What is left of a limit, by one answer. Times are UTC."""

    remaining: int
    limit: int | None = None
    resets_at: datetime | None = None


def stated_limit(headers: Mapping[str, str], now: datetime) -> StatedLimit | None:
    """The limit that `headers` state; None where they don't say what is left."""
    remaining = _figure(headers, "remaining")
    if remaining is None or remaining < 0:
        return None
    limit = _figure(headers, "limit")
    known = int(limit) if limit is not None and limit > 0 else None
    return StatedLimit(int(remaining), known, _reset(headers, now))


def closed_until(stated: StatedLimit, now: datetime) -> datetime | None:
    """Until when no call should be made; None where some are left, or no end is stated."""
    if stated.remaining > 0 or stated.resets_at is None or stated.resets_at <= now:
        return None
    return min(stated.resets_at, now + LONGEST_WAIT)


def _header(headers: Mapping[str, str], what: str) -> str | None:
    return headers.get(f"ratelimit-{what}") or headers.get(f"x-ratelimit-{what}")


def _figure(headers: Mapping[str, str], what: str) -> float | None:
    """The first number of a header such as `300, 300;w=60`."""
    value = _header(headers, what)
    return number(value.split(",")[0].split(";")[0].strip()) if value else None


def _reset(headers: Mapping[str, str], now: datetime) -> datetime | None:
    figure = _figure(headers, "reset")
    if figure is not None and figure > _AN_INSTANT:
        try:
            return datetime.fromtimestamp(figure, UTC)
        except (OverflowError, OSError, ValueError):
            return None
    seconds = retry_after(_header(headers, "reset"), now)
    return now + timedelta(seconds=seconds) if seconds is not None else None
