"""Reading single JSON fields totally: any value gives a usable one or nothing, never an error."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

ABSOLUTE_ABOVE = 10**9
"""An `expires_in` above this is a Unix time, not a duration (Makini docs; see MAKINI "Link")."""
MILLISECONDS_ABOVE = 10**11
"""Above this a number counts milliseconds: as Unix seconds it would be the year 5138."""
FIELD_LIMIT = 2000
KEY_LIMIT = 500
"""Characters of a connection's key, id or product: PostgreSQL's index takes 2,700 bytes."""
MOST = 2**31 - 1
"""What a column of the database counts up to; some sources say it, or -1, for "not known"."""
YEARS = range(1900, 9000)
"""Systems write a day outside of them, such as 0001-01-01 or 9999-12-31, for "never"."""


def clean(value: str, limit: int = FIELD_LIMIT) -> str:
    """Return `value` without control characters, at most `limit` characters, on one line."""
    if not value.isprintable():
        value = "".join(c if c.isprintable() else " " for c in value)
    value = value.strip()
    return value if len(value) <= limit else value[: limit - 1] + "…"


def text(value: object) -> str:
    """Return a string or number as clean text; anything else as the empty string.

    Keys are opaque strings with leading zeros (Makini docs); a number is taken digit by digit.
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return str(value)


def connection_key(value: object) -> str:
    """Return a connection's key or id as clean text; the empty string for what can be none."""
    said = text(value)
    return said if len(said) <= KEY_LIMIT else ""


def number(value: object) -> float | None:
    """Return a finite number given as number or numeric text, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def count(value: object) -> int | None:
    """Return how many there are of something, else None: also for a number that counts nothing."""
    result = number(value)
    return int(result) if result is not None and 0 <= result <= MOST else None


def mapping(value: object) -> Mapping[str, Any]:
    """Return `value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def instant(value: object) -> datetime | None:
    """Return an ISO-8601 text or Unix time as an aware UTC datetime; without a zone it is UTC.

    None for a time outside of `YEARS` as well.
    """
    moment = _from_text(value) if isinstance(value, str) else None
    if moment is None:
        seconds = number(value)
        moment = None if seconds is None or seconds <= 0 else _from_unix(seconds)
    return moment if moment is not None and moment.year in YEARS else None


def _from_text(value: str) -> datetime | None:
    value = value.strip()
    if value.isdecimal() and len(value) > len("20260131"):
        return None  # a Unix time, whose digits may look like a day and an hour
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is UTC:
            return moment
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def expiry(value: object, now: datetime) -> datetime | None:
    """Return when a token with this `expires_in` ends, in UTC; None if it doesn't say.

    Above 10^9 it is an absolute Unix time (Makini docs), otherwise seconds from `now`.
    """
    seconds = number(value)
    if seconds is None or seconds <= 0:
        return None
    if seconds > ABSOLUTE_ABOVE:
        return _from_unix(seconds)
    return now + timedelta(seconds=seconds)


def _from_unix(seconds: float) -> datetime | None:
    if seconds > MILLISECONDS_ABOVE:
        seconds /= 1000
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
