"""The one way in which messages leave: claimed, sent in order within a deadline, settled.

A sender only sends, and says what came of it. Deadlines, retries with back-off, pauses of a
destination that takes nothing, and dead letters are decided here. A message is claimed (a lease
with an end), sent outside any transaction, then settled; who dies in between leaves a claim that
runs out, and the next one repeats, in a form in which a repeat is harmless (DESIGN "Tell").
"""

import asyncio
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Self

from linekeeper.clock import monotonic, utcnow
from linekeeper.groups import to_end
from linekeeper.outbox.queue import Claim, Work, claim, outbox_of, release_claim
from linekeeper.outbox.sender import (
    End,
    Ended,
    Failed,
    NoLongerOurs,
    OutboxRow,
    Partition,
    Parts,
    Pause,
    Result,
    Retry,
    Sender,
    Settlement,
    end,
    schedule_retry,
    supersede,
)
from linekeeper.store import Store

ROUND_SECONDS = 60.0
"""What a round has not begun to send by then is released; with one deadline it is less than a
claim lasts (`queue.CLAIM_SECONDS`)."""
TICK_SECONDS = 0.05
"""Until what is due for other destinations is looked for, beside one that is slow."""
LOOK_SECONDS = 0.5  # the same where the end of the slow one is waited for
LONGEST_WAIT = 600.0  # seconds; the back-off of a message ends there
MoreIsDue = Callable[[], Awaitable[object]]  # waits until there may be more to send
a_tick: MoreIsDue = partial(asyncio.sleep, TICK_SECONDS)


