"""Writing what was listed, some hundred records a transaction; the watermark with the last."""

from datetime import datetime, timedelta
from typing import Any
from weakref import WeakSet

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.clock import utcnow
from linekeeper.outbox.forward import RecoveredChange, forward_changes
from linekeeper.reconcile.accounting import Before, Counts, count_due
from linekeeper.reconcile.compare import Comparison, was_announced
from linekeeper.reconcile.deliveries import delivered_since, unrouted_since
from linekeeper.reconcile.first_listing import news_from, news_of
from linekeeper.reconcile.identity import identifying_fields
from linekeeper.reconcile.late import announce_deferred, was_left_alone
from linekeeper.reconcile.listing import BATCH_RECORDS, Sizes, WriteBatch, in_order
from linekeeper.reconcile.marks import (
    WELL,
    compared,
    confirm_at_of,
    grain_of,
    is_known,
    save_mark,
    set_confirm_at,
)
from linekeeper.reconcile.matching import MatchRow
from linekeeper.reconcile.queries import known_records, lock_feed, write_records
from linekeeper.reconcile.succession_queries import quiet_keys
from linekeeper.reconcile.target import PollTarget
from linekeeper.reconcile.upsert import ChangeSet, Read, diff, record_row, write
from linekeeper.reconcile.watermark import Grain, move
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Watermark

GATHERED = 50_000
"""Records that all first listings of this process gather, to write them in the order of their keys:
neighbours share pages, and a million keys in any order would dirty each page many times over. As
many again may be under way to the index. With more, what is written at the end of a listing, beside
which nothing is read, takes longer, and the index of their numbers, which come in an order of their
own, dirties more pages."""
DELIVERY_DAYS = 3
COARSE = timedelta(minutes=1)
"""From this coarseness of a clock on, other contents at the same time are an ordinary change."""
DELIVERY_MARGIN = timedelta(hours=1)
"""A delivery may come this long before the change it announces can be read."""


