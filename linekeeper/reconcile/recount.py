"""Whether a source has records that no reading of what changed can show.

One that appears with an old `updatedAt` (imported, backdated, a permission granted) is in no answer
to "what changed since": only a whole listing shows it, and so it is with one that goes. But both
change the number of records that the source says it has, which costs one call to ask for.
"""

from contextlib import suppress
from datetime import datetime

from linekeeper.makini import MakiniClient, MakiniError
from linekeeper.reconcile.marks import confirm_at_of, count_live, save_mark, set_confirm_at
from linekeeper.reconcile.policy import POLICY
from linekeeper.store import Store
from linekeeper.store.tables import Watermark


def may_count(mark: Watermark) -> bool:
    """Whether the source's number can be compared with ours. Pure.

    Both moved together since the last whole listing, unless its total was not to be had, counts
    what is listed as deleted, is that of a window, or disagreed with its own list.
    """
    is_whole = mark.window_since is None and not mark.inconsistent and mark.broken_off is None
    return mark.count_base is not None and is_whole and mark.confirm_at is None


def relist_at(full_at: datetime | None, total: int | None) -> datetime | None:
    """From when on an entity may be listed whole, `full_at` last, because numbers differ. Pure."""
    return None if full_at is None else full_at + POLICY.relist_apart(total or 0)


def is_count_due(mark: Watermark | None, *, now: datetime) -> bool:
    """Whether to ask for the number of records. Pure.

    A number that differs is asked for again with the next reading, but where nothing may follow
    from it yet.
    """
    if mark is None or not may_count(mark):
        return False
    last = max(time for time in (mark.compared_at, mark.counted_at, now - POLICY.full) if time)
    again_at = relist_at(mark.full_at, mark.source_total)
    doubted = bool(mark.count_difference) and again_at is not None and again_at <= now
    return now - last >= (POLICY.confirm if doubted else POLICY.count) - POLICY.slack


async def ask_total(
    makini: MakiniClient, access_token: str, entity: str, *, connection: str
) -> int | None:
    """How many records the source says it has; None where it doesn't say.

    It is asked by the way: what keeps it from answering, whatever that is, the reading that
    follows will meet, or it is about this question alone.
    """
    with suppress(MakiniError):
        async for page in makini.records(access_token, entity, connection=connection, per_page=1):
            return page.total
    return None


async def note_total(
    store: Store,
    connection_id: str,
    entity: str,
    mark: Watermark,
    total: int | None,
    *,
    now: datetime,
) -> None:
    """Compare `total`, asked for right before what changed was read to its end, with what is here.

    Where the two differ by as much as after the last whole listing, nothing is missing. Where they
    don't, and had not the time before, all is listed again, as soon as `relist_at` says. A source
    that did not answer is asked again as late as one that did.
    """
    partition = (connection_id, entity)
    difference = None
    if total is not None:
        difference = total - await count_live(store, partition) - (mark.count_base or 0)
    before, again_at = mark.count_difference or 0, relist_at(mark.full_at, mark.source_total)
    is_lasting = (difference or 0) * before > 0
    async with store.write() as session:
        values = {"counted_at": now, "count_difference": difference}
        await save_mark(store, session, connection_id, entity, **values)
        if is_lasting and again_at is not None and again_at <= now:
            await set_confirm_at(session, partition, now, known=[confirm_at_of(mark)])
