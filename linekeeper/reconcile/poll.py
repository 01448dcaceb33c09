"""Reading one entity of one connection to the end, page by page."""

import asyncio
from datetime import datetime

from linekeeper.clock import utcnow
from linekeeper.health.scope import DataCaller
from linekeeper.makini import TOO_LARGE, ErrorKind, MakiniError
from linekeeper.reconcile.deleting import conclude_listing
from linekeeper.reconcile.failed import note_failure
from linekeeper.reconcile.first_listing import is_baseline, is_whole_due
from linekeeper.reconcile.gathered import Listing, ListingShifted
from linekeeper.reconcile.known import successions_of
from linekeeper.reconcile.marks import (
    filter_refused_at,
    grain_of,
    is_offered,
    note_broken_off,
    note_compared,
    note_not_offered,
)
from linekeeper.reconcile.pages import PageReader, Sleep
from linekeeper.reconcile.reading import EntityReading, ReadQuestion
from linekeeper.reconcile.recount import is_count_due, note_total
from linekeeper.reconcile.succession import may_take_over, take_over
from linekeeper.reconcile.target import PollTarget
from linekeeper.reconcile.watermark import move, read_from
from linekeeper.reconcile.writer import ListingWriter
from linekeeper.runtime import Runtime
from linekeeper.spending import Purpose, spends_on
from linekeeper.store.tables import Succession, Watermark

TRIES_A_LISTING = 3

_REFUSES_FILTER = frozenset({400, 405, 406, 414, 422})
"""The statuses of a source that doesn't understand the filter; others say nothing of it."""


@spends_on(Purpose.reconcile)
async def read_entity(
    rt: Runtime,
    target: PollTarget,
    caller: DataCaller,
    entity: str,
    question: ReadQuestion,
    *,
    mark: Watermark | None,
    sleep: Sleep = asyncio.sleep,
) -> EntityReading:
    """Bring `entity` of `target`, read up to `mark`, up to date; the reading says how it went.

    Everything the source changed since the watermark is in the index afterwards, and only then the
    watermark moves, with the last page. A listing that shifts while it is read starts again from
    its first page; a page that fails in passing is asked for again; a source that refuses the time
    filter is listed whole. What came is in the index however it ends; where a whole listing of
    what was read before never reaches its end, what changed is read all the same. A failure is one
    of this entity alone, unless its kind, or the status of the connection, says that it is about
    the whole (`EntityReading.scope`). A 404 says that the system doesn't offer the entity; where it
    was read before it is a failure, until it has been answered for a day.
    """
    reading = EntityReading(entity)
    try:
        await _Reader(
            rt, target, caller, mark, question=question, reading=reading, sleep=sleep
        ).run()
    except MakiniError as error:
        partition = (rt.store, target.id, entity)
        missing = error.kind is ErrorKind.not_found
        if missing and not await is_offered(*partition, mark, now=question.run_at):
            reading.outcome = "not_offered"
            await note_not_offered(*partition, mark, now=question.run_at)
            return reading
        reading.outcome, reading.error = "failed", error
        reading.scope = await caller.scope_of(error)
        await note_failure(*partition, mark, error, scope=reading.scope, now=question.run_at)
    return reading