class ListingWriter:
    """Writes one listing of one entity.

    The first complete listing is the `baseline`: it fills the index and says nothing in the feed.
    """

    def __init__(
        self,
        rt: Runtime,
        target: PollTarget,
        entity: str,
        mark: Watermark | None,
        *,
        started: datetime,
        run_at: datetime,
        cause: str | None,
        shard: str | None = None,
        filter_refused_at: datetime | None,
        baseline: bool,
        succeeds: bool = False,
    ) -> None:
        self._store = rt.store
        self._target = target
        self._entity = entity
        self._mark = mark
        self._started = started
        self._run_at = run_at
        self._cause = cause
        self._shard = shard
        self._filter_refused_at = filter_refused_at
        self.is_baseline = baseline
        self._is_first = baseline or mark is None or mark.full_at is None
        # Until its records are compared with those of the one before, it is to be listed again.
        self._succeeds = succeeds
        # When an entity that was not offered was asked for, nothing of it was read.
        self._polled_at = mark.polled_at if mark is not None and mark.offered else None
        self._partition = (target.id, entity)
        self._bodies = entity in target.app.bodies
        self._fields = identifying_fields(target.app.natural_keys, entity)
        if self.is_baseline:
            _baselines.add(self)
        self.deleted: dict[str, MatchRow] = {}
        """What was listed as deleted, by key, where it is to be compared with the one before."""
        self._is_fresh: bool | None = None
        self.newest: datetime | None = None
        self.oldest: datetime | None = None
        """The newest and the oldest source time seen."""
        self._grain = Grain(grain_of(mark))
        self._found_older = False
        """Something differed that had changed before the last listing began."""
        self.relist_at: datetime | None = None
        """After `finish`: when to list it again, since nothing says yet from when on to ask, or
        since the source's own total is another number."""
        self.counts = Counts()

    def batch(self, asked_at: datetime) -> WriteBatch:
        """An empty batch, as large as is good."""
        share = GATHERED // len(_baselines) if self.is_baseline and not self._bodies else 0
        return WriteBatch(asked_at, self._fields, most=max(BATCH_RECORDS, share))

    async def write(self, batch: WriteBatch) -> int:
        """Bring `batch` into the index, which empties it; returns how many were written."""
        written = 0
        for read in in_order(self._seen(batch)):
            written += await self._write(read)
        return written

    async def _write(self, read: dict[str, Read]) -> int:
        """One transaction, none where nothing differs."""
        if not self.is_baseline and not await self._differs(read):
            return 0
        if self.is_baseline and news_from(self._mark) is None and await self._insert(read):
            return len(read)
        async with self._store.write() as session:
            return await self._apply(session, read)

    async def finish(
        self,
        batch: WriteBatch,
        sizes: Sizes,
        *,
        listed: int,
        deleted: int,
        whole: bool,
        shifted: bool,
        inconsistent: bool,
    ) -> int:
        """The same for the last batch, and the watermark moves in its transaction.

        `listed` different keys came, `deleted` of them as such. A listing that `shifted` moves
        nothing, and a `whole` one is repeated in the next run; one that may have lost a record
        between two pages moves it no further than to the listing before, and only if that one had
        lost nothing: two that agree.
        An `inconsistent` one has fewer records than the source's own total: it proves nothing gone.
        """
        earlier, pieces = 0, in_order(self._seen(batch))
        read = next(pieces)
        for piece in pieces:
            earlier += await self._write(read)
            read = piece
        mark = self._mark
        async with self._store.write() as session:
            written = earlier + await self._apply(session, read)
            since, started = self._polled_at, self._started
            if self._cause is not None or was_left_alone(since, started):
                whose = self._partition
                await announce_deferred(self._store, session, *whose, since=since, started=started)
            grain = self._grain.learned
            proved = not shifted and sizes.is_consistent(
                listed, self.newest, started=started, grain=grain
            )
            # A source that dates nothing any more: a filter by time would find nothing.
            is_undated = whole and not shifted and listed > deleted and self.newest is None
            position = None if is_undated else self._position(proved=proved, shifted=shifted)
            agreed = proved or not (shifted or self._found_older)
            settled = agreed and mark is not None and position == mark.position
            again = shifted or (position is None and self.newest is not None)
            whole_values: dict[str, Any] = {"full_at": self._full_at}
            if whole and not shifted:
                total = None if sizes.last is None else sizes.last - deleted
                whole_values |= compared(
                    mark, self._started, listed - deleted, total, inconsistent=inconsistent
                )
            if whole and (again or self._succeeds):
                whole_values["confirm_at"] = self._started
            self.relist_at = whole_values.pop("confirm_at", None)
            self.counts = await count_due(
                self._store, session, self._target.id, self._entity,
                run_at=self._run_at, cause=self._cause, shard=self._shard,
                before=Before(self._polled_at, grain),
            )  # fmt: skip
            await save_mark(
                self._store, session, self._target.id, self._entity,
                position=position,
                moved_at=mark.moved_at if settled and mark is not None else self._started,
                polled_at=self._started,
                run_at=None if self.is_baseline else self._run_at,
                **whole_values,
                offered=True,
                filtered=self._filter_refused_at is None,
                filter_refused_at=self._filter_refused_at,
                grain_seconds=grain.total_seconds() if grain is not None else None,
                **WELL,
            )  # fmt: skip
            if self.relist_at is not None:
                known = [confirm_at_of(mark)]
                await set_confirm_at(session, self._partition, self.relist_at, known=known)
        return written

    @property
    def _full_at(self) -> datetime | None:
        return self._started if self.is_baseline or self._mark is None else self._mark.full_at

    def _position(self, *, proved: bool, shifted: bool) -> datetime | None:
        held = self._mark.position if self._mark is not None else None
        if proved:
            return move(held, self.newest, started=self._started)
        if shifted or self.is_baseline or self._found_older:
            return held
        until = self._polled_at
        return held if until is None else move(held, self.newest, started=until)

    async def _insert(self, read: dict[str, Read]) -> bool:
        """Insert `read` where nothing was in the index before this listing; whether that went.

        It does not where a key came already, on an earlier page or by a webhook.
        """
        if self._is_fresh is None:
            self._is_fresh = not await is_known(self._store, *self._partition)
        if not self._is_fresh:
            return False
        now = utcnow()
        bodies = self._bodies
        rows = [
            record_row(key, reading, bodies=bodies)
            for key, reading in read.items()
            if not reading.deleted
        ]
        try:
            async with self._store.write() as session:
                if not self._store.is_sqlite:  # there a writing transaction is alone anyway
                    await lock_feed(self._store, session, self._target.id)
                await write_records(
                    self._store, session, {self._partition: rows}, seen_at=now, replacing=False
                )
        except IntegrityError:
            self._is_fresh = False
            return False
        return True

    @property
    def wrote_all(self) -> bool:
        """Whether the index holds this listing and nothing else."""
        return bool(self._is_fresh)

    def _seen(self, batch: WriteBatch) -> dict[str, Read]:
        self._grain.observe(known := [it.time for it in batch.read.values() if it.time is not None])
        if known:
            self.oldest = min(*known, self.oldest or known[0])
            self.newest = max(*known, self.newest or known[0])
        if self._succeeds:
            self.deleted |= {key: _row(key, it) for key, it in batch.read.items() if it.deleted}
        return batch.read

    async def _differs(self, read: dict[str, Read]) -> bool:
        """Whether anything of it would be written; a look without any lock."""
        async with self._store.read() as session:
            return _writes(await self._diff(session, read, utcnow()))

    async def _apply(self, session: AsyncSession, read: dict[str, Read]) -> int:
        if not read or not _writes(await self._diff(session, read, utcnow())):
            return 0  # and nobody need be locked out to know that
        last = await lock_feed(self._store, session, self._target.id)
        now = utcnow()
        change_set = await self._diff(session, read, now)
        self._note_older(change_set)
        if self._is_first:
            change_set.new = [] if self._succeeds else news_of(change_set, self._mark)
        if change_set.new:
            await self._keep_quiet(session, change_set)
            await self._explain(session, change_set)
            for seq, change in enumerate(change_set.new, start=last + 1):
                change["seq"] = seq
        await write(self._store, session, {self._partition: change_set}, at=now)
        if not change_set.new:
            return len(change_set.rows)
        await forward_changes(
            self._store,
            session,
            self._target.app,
            [self._recovered(change) for change in change_set.new if change["recovered"]],
            now=utcnow(),
        )
        return len(change_set.rows)

    def _note_older(self, change_set: ChangeSet) -> None:
        polled_at = self._polled_at
        if polled_at is not None and not self._found_older:
            times = (reading.time for reading in change_set.latest.values())
            self._found_older = any(time is None or time <= polled_at for time in times)

    async def _diff(self, session: AsyncSession, read: dict[str, Read], now: datetime) -> ChangeSet:
        keys = {self._partition: list(read)}
        known = (await known_records(self._store, session, keys))[self._partition]
        return diff(*self._partition, read, known, now=now, bodies=self._bodies)

    async def _keep_quiet(self, session: AsyncSession, change_set: ChangeSet) -> None:
        """Leave out what waits for a person to say which record it is."""
        if not change_set.new:
            return
        keys = {self._partition: [change["key"] for change in change_set.new]}
        waiting = (await quiet_keys(self._store, session, keys)).get(self._partition) or set()
        change_set.new = [change for change in change_set.new if change["key"] not in waiting]

    async def _explain(self, session: AsyncSession, change_set: ChangeSet) -> None:
        """Say of each change whether a delivery had come for it, or it was missed."""
        if not change_set.new:
            return
        now = utcnow()
        oldest = now - timedelta(days=DELIVERY_DAYS)
        is_coarse = (self._grain.learned or timedelta()) >= COARSE
        since = max(oldest, (self._polled_at or oldest) - DELIVERY_MARGIN)
        own, waits_in = (self._target.id, self._entity), self._target.ordering_keys
        new = {each["key"] for each in change_set.new if each["op"] == Comparison.inserted}
        delivered = await delivered_since(session, *own, waits_in, since=since, new=new)
        left = {change["key"] for change in change_set.new} - delivered.keys()
        nameless = await unrouted_since(session, self._target.app.name, *own, left, since=since)
        for change in change_set.new:
            key = change["key"]
            read, came_at = (change_set.before[key], change_set.latest[key]), delivered.get(key)
            if was_announced(*read, came_at, now=now):
                change.update(announced_at=came_at, due="seen")
            elif was_announced(*read, nameless.get(key), now=now):  # if ours: it is handed on
                change.update(announced_at=nameless[key], due="seen", recovered=True)
            elif change["op"] == Comparison.deleted:  # of which nobody need announce anything
                change.update(recovered=True)
            else:  # of a coarse clock two changes of one day have the same time: no contradiction
                change.update(recovered=True, due=(not is_coarse and change["due"]) or "missed")

    def _recovered(self, change: dict[str, Any]) -> RecoveredChange:
        return RecoveredChange(
            id=change["id"],
            connection_id=self._target.id,
            makini_key=self._target.makini_key,
            entity=self._entity,
            key=change["key"],
            op=change["op"],
            at=change["updated_at"] or change["at"],
        )


def _row(key: str, read: Read) -> MatchRow:
    return MatchRow(key, read.identity.natural_key, read.time, read.identity.plain_hash, read.hash)


def _writes(change_set: ChangeSet) -> bool:
    return bool(change_set.rows or change_set.marked)


_baselines: WeakSet[ListingWriter] = WeakSet()
"""The first listings under way in this process."""
