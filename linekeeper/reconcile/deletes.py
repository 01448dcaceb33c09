"""When a record that isn't listed any more is deleted here (MISSION B9). Pure.

Of a record that is gone from its listings Makini says nothing. Two complete listings must agree,
and never so many go at once that it looks like a source that lost its data, a filter or a
permission.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

CAP_SHARE = 0.2
"""The share of a connection's live records of one entity that may be deleted unasked."""
SMALL = 10
"""Below this number of live records, `SMALL_CAP` may be deleted."""
SMALL_CAP = 2
WINDOW_OLDER = 3
"""So many known records, all older than the oldest listed one, don't go by chance."""
WINDOW_LEAST = timedelta(days=7)
"""A listing that reaches no further back is no window: such a source is young, or busy."""
WINDOW_TYPICAL = timedelta(days=14), timedelta(days=100)
"""Makini's first sync covers 30 to 90 days (MAKINI): a listing that reaches back about so far may
be such a window, however few records are older."""
UNDO = timedelta(days=30)

LONGEST_FIRST_SYNC = timedelta(days=1)
"""A connection that is younger and says that it syncs is in its first sync."""

Absence = Literal["first", "again", "agreed"]


def absence(
    absent_since: datetime | None,
    seen_at: datetime,
    *,
    started: datetime,
    decided: bool,
    apart: timedelta = timedelta(0),
) -> Absence | None:
    """What it means that a complete listing begun at `started` lacks a live record.

    `first`: nobody had missed it before; `agreed`: a listing at least `apart` earlier lacked it
    too; `again`: one did, but not so long ago. None where it was read since, or somebody decides
    about it already.
    """
    if decided or seen_at >= started:
        return None
    if absent_since is None:
        return "first"
    if absent_since >= started:
        return None
    return "agreed" if started - absent_since >= apart else "again"


def is_first_sync(
    setup: str, sync_status: str | None, created_at: datetime, *, now: datetime
) -> bool:
    """Whether Makini itself says that a connection is still being read for the first time.

    Until then it lists what it has so far, and its total is of that: nothing it lacks is gone.
    """
    young = now - created_at < LONGEST_FIRST_SYNC
    return setup == "syncing" or (sync_status == "inprogress" and young)


def cap(live: int) -> int:
    """How many of `live` records may be deleted together without asking anybody."""
    return SMALL_CAP if live < SMALL else int(live * CAP_SHARE)


def is_believed(gone: int, live: int, *, held: int = 0) -> bool:
    """Whether `gone` of `live` records are deleted at once; `held` more wait for a decision.

    Never everything of an entity: an empty listing proves nothing.
    """
    return gone + held <= cap(live) and gone + held < live


def window_since(
    oldest: datetime | None, known: datetime | None, absent: Sequence[datetime], *, now: datetime
) -> datetime | None:
    """Since when a source lists what changed, if it holds a history window; None if it doesn't.

    `oldest` is the oldest time listed, `known` the window as it was last seen, `absent` the times
    of the live records of the index that were not listed. Whether what is older than the window is
    gone or only out of it nobody can tell, so it is unknown, and not deleted.
    """
    floor = oldest or known
    older = [] if floor is None else [time for time in absent if time < floor]
    if floor is None or not older:
        return None
    reach, (least, most) = now - floor, WINDOW_TYPICAL
    many = len(older) >= WINDOW_OLDER and reach >= WINDOW_LEAST
    if known is not None or many or least <= reach <= most:
        return floor
    edge = now - least  # the few records in a window may all be younger than it
    return edge if reach < least and min(older) < edge else None


def may_undo(applied_at: datetime, *, now: datetime) -> bool:
    """Whether a deletion can still be undone."""
    return now - applied_at <= UNDO
