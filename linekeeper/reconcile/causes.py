"""Why a change was not announced in time: by the sender's doing, by an outage of our own, since the
customer's system was out of Makini's reach, or since its first sync brought it. Pure.

What is measured is when a change was found, when its delivery came and when we could be reached.
Where the source gives no time, or a coarse one, it is only known between which moments something
changed; what may have changed in an outage is not held against the sender.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

AWAY = timedelta(minutes=2)
"""Shorter absences are a restart; senders ask again after 30 s (Makini docs)."""
STANDSTILL = timedelta(minutes=15)
"""For less than this the sweeps before and after say how a connection was."""
BEAT = timedelta(seconds=30)
"""So long after its last sign of life a receiver may have lived on."""
CANARIES = 3
"""So many are needed before it is known how often they come."""
CANARIES_EVERY = timedelta(minutes=5)
"""None is expected oftener than Linekeeper sends its own: some that somebody sends one after the
other, by hand, make no rhythm."""
CANARIES_LACKING = 2.5
"""So many times their usual interval without one, and without any delivery, is an outage."""

NOTICED = timedelta(minutes=15)
"""So long before a connection is known to be down, and after it is known to be up, it may be."""

OUTAGE = "outage"
"""Changed while no receiver of ours could store."""
DOWN = "down"
"""Changed while Makini could not get at the customer's system, and so could announce nothing."""
FIRST_SYNC = "first_sync"
"""Read for the first time, by Makini or by us: there before anybody could announce it."""


@dataclass(frozen=True, slots=True)
class Window:
    """A time that has to be read again."""

    since: datetime
    until: datetime

    @property
    def length(self) -> timedelta:
        return self.until - self.since


class Stored(NamedTuple):
    """A time in which one receiver could store."""

    since: datetime
    until: datetime
    receiver: str


def absences(
    spans: Iterable[tuple[datetime, datetime]], *, now: datetime | None = None
) -> list[Window]:
    """The gaps of at least `AWAY` between `spans` in which some receiver could store. Pure.

    A time before the first span is none: nobody knows of it. With `now` the time since the last
    one is an absence that isn't over.
    """
    windows: list[Window] = []
    reached: datetime | None = None
    for since, until in sorted(spans):
        if reached is not None and since - reached >= AWAY:
            windows.append(Window(reached, since))
        reached = until if reached is None else max(reached, until)
    if now is not None and reached is not None and now - reached >= AWAY:
        windows.append(Window(reached, now))
    return windows


def stood_still(
    window: Window, spans: Collection[Stored], sweeps: tuple[datetime, datetime] | None
) -> bool:
    """Whether nothing of ours ran in the absence `window`. Pure.

    No sweep was completed in it (`sweeps` is when the last two were, the later last), and no
    receiver went on after it: one that does only lost the database, or its clock was changed.
    """
    if sweeps is None or window.length < STANDSTILL:
        return False
    before = {span.receiver for span in spans if span.since <= window.since}
    if any(span.receiver in before for span in spans if span.until >= window.until):
        return False
    last = next((at for at in reversed(sweeps) if at < window.until), None)
    return last is not None and last <= window.since + BEAT


def usual_step(came: Iterable[tuple[datetime, str]]) -> timedelta | None:
    """How long it usually takes from one canary to the next; `came` has their apps, in order. Pure.

    Those of several apps come together. Those of one may come from here and from another machine,
    seconds apart: of two steps that follow each other the longer one counts.
    """
    by_app: dict[str, list[datetime]] = {}
    for at, app in came:
        by_app.setdefault(app, []).append(at)
    usual = []
    for moments in by_app.values():
        if len(moments) < CANARIES:
            continue
        steps = [later - earlier for earlier, later in pairwise(moments)]
        longer = sorted(max(pair) for pair in pairwise(steps))
        usual.append(longer[(len(longer) - 1) // 2])
    return max(min(usual), CANARIES_EVERY) if usual else None


def canary_gaps(came: Sequence[datetime], step: timedelta, *, now: datetime) -> list[Window]:
    """Where canaries that come every `step` are missing: from the first missing one on. Pure.

    The last gap may not be over.
    """
    longest = max(step * CANARIES_LACKING, AWAY)
    return [
        Window(last + step, following)
        for last, following in pairwise([*came, now])
        if following - last > longest
    ]


def overlap(window: Window, other: Window) -> timedelta:
    """How much of it both have. Pure."""
    return max(min(window.until, other.until) - max(window.since, other.since), timedelta())


def changed_between(
    updated_at: datetime | None,
    found_at: datetime,
    *,
    read_before: datetime | None,
    grain: timedelta | None,
) -> Window:
    """Between which moments a change became visible, that was found at `found_at`. Pure.

    `read_before` is when the entity was last read before. What the source says it changed before
    that, and was not seen then, it showed only later.
    """
    grain = grain or timedelta()
    earliest = read_before if read_before is not None and read_before < found_at else found_at
    if updated_at is None or updated_at > found_at:
        return Window(earliest, found_at)
    if earliest < found_at and updated_at + grain < earliest:
        return Window(earliest, found_at)
    return Window(updated_at, min(found_at, updated_at + grain))


def dates_before(
    known_at: datetime | None, updated_at: datetime | None, *, grain: timedelta | None
) -> bool:
    """Whether the source says of a new record that it is older than its connection is here. Pure.

    Nothing could be sent to us then; a first listing that shifted lacked it. No `known_at`: it is
    no new record.
    """
    if known_at is None or updated_at is None:
        return False
    return updated_at + (grain or timedelta()) < known_at


def downtimes(
    transitions: Iterable[tuple[datetime, str, str]], down: Collection[str]
) -> list[Window]:
    """When a connection was in one of the states `down`, and as long as it may have been before
    and after; `transitions` (when, from what, to what) are in order. Pure."""
    windows: list[Window] = []
    since: datetime | None = None
    for at, before, after in transitions:
        if since is None and before in down:
            since = datetime.min.replace(tzinfo=at.tzinfo) + NOTICED + AWAY
        if since is None and after in down:
            since = at
        elif since is not None and after not in down:
            windows.append(Window(since - NOTICED, at + NOTICED))
            since = None
    if since is not None:
        windows.append(Window(since - NOTICED, datetime.max.replace(tzinfo=since.tzinfo) - AWAY))
    return windows


def is_in(outages: Iterable[Window], changed: Window) -> bool:
    """Whether something that `changed` then may have been announced in one of them. Pure.

    A little before and after counts too: a delivery takes a moment, and a sender that was refused
    pauses.
    """
    return any(
        changed.since <= outage.until + AWAY and changed.until >= outage.since - AWAY
        for outage in outages
    )