class Dispatcher:
    """Delivers one channel; use as `async with Dispatcher(…) as dispatcher`.

    Errors of the database are raised; trouble with a destination stays in its rows.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        sender: Sender,
        *,
        clock: Callable[[], datetime] = utcnow,
    ) -> None:
        self.store = store
        self.sender = sender
        self.clock = clock
        self._owner = owner
        self._partitions: Mapping[str, Partition] = {}
        self._parts = Parts()
        self._pauses: dict[str, Pause] = {}
        self._rounds: dict[str, asyncio.Task[list[tuple[OutboxRow, Result]]]] = {}
        """The batch under way of each partition."""
        self._leave_some: set[str] = set()
        """The partitions whose batch leaves some that are due once it is settled."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (rounds := [*self._rounds.values()]):
            task.cancel()
        await to_end(lambda: asyncio.gather(*rounds, return_exceptions=True), self.sender.close)

    async def deliver(self) -> list[tuple[OutboxRow, Result]]:
        """Deliver a batch of each partition; returns what came of the messages."""
        await self._begin(None)
        try:
            if self._rounds:
                await asyncio.wait(self._rounds.values())
        except asyncio.CancelledError:
            await self.__aexit__()
            raise
        return self._finished()

    @property
    def is_busy(self) -> bool:
        """Whether a batch is under way."""
        return bool(self._rounds)

    async def step(self, more_is_due: MoreIsDue = a_tick) -> bool:
        """Deliver without waiting for a destination that is slow: the others go on beside it.

        It returns once a batch has ended, or `more_is_due` has: whether there may be more to do.
        """
        await self._begin(None)
        if not self._rounds:
            return False
        waiting = asyncio.ensure_future(more_is_due())
        try:
            await asyncio.wait([*self._rounds.values(), waiting], return_when=FIRST_COMPLETED)
        finally:
            waiting.cancel()
        leave_some = any(self._rounds[name].done() for name in self._leave_some)
        self._finished()
        return leave_some or bool(self._rounds)

    async def drain(self, most: int) -> int:
        """Deliver until nothing more is due, or `most` messages were; returns how many were."""
        delivered = 0
        try:
            while True:
                if delivered < most:
                    await self._begin(most - delivered)
                if not self._rounds:
                    return delivered
                rounds = self._rounds.values()
                await asyncio.wait(rounds, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
                results = self._finished()
                delivered += len(results)
                if not (results or self._rounds):
                    return delivered
        except asyncio.CancelledError:
            await self.__aexit__()
            raise

    async def _begin(self, limit: int | None) -> None:
        """Begin a batch of each partition that has something due and none under way."""
        self._partitions = await self.sender.partitions()
        self._pauses = {
            name: pause
            for name, pause in self._pauses.items()
            if name not in self._partitions or self._partitions[name].address == pause.address
        }
        now = self.clock()
        work = outbox_of(self.sender.channel, only_first=self.sender.only_first)
        free = {
            name: each
            for name, each in self._partitions.items()
            if name not in self._rounds and self.pause_of(name, now) is None
        }
        if not free:
            return
        async with self.store.read() as session:
            waiting = await self._parts.due(session, work, free, now=now)
        for name, part in waiting.items():
            self._rounds[name] = asyncio.create_task(self._round(name, part, limit, now))

    async def _round(
        self, name: str, work: Work, limit: int | None, now: datetime
    ) -> list[tuple[OutboxRow, Result]]:
        most = 1 if name in self._pauses else min(self.sender.batch, limit or self.sender.batch)
        claimed = await claim(self.store, work, self._owner, limit=most, now=now)
        is_shared = any(row["ordering_key"] != row["dedupe_key"] for row in claimed.rows)
        if len(claimed.rows) >= most or (is_shared and self.sender.only_first):
            self._leave_some.add(name)
        return await _Round(self, work, claimed).run() if claimed.rows else []

    def _finished(self) -> list[tuple[OutboxRow, Result]]:
        """Forget the batches that have ended; what came of their messages."""
        done = {name: task for name, task in self._rounds.items() if task.done()}
        for name in done:
            del self._rounds[name]
            self._leave_some.discard(name)
        return [result for task in done.values() for result in task.result()]

    def pause_of(self, destination: str, now: datetime) -> datetime | None:
        """Until when a destination is paused, if it is."""
        pause = self._pauses.get(destination)
        return pause.until if pause is not None and pause.lasts(now) else None

    def pause(self, destination: str, seconds: float | None, now: datetime) -> None:
        """Send nothing to a destination for so long, or with a back-off of its own."""
        if self.pause_of(destination, now) is not None:
            return
        address = self._partitions.get(destination, Partition()).address
        longest, before = self.sender.longest_pause or LONGEST_WAIT, self._pauses.get(destination)
        self._pauses[destination] = Pause.after(before, address, seconds, longest, now)

    def in_trouble_since(self, destination: str, now: datetime) -> datetime:
        """Since when a destination takes nothing, as far as is known here."""
        pause = self._pauses.get(destination)
        return now if pause is None else pause.since

    def resume(self, destination: str) -> bool:
        """A destination takes messages; whether it was paused."""
        return self._pauses.pop(destination, None) is not None


class _Round:
    """One claimed batch."""

    def __init__(self, dispatcher: Dispatcher, work: Work, claimed: Claim) -> None:
        self._dispatcher = dispatcher
        self._sender = dispatcher.sender
        self._work = work
        self._token = claimed.token
        self._rows = [OutboxRow.of(row) for row in claimed.rows]
        self._results: dict[str, tuple[OutboxRow, Result]] = {}
        self._fresh = Settlement()
        """What is not written yet."""
        self._until: dict[str, datetime] = {}
        """When rows that were not sent are due again."""
        self._put_off: set[str] = set()
        """Those of them that the sender wants later: until then they wait for nothing."""
        self._begun: dict[str, float] = {}
        """What was perhaps sent, of which nothing is known yet: in how many seconds it is due."""
        self._begins: dict[str, datetime] = {}
        """When the age of rows begins that nobody was there to try."""
        self._deadline = monotonic() + ROUND_SECONDS
        self._writing = asyncio.Lock()

    async def run(self) -> list[tuple[OutboxRow, Result]]:
        endings: Sequence[BaseException | None] = ()
        try:
            async with self._sender.prepare(self._rows) as known:
                by_key: dict[str, list[OutboxRow]] = {}
                for row in self._rows:
                    if row.id in known:
                        self._note(row, known[row.id])
                    else:
                        by_key.setdefault(row.ordering_key, []).append(row)
                gate = asyncio.Semaphore(self._sender.at_once)
                endings = await asyncio.gather(
                    *(self._send_in_order(rows, gate) for rows in by_key.values()),
                    return_exceptions=True,
                )
        finally:
            try:
                await to_end(partial(self._write, last=True))  # or it would be sent again
            finally:
                self._sender.forget(self._rows)
        results = self._results.values()
        errors = [each for each in endings if each is not None]
        errors += [each.error for _, each in results if isinstance(each, Failed) and each.error]
        if errors:
            raise errors[0]
        return [*results]

    async def _send_in_order(self, rows: Sequence[OutboxRow], gate: asyncio.Semaphore) -> None:
        """Send the messages of one ordering key until one is not taken."""
        async with gate:
            for position, row in enumerate(rows):
                until = self._held_until(row)
                rest = rows[position:]
                if until is None:
                    if (result := await self._send(row)) is None:
                        return  # what is behind it is another's, too
                    until = self._note(row, result)
                    if self._sender.settles_each:
                        await to_end(self._write)
                    if until is None:
                        continue
                    rest = rows[position + 1 :]
                self._until.update((each.id, until) for each in rest)
                if self._is_put_off(row):
                    self._put_off.update(each.id for each in rest if self._sender.forgets_age(each))
                return

    def _held_until(self, row: OutboxRow) -> datetime | None:
        """When `row` is due again if it can't be sent now."""
        now, destination = self._dispatcher.clock(), self._sender.destination(row)
        held = self._sender.not_before(row, now) or self._dispatcher.pause_of(destination, now)
        return now if held is None and monotonic() > self._deadline else held

    def _is_put_off(self, row: OutboxRow) -> bool:
        now = self._dispatcher.clock()
        return row.id not in self._results and (self._sender.not_before(row, now) or now) > now

    async def _send(self, row: OutboxRow) -> Result | None:
        self._begun[row.id] = 0.0
        try:
            async with asyncio.timeout(self._sender.deadline_seconds):
                return await self._sender.send(row)
        except asyncio.CancelledError:
            self._begun[row.id] = self._sender.cut_off_seconds
            raise
        except TimeoutError:
            return self._sender.timed_out(row)
        except NoLongerOurs:
            return None

    def _note(self, row: OutboxRow, result: Result) -> datetime | None:
        """Keep what came of `row`; when what waits behind it may be sent, None for at once."""
        self._results[row.id] = (row, result)
        destination = self._sender.destination(row)
        if isinstance(result, Ended):
            self._fresh.ended.append((row, result))
            if result.became == "sent" and self._dispatcher.resume(destination):
                self._fresh.recovered.add(destination)
            return None
        now, wait = self._dispatcher.clock(), result.wait
        if wait is None:  # in a pause each message is one that asks whether it is over
            longest = self._sender.longest_pause if result.pauses and result.pause is None else None
            wait = min(2.0 ** min(row.attempts, 10), longest or LONGEST_WAIT)
        if result.pauses:
            is_own = result.pause is None and self._sender.longest_pause is None
            self._dispatcher.pause(destination, wait if is_own else result.pause, now)
        lasting = self._sender.gives_up_after
        since = row.ages_since(self._dispatcher.in_trouble_since(destination, now))
        is_expired = now - since > lasting and not result.is_kept
        self._begins |= {row.id: since} if since > (row.counts_from or row.due_since) else {}
        if result.is_final or is_expired:
            why = result.why
            if not result.is_final:
                days = f"{lasting.days} day{'s' if lasting.days > 1 else ''}"
                why = self._fresh.expired[destination] = f"given up after {days}: {why}"
            self._fresh.dead.append((row, why))
            return now
        until = now + timedelta(seconds=wait)
        self._fresh.retried.append((row, result, until))
        return until

    async def _write(self, *, last: bool = False) -> None:
        """Settle what came of messages so far; at the end, release what was not sent."""
        async with self._writing:
            now = self._dispatcher.clock()
            fresh, self._fresh = self._fresh, Settlement()
            left = [row.id for row in self._rows if last and row.id not in self._results]
            back = {row: self._until.get(row, now) for row in left if row not in self._begun}
            ends = [End(row.id, ended.became, ended.note) for row, ended in fresh.ended]
            ends += [End(row.id, "dead", why) for row, why in fresh.dead]
            retries = [
                Retry(row.id, until, failed.why, failed.refusal, self._begins.get(row.id))
                for row, failed, until in fresh.retried
            ]
            # It counts as an attempt, so that the next one looks whether it arrived.
            cut = "its sending was cut off"
            retries += [
                Retry(row, now + timedelta(seconds=wait), cut, "unanswered" if wait else None)
                for row, wait in self._begun.items()
                if row in left
            ]
            if not (ends or retries or back):
                return
            covered = {key for _, ended in fresh.ended for key in ended.covers}
            async with self._dispatcher.store.write() as session:
                await end(session, self._work, self._token, ends, now=now)
                await schedule_retry(session, self._work, self._token, retries)
                await release_claim(session, self._work, self._token, back, planned=self._put_off)
                await supersede(session, covered, now=now)
                await self._sender.settled(session, fresh, now=now)
