"""Reading one entity of one connection to the end, page by page."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime

from linekeeper.clock import utcnow
from linekeeper.health.scope import DataCaller
from linekeeper.makini import ENDS_LOOP, TOO_LARGE, ErrorKind, MakiniError
from linekeeper.pipeline import WriteBehind, prefetch
from linekeeper.reconcile.deleting import conclude_listing
from linekeeper.reconcile.gathered import Listing, ListingBroken
from linekeeper.reconcile.identity import record_key
from linekeeper.reconcile.known import successions_of
from linekeeper.reconcile.marks import (
    filter_refused_at,
    grain_of,
    is_baseline,
    is_offered,
    note_compared,
    note_failure,
    note_not_offered,
)
from linekeeper.reconcile.policy import POLICY
from linekeeper.reconcile.reading import EntityReading, ReadQuestion
from linekeeper.reconcile.succession import may_take_over, take_over
from linekeeper.reconcile.target import PollTarget
from linekeeper.reconcile.watermark import read_from
from linekeeper.reconcile.writer import ListingWriter
from linekeeper.runtime import Runtime
from linekeeper.spending import Purpose, spends_on
from linekeeper.store.tables import Succession, Watermark
from linekeeper.tokens.caller import NoToken
from linekeeper.tokens.stored import Token

TRIES_A_PAGE = 5
TRIES_A_LISTING = 3
SMALLER = 8
"""A page too large to take is asked for again in parts of this."""
LONGEST_WAIT = 120.0
"""Seconds; a source that asks for a longer pause is left for the next run."""

_REFUSES_FILTER = frozenset({400, 405, 406, 414, 422})
"""The statuses of a source that doesn't understand the filter; others say nothing of it."""
_CONFLICTS = frozenset({409, 423, 425})
"""Somebody else is at it: it passes."""

