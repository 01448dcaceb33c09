"""An app's call budget as `app_state.budget` keeps it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from linekeeper.makini.budget import Bucket


def read_bucket(row: dict[str, Any]) -> Bucket | None:
    """The bucket as `app_state.budget` keeps it; None for an app that has not called yet."""
    if "tokens" not in row:
        return None
    blocked, yielded, waited, person = (
        datetime.fromisoformat(row[name]) if row.get(name) else None
        for name in ("blocked_until", "yielded_at", "waited_at", "person_waited_at")
    )
    return Bucket(
        tokens=float(row["tokens"]),
        at=datetime.fromisoformat(row["at"]),
        blocked_until=blocked,
        yielded_at=yielded,
        spare=float(row.get("spare", 0.0)),
        waited_at=waited,
        person_waited_at=person,
    )


def stated_in_words(row: Mapping[str, Any]) -> str:
    """What Makini last said of its limit, as `app_state.budget` keeps it; empty: nothing. Pure."""
    stated = row.get("stated")
    if not stated:
        return ""
    at = datetime.fromisoformat(stated["at"])
    of = f" of {stated['limit']:,}" if stated.get("limit") else ""
    return f"Makini said at {at:%Y-%m-%d %H:%M} UTC: {stated['remaining']:,} calls{of} left"


def bucket_of(row: dict[str, Any], name: str | None, now: datetime) -> Bucket | None:
    """The bucket of all calls, or of those called `name`, with the pause that is for both."""
    pause = row.get("blocked_until")
    bucket = read_bucket({**(row.get(name, {}) if name else row), "blocked_until": pause})
    if bucket is None and pause:
        return Bucket(0.0, now, datetime.fromisoformat(pause))
    return bucket


def bucket_row(bucket: Bucket) -> dict[str, Any]:
    person = bucket.person_waited_at
    return {
        "tokens": bucket.tokens,
        "at": bucket.at.isoformat(),
        "blocked_until": bucket.blocked_until.isoformat() if bucket.blocked_until else None,
        "yielded_at": bucket.yielded_at.isoformat() if bucket.yielded_at else None,
        "spare": bucket.spare,
        "waited_at": bucket.waited_at.isoformat() if bucket.waited_at else None,
        "person_waited_at": person.isoformat() if person else None,
    }
