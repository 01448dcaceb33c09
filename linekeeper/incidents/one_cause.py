"""A part of Linekeeper that is missing is one message: what follows from it is held back.

Nobody is notified of what the missing part makes late, or leaves undone, while the incident that
says so is open, nor of a second one that says so; the first one is as severe as those that it
stands for. What is still wrong some time after its end is notified then.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store.tables import Incident
from linekeeper.store.types import UtcDateTime

MISSING = "missing"
"""In an incident's detail: the kind of part of which it says that none works."""
HOLDS_UP = "holds_up"
"""In an incident's detail: the causes of incidents that follow from it."""
FOLLOWS: Mapping[str, Collection[str]] = {
    "worker": ("run_late", "work_overdue"),
    "prefect": ("run_late", "work_overdue"),
    "consumer": ("webhooks_behind", "forward_behind"),
    "receiver": ("webhooks_silent",),
}
"""Kinds of incidents that follow from a kind of part of which none works."""
EXPLAINED = frozenset(
    {
        *(kind for kinds in FOLLOWS.values() for kind in kinds),
        *("part_silent", "pool_without_worker", "pool_not_ready", "prefect_silent"),
    }
)
UNRELATED = "parts:work:backup"
"""The cause of an incident that no part explains: an operator's own timer takes backups."""
_RELATED = select(
    col(Incident.id),
    col(Incident.kind),
    col(Incident.cause),
    col(Incident.opened_at),
    col(Incident.reopened_at),
    col(Incident.resolved_at),
    col(Incident.detail),
).where(
    col(Incident.kind).in_(sorted(EXPLAINED)),
    or_(
        col(Incident.resolved_at).is_(None),
        col(Incident.resolved_at) > bindparam("since", type_=UtcDateTime),
    ),
)


FOREVER = datetime.max.replace(tzinfo=UTC)
APP_GRACE = timedelta(minutes=15)
"""After the trouble of an app, or a missing part, what followed has so long to be well again."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """A time in which nobody is notified of an incident that is recorded: maintenance, a mute, …"""

    starts_at: datetime
    ends_at: datetime
    why: str
    cause_id: str = ""
    """The incident that stands for it meanwhile, where that is why."""


async def explained(
    session: AsyncSession, *, now: datetime, back: timedelta
) -> dict[str, list[Suppression]]:
    """Return by incident the times in which a missing part explains it.

    What ended longer than `back` ago is left out.
    """
    rows = (await session.execute(_RELATED, {"since": now - back})).all()
    following: dict[str, list[Suppression]] = {}
    for cause in rows:
        since, until = _begun(cause)[0], FOREVER
        if cause.resolved_at is not None:
            until = cause.resolved_at + APP_GRACE
        why = _NO_PART.format(cause.detail.get(MISSING)) if cause.detail.get(MISSING) else _LATE
        for row in rows:
            if follows(row, cause):
                spans = following.setdefault(row.id, [])
                spans.append(Suppression(since, until, why, cause.id))
    return following


_NO_PART = "follows from another incident: no {} works"
_LATE = "follows from another incident: its runs are late"


def follows(row: Row[Any], cause: Row[Any]) -> bool:
    """Whether the incident `row` follows from `cause`. Pure.

    Of those that say that the same part is missing the others follow from the first, if they began
    before it was over: one of that kind worked since, and is missed anew.
    """
    if row.id == cause.id or row.cause == UNRELATED:
        return False
    part = cause.detail.get(MISSING)
    if part and row.detail.get(MISSING) == part:
        return _begun(cause) < _begun(row) and _begun(row)[0] <= (cause.resolved_at or FOREVER)
    return row.kind in FOLLOWS.get(part, ()) or row.cause in cause.detail.get(HOLDS_UP, ())


def _begun(row: Row[Any]) -> tuple[datetime, str]:
    return row.reopened_at or row.opened_at, row.id
