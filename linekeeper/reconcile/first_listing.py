"""An entity that was never listed whole: what of it is only there now, and what is news.

A first listing may break off, again and again. What came of it is in the index, what changed since
is asked for, and the rest is listed later.
"""

from datetime import datetime
from typing import Any

from linekeeper.reconcile.compare import Comparison
from linekeeper.reconcile.marks import is_known
from linekeeper.reconcile.policy import POLICY
from linekeeper.reconcile.upsert import ChangeSet
from linekeeper.reconcile.watermark import OVERLAP
from linekeeper.store import Store
from linekeeper.store.tables import Watermark


def is_whole_due(mark: Watermark, *, now: datetime) -> bool:
    """Whether to list the entity of `mark` whole. Pure."""
    return POLICY.is_full_due(mark.full_at, mark.confirm_at, polled_at=mark.polled_at, now=now)


def news_from(mark: Watermark | None) -> datetime | None:
    """From which source time on a record that is not known is a new one, while an entity was never
    listed whole; None: no time is. What is older had merely not been listed yet. Pure."""
    return None if mark is None or mark.moved_at is None else mark.moved_at - OVERLAP


async def is_baseline(
    store: Store, connection_id: str, entity: str, mark: Watermark | None
) -> bool:
    """Whether the next complete listing is the first: it says nothing in the feed.

    It is for an entity never listed whole. One that was not offered and is again is compared with
    what is known of it, unless nothing but webhooks said so.
    """
    if mark is None or mark.full_at is None:
        return True
    if mark.offered:
        return False
    was_listed = mark.listed is not None or mark.position is not None
    return not was_listed or not await is_known(store, connection_id, entity)


def news_of(change_set: ChangeSet, mark: Watermark | None) -> list[dict[str, Any]]:
    """What changed since the first listing of an entity began: whatever differs from what came
    before, and new records. Others had merely not been listed yet. Pure."""
    since = news_from(mark)

    def is_new(key: str) -> bool:
        time = change_set.latest[key].time
        return since is not None and time is not None and time > since

    return [
        change
        for change in change_set.new
        if change["op"] != Comparison.inserted or is_new(change["key"])
    ]
