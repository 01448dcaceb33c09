"""Whether a record differs from the index only in how its dates are written. Pure.

A source may write one moment as ISO-8601 with or without a zone or a fraction, or as Unix seconds
or milliseconds, and change that for all of its records at once. The index holds a hash of what was
read, so a record is written in each of these forms until one has that hash.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson

from linekeeper.makini.fields import instant
from linekeeper.reconcile.compare import KnownRecord, ReadRecord
from linekeeper.reconcile.identity import content, content_hash

_UPDATED = ("updatedAt", "updated_at")
_COARSEST = timedelta(seconds=1)
"""What the coarsest form, Unix seconds, leaves out of a moment."""


def _iso(fraction: str, zone: str) -> Callable[[datetime], str]:
    return lambda at: f"{at.isoformat(timespec=fraction).removesuffix('+00:00')}{zone}"


_FORMS: tuple[Callable[[datetime], str | int], ...] = (
    *(
        _iso(fraction, zone)
        for zone in ("Z", "+00:00", "")
        for fraction in ("auto", "milliseconds", "microseconds", "seconds")
    ),
    lambda at: int(at.timestamp()),
    lambda at: round(at.timestamp() * 1000),
)


def differs_in_dates_alone(known: KnownRecord, reading: ReadRecord, text: bytes) -> bool:
    """Whether `reading`, whose JSON is `text`, says of the same moments what the index holds."""
    if known.deleted or known.time is None or reading.time is None:
        return False
    if abs(known.time - reading.time) >= _COARSEST:
        return False
    try:
        record: dict[str, Any] = orjson.loads(text)
    except ValueError:
        return False
    updated = {name: known.time for name in _UPDATED if record.get(name) is not None}
    written = {record[name] for name in updated}
    dates = {
        name: at
        for name, value in record.items()
        if name.endswith(("At", "_at")) and (at := instant(value)) is not None
    } | updated
    return any(
        content_hash(content(record | {name: form(at) for name, at in moments.items()}))
        == known.hash
        for form in _FORMS
        # Another moment in the same form is a change, however little later it is.
        if known.time == reading.time or form(reading.time) not in written
        for moments in (dates, updated)
    )