class _Reader:
    """Reads one entity, beginning again as often as it takes."""

    def __init__(
        self,
        rt: Runtime,
        target: PollTarget,
        caller: DataCaller,
        mark: Watermark | None,
        *,
        question: ReadQuestion,
        reading: EntityReading,
        sleep: Sleep,
    ) -> None:
        self._rt = rt
        self._pages = PageReader(rt, target, caller, reading, sleep=sleep)
        self._target = target
        self._mark = mark
        self._question = question
        self._reading = reading
        self._filter_refused_at = filter_refused_at(mark, question.run_at)
        self._succession: Succession | None = None

    async def run(self) -> None:
        waiting = await successions_of(self._rt.store, self._target.id)
        self._succession = waiting.get(self._reading.entity)
        since = None if self._is_whole_due else self._changed_since
        tries, counted, total = 0, False, None
        while True:
            tries += 1
            last = tries >= TRIES_A_LISTING
            try:
                if since is not None and is_count_due(self._mark, now=self._question.run_at):
                    counted, total = True, await self._pages.total()
                if await self._list(since, is_last=last):
                    break
                since, tries = self._changed_since, 0
            except ListingShifted:
                continue  # the last try bears it
            except MakiniError as error:
                if error.status in _REFUSES_FILTER and since is not None:
                    self._filter_refused_at, since, tries = self._question.run_at, None, 0
                elif error.code == TOO_LARGE and self._pages.ask_for_less():
                    tries = 0
                elif error.kind is not ErrorKind.malformed or last:
                    raise
        if counted and since is not None and self._mark is not None:
            partition = (self._rt.store, self._target.id, self._reading.entity)
            await note_total(*partition, self._mark, total, now=self._question.run_at)

    @property
    def _is_whole_due(self) -> bool:
        mark, now = self._mark, self._question.run_at
        return mark is None or is_whole_due(mark, now=now) or self._question.full

    @property
    def _changed_since(self) -> datetime | None:
        """From when on to ask for what changed; None where nothing but a whole listing will do."""
        mark, question = self._mark, self._question
        if mark is None or mark.position is None or not self._can_ask_since(mark.position):
            return None
        since = read_from(mark.position, mark.moved_at, mark.polled_at, grain=grain_of(mark))
        return since if question.since is None else min(since, question.since)

    async def _list(self, since: datetime | None, *, is_last: bool) -> bool:
        """One listing, from the first page to the last; False: a whole one, and it broke off.

        Raises `ListingShifted` where it shifted while being read; in the last try what was read
        counts all the same, but proves nothing gone and moves no watermark. What came before an
        error is in the index.
        """
        started = utcnow()
        reading, target = self._reading, self._target
        reading.full, reading.records, reading.written = since is None, 0, 0
        is_first = since is None and await is_baseline(
            self._rt.store, target.id, reading.entity, self._mark
        )
        writer = ListingWriter(
            self._rt,
            target,
            reading.entity,
            self._mark,
            started=started,
            run_at=self._question.run_at,
            cause=self._question.cause,
            shard=self._question.shard,
            filter_refused_at=self._filter_refused_at,
            baseline=self._succession is not None or is_first,
            succeeds=self._succession is not None,
        )
        listing = Listing(writer, writer.batch(started))
        try:
            await self._pages.read(listing, since, is_last=is_last)
            if listing.lacks and not listing.sizes.shrank:
                await self._pages.read_reversed(listing, since, is_last=is_last)
        except MakiniError:
            await writer.write(listing.batch)
            raise
        if listing.fault is not None:
            await self._break_off(listing, listing.fault, whole=since is None, started=started)
            return False
        await self._conclude(listing, whole=since is None, started=started)
        reading.compared = reading.compared or not writer.is_baseline
        return True

    async def _break_off(
        self, listing: Listing, broken: MakiniError, *, whole: bool, started: datetime
    ) -> None:
        """What is left of a listing without an end: what came of it. Raises `broken` where what
        changed can't be asked for instead."""
        reading, target = self._reading, self._target
        reading.written += await listing.writer.write(listing.batch)
        position = self._mark.position if self._mark is not None else None
        if position is None and self._succession is None:  # from there on, it all came or is new
            position = move(None, listing.writer.newest, started=started)
        if not whole or broken.fault is None or not self._can_ask_since(position):
            raise self._pages.broken(
                f"{broken.message}, {TRIES_A_LISTING} times in a row. What came is in the index, "
                "and nothing is deleted here",
                broken.fault,
            )
        reading.is_broken_off = True
        self._mark = await note_broken_off(
            self._rt.store,
            target.id,
            reading.entity,
            self._mark,
            broken.fault,
            started=started,
            position=position,
            listed=listing.count - len(listing.deleted),
            total=listing.total,
        )

    def _can_ask_since(self, position: datetime | None) -> bool:
        """Whether the source can be asked for what changed since `position`."""
        is_offered = self._mark is None or self._mark.offered
        may_filter = self._filter_refused_at is None and self._succession is None
        return position is not None and is_offered and may_filter

    async def _conclude(self, listing: Listing, *, whole: bool, started: datetime) -> None:
        """What the listing proves: the watermark moves, and a whole one says what is gone."""
        reading, target, writer = self._reading, self._target, listing.writer
        shifted = listing.sizes.shrank
        inconsistent = whole and listing.lacks and not shifted
        reading.written += await writer.finish(
            listing.batch,
            listing.sizes,
            listed=listing.count,
            deleted=len(listing.deleted),
            whole=whole,
            shifted=shifted,
            inconsistent=inconsistent,
        )
        reading.counts = writer.counts
        succession = self._succession
        if succession is not None and may_take_over(
            succession,
            doubtful=shifted
            or inconsistent
            or await target.is_in_first_sync(self._rt.store, now=started),
            now=started,
        ):
            counts = await take_over(
                self._rt,
                target,
                succession,
                deleted=list(writer.deleted.values()),
                run_at=self._question.run_at,
                shard=self._question.shard,
            )
            reading.counts += counts
            reading.compared = True
        alone, indexed = writer.wrote_all and succession is None, None
        is_conclusive = not (shifted or inconsistent or listing.keyless)
        if whole and is_conclusive and not alone:
            concluded = await conclude_listing(
                self._rt,
                target,
                reading.entity,
                listing.keys,
                started=started,
                oldest=writer.oldest,
                mark=self._mark,
                run_at=self._question.run_at,
                shard=self._question.shard,
                apart=self._question.apart,
                relist_at=writer.relist_at,
            )
            reading.counts += concluded.counts
            reading.held_back, indexed = concluded.held_back, concluded.live
        if whole and not shifted:
            await note_compared(
                self._rt.store,
                target.id,
                reading.entity,
                self._mark,
                started=started,
                total=listing.total,
                deleted=len(listing.deleted),
                indexed=indexed,
                keyless=listing.keyless > 0,
            )