Sleep = Callable[[float], Awaitable[None]]


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
    filter is listed whole. A failure is one of this entity alone, unless its kind, or the status
    of the connection, says that it is about the whole (`EntityReading.scope`). A 404 says that the
    system doesn't offer the entity; where it was read before it is a failure, until it has been
    answered for a day.
    """
    reading = EntityReading(entity)
    try:
        await _Reader(
            rt, target, caller, mark, question=question, reading=reading, sleep=sleep
        ).run()
    except MakiniError as error:
        place = (rt.store, target.id, entity)
        missing = error.kind is ErrorKind.not_found
        if missing and not await is_offered(*place, mark, now=question.run_at):
            reading.outcome = "not_offered"
            await note_not_offered(*place, mark, now=question.run_at)
            return reading
        reading.outcome, reading.error = "failed", error
        reading.scope = await caller.scope_of(error)
        await note_failure(*place, mark, error, scope=reading.scope, now=question.run_at)
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
        self._makini = rt.makini(target.app)
        self._target = target
        self._caller = caller
        self._mark = mark
        self._question = question
        self._reading = reading
        self._sleep = sleep
        self._failures = 0
        self._filter_refused_at = filter_refused_at(mark, question.run_at)
        self._per_page = target.app.per_page
        self._succession: Succession | None = None

    async def run(self) -> None:
        waiting = await successions_of(self._rt.store, self._target.id)
        self._succession = waiting.get(self._reading.entity)
        since = self._since()
        tries = 0
        while True:
            tries += 1
            last = tries >= TRIES_A_LISTING
            try:
                await self._list(since, bear_shifts=last)
                return
            except ListingBroken as error:
                if last:
                    raise self._broken(str(error)) from error
            except MakiniError as error:
                if error.status in _REFUSES_FILTER and since is not None:
                    self._filter_refused_at, since, tries = self._question.run_at, None, 0
                elif error.code == TOO_LARGE and self._per_page > 1:
                    self._per_page, tries = max(1, self._per_page // SMALLER), 0
                elif error.kind is not ErrorKind.malformed or last:
                    raise

    def _since(self) -> datetime | None:
        mark, question = self._mark, self._question
        if question.full or mark is None or mark.position is None or self._succession is not None:
            return None
        if self._filter_refused_at is not None or not mark.offered:
            return None
        if POLICY.is_full_due(mark.full_at, mark.confirm_at, now=question.run_at):
            return None
        since = read_from(mark.position, mark.moved_at, mark.polled_at, grain=grain_of(mark))
        return since if question.since is None else min(since, question.since)

    async def _list(self, since: datetime | None, *, bear_shifts: bool) -> None:
        """One listing, from the first page to the last.

        Raises `ListingBroken` where it shifted while being read; with `bear_shifts` what was read
        counts all the same, but proves nothing gone and moves no watermark.
        """
        started = utcnow()
        reading, target = self._reading, self._target
        reading.full, reading.records, reading.written = since is None, 0, 0
        is_first = await is_baseline(self._rt.store, target.id, reading.entity, self._mark)
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
        await self._read_pages(listing, since, bear_shifts=bear_shifts)
        if listing.lacks and not listing.sizes.shrank:
            await self._read_reversed(listing, since, bear_shifts=bear_shifts)
        await self._conclude(listing, whole=since is None, started=started)
        reading.compared = reading.compared or not writer.is_baseline

    async def _read_pages(
        self,
        listing: Listing,
        since: datetime | None,
        *,
        bear_shifts: bool,
        reverse: bool = False,
    ) -> None:
        """Read every page, and write what is full."""
        reading, target, writer, sizes = (
            self._reading, self._target, listing.writer, listing.sizes,
        )  # fmt: skip
        bodies = reading.entity in target.app.bodies
        token = await self._caller.prepared()
        if token is None:
            raise NoToken(target.app.name, target.ref)
        pages = self._makini.records(
            token.access,
            reading.entity,
            connection=target.ref,
            since=since,
            per_page=self._per_page,
            again=self._again,
            reverse=reverse,
        )
        came = keyless = 0
        try:
            async with WriteBehind() as writing, aclosing(prefetch(pages)) as listed:
                async for page, asked_at in listed:
                    self._failures = 0
                    self._caller.answered()
                    if listing.batch.is_full:
                        reading.written += await writing.then(writer.write(listing.batch))
                        listing.batch = writer.batch(asked_at)
                    added = listing.batch.add(page.records, bodies=bodies)
                    listing.keys.update(added)
                    listing.deleted.update(listing.batch.deleted_of(added))
                    if len(added) < len(page.records):
                        keyless += sum(record_key(record) is None for record in page.records)
                    reading.records += len(page.records)
                    came += 1
                    sizes.record_total(page.total)
                    if sizes.shrank and not bear_shifts:
                        raise ListingBroken(f"records went while it was read ({sizes.last} left)")
                reading.written += await writing.done()
        except MakiniError as error:
            if came and error.kind in ENDS_LOOP:
                refused = f"page {came + 1} was refused ({error.status})"
                raise ListingBroken(refused) from error
            raise
        finally:
            listing.keyless = max(listing.keyless, keyless)

    async def _read_reversed(
        self, listing: Listing, since: datetime | None, *, bear_shifts: bool
    ) -> None:
        """Read it again in reversed order, to what came already: what slips between two pages in
        one order doesn't in the other. A source that refuses the order is read as before."""
        try:
            await self._read_pages(listing, since, bear_shifts=bear_shifts, reverse=True)
        except MakiniError as error:
            if error.kind is not ErrorKind.rejected:
                raise
            await self._read_pages(listing, since, bear_shifts=bear_shifts)

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
                started=started,
                run_at=self._question.run_at,
                shard=self._question.shard,
            )
            reading.counts.add(counts)
            reading.compared = True
        alone, indexed = writer.wrote_all and succession is None, None
        proves = not (shifted or inconsistent or listing.keyless)
        if whole and proves and not alone:
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
            reading.counts.add(concluded.counts)
            reading.held_back, indexed = concluded.held_back, concluded.live
        if whole and not shifted:
            await note_compared(
                self._rt.store,
                target.id,
                reading.entity,
                self._mark,
                started=started,
                total=listing.total,
                indexed=indexed,
                keyless=listing.keyless > 0,
            )

    async def _again(self, error: MakiniError) -> str | None:
        """What to ask for a failed page with, after the pause it needs; None to give up."""
        self._failures += 1
        if self._failures >= TRIES_A_PAGE:
            return None
        if error.kind is ErrorKind.unauthorized and error.connection is not None:
            return _access(await self._caller.after(error))
        passes = error.retryable or error.status in _CONFLICTS
        if not passes or error.kind is ErrorKind.circuit_open:
            return None
        wait = max(error.retry_after or 0.0, 2.0 ** (self._failures - 1))
        if wait > LONGEST_WAIT:
            return None
        await self._sleep(wait)
        return _access(await self._caller.prepared())

    def _broken(self, reason: str) -> MakiniError:
        return MakiniError(
            ErrorKind.malformed,
            f"{reason}, {TRIES_A_LISTING} times in a row",
            app=self._target.app.name,
            connection=self._target.ref,
            retryable=True,
        )


def _access(token: Token | None) -> str | None:
    return token.access if token is not None else None
