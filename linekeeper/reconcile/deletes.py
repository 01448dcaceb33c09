"""When a record that isn't listed any more is deleted here (MISSION B9). Pure.

Makini reports no deletions. Two complete listings must agree that a record is gone, and never so
many go at once that it looks like a source that lost its data, a filter or a permission.
"""

from datetime import datetime, timedelta
from typing import Literal

CAP_SHARE = 0.2
"""Of a connection's live records of one entity."""
SMALL = 10
"""With fewer live records than this, `SMALL_CAP` may go."""
SMALL_CAP = 2
UNDO = timedelta(days=30)

Absence = Literal["first", "agreed"]


def absence(
    absent_since: datetime | None, seen_at: datetime, *, started: datetime, decided: bool
) -> Absence | None:
    """What it means that a complete listing begun at `started` lacks a live record.

    `first`: nobody had missed it before; `agreed`: an earlier listing lacked it too. None where it
    was read since, or somebody decides about it already.
    """
    if decided or seen_at >= started:
        return None
    if absent_since is None:
        return "first"
    return "agreed" if absent_since < started else None


def cap(live: int) -> int:
    """How many of `live` records may be deleted together without asking anybody."""
    return SMALL_CAP if live < SMALL else int(live * CAP_SHARE)


def is_believed(gone: int, live: int, *, held: int = 0) -> bool:
    """Whether `gone` of `live` records are deleted at once; `held` more wait for a decision."""
    return gone + held <= cap(live)


def may_undo(applied_at: datetime, *, now: datetime) -> bool:
    """Whether a deletion can still be undone."""
    return now - applied_at <= UNDO
