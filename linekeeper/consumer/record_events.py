"""Events about records: what they name is read from Makini and stored if it is newer.

A webhook is a hint, the API is the truth (DESIGN "Nothing is lost"). Events are claimed as they
come; what they name is read for each connection by itself, outside any transaction and within the
app's budget; and what is answered by then is stored and settled every few moments, in one
transaction, while what is next is claimed. So a connection that hangs delays its own events and
nobody else's.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from itertools import chain
from typing import Self

from linekeeper.clock import monotonic, utcnow
from linekeeper.consumer.aside import in_order, stepping_aside
from linekeeper.consumer.events import Trouble, apply, failed, in_transaction, nack
from linekeeper.consumer.held import HeldEvent, is_final
from linekeeper.consumer.planning import PlannedEvent, plan_events
from linekeeper.consumer.readers import ReadBatch, Readers
from linekeeper.consumer.reading import OutOfTime
from linekeeper.consumer.storing import Storing, halves_of, portions_of
from linekeeper.groups import task_group, to_end
from linekeeper.inbox.claim import Claimed, Event, Settled, claim_events, release_all
from linekeeper.inbox.plan import EventPlan, ReadRequest
from linekeeper.outbox.dispatcher import MoreIsDue, a_tick
from linekeeper.outbox.queue import CLAIM_SECONDS, look_again, new_token
from linekeeper.runtime import Runtime
from linekeeper.store.trouble import is_of_database

RANK = 1
BATCH = 2_000
"""Events claimed at once, and held at once of those that don't wait long or are being settled."""
MOST_OF_ONE = 500
"""Events of one connection that are held."""
SLOW_SECONDS = 1.0
"""Who waits longer for an answer takes nothing more in, and nobody else's room."""
SETTLE_SECONDS = 30.0
"""The part of a claim's time that is kept for the settling."""
PAUSE = timedelta(seconds=2)
"""Until the next claim of an event of which some keys are read and some are not."""


async def process_record_events(rt: Runtime, *, stop_at: float = float("inf")) -> bool:
    """Apply what is due, until nothing is or until `stop_at` (`clock.monotonic`).

    Returns whether there was anything.
    """
    did = False
    async with RecordEvents(rt) as events:
        while await events.step():
            did = True
            if monotonic() >= stop_at:
                break
    return did


class RecordEvents:
    """Claims and applies events about records; use as `async with RecordEvents(rt) as events`.

    Whatever it holds when it ends is due again at once.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._claim = Claimed(new_token(rt.owner), RANK, utcnow(), ())
        self._readers = Readers(rt)
        self._held: dict[str, deque[HeldEvent]] = {}
        """What is held, by ordering key and in order."""
        self._waiting: dict[ReadBatch, set[str]] = {}
        """The ordering keys with an event that waits for the batch."""
        self._ready: set[str] = set()
        """The ordering keys whose first event may be answered."""
        self._settling: list[Event] = []
        """What is taken from `_held`, its end not yet written."""
        self._failing: set[str] = set()
        """The ordering keys of which an event could not be settled in this step."""
        self._is_claiming = False
        """Whether the claim may hold what is in neither of them."""
        self._abandoned: list[str] = []
        """The tokens of claims that are to be given back, and were not, the database being away."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await to_end(self._abandon)

    async def step(self, more_is_due: MoreIsDue = a_tick) -> bool:
        """Claim what is due and settle what is answered; returns whether there may be more.

        Where nothing is answered yet it waits until something is, or `more_is_due` returns.
        Trouble of the database is raised; what was held is due again then.
        """
        self._failing.clear()
        await self._give_back()
        try:
            self._hear_answers()
            if self._ready:
                claimed = await self._settle_and_take()
                return claimed or bool(self._held)
            claimed = await self._take()
            if self._held and not self._ready:
                await self._news(more_is_due)
            return claimed or bool(self._held)
        except BaseException:
            await to_end(self._abandon)
            raise

    async def _settle_and_take(self) -> bool:
        """Settle what is answered and meanwhile claim what is next: each waits for the database.

        Returns whether anything was claimed.
        """
        taking = asyncio.create_task(self._take())
        try:
            try:
                await self._settle()
            finally:
                await asyncio.wait({taking})  # what it claims is to be held, or given back
            return await taking
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    async def _abandon(self) -> None:
        """Give back all that is claimed, now or before anything else is done.

        Whatever this claim still holds is not ours any more: what is behind it has to wait.
        """
        await self._readers.close()
        if self._is_claiming or self._held or self._settling:
            self._abandoned.append(self._claim.token)
        self._is_claiming = False
        self._settling = []
        self._held.clear()
        self._waiting.clear()
        self._ready.clear()
        self._claim = self._claim._replace(token=new_token(self._rt.owner))
        try:
            await self._give_back()
        except Exception as error:  # the next step tries again, or the claim runs out by itself
            if not is_of_database(error):
                raise

    async def _give_back(self) -> None:
        """What was abandoned is due again, also what was claimed and is not known here."""
        while self._abandoned:
            await release_all(self._rt.store, self._abandoned[-1], rank=RANK)
            self._abandoned.pop()

    # Claiming

    async def _take(self) -> bool:
        """Claim and plan what is due, and ask for what it names; returns whether there was any."""
        now = monotonic()
        room = BATCH - sum(
            len(queue) for queue in self._held.values() if now - queue[0].since < SLOW_SECONDS
        )
        if room <= 0:
            return False
        at = utcnow()
        self._is_claiming = True
        claimed = await claim_events(
            self._rt.store, self._rt.owner, rank=RANK, limit=room, now=at, token=self._claim.token
        )
        events = await self._admit(in_order(claimed.events, self._held))
        if events:
            planned, unplanned = await self._planned(events)
            troubles = dict(unplanned)
            failing = [event for event in events if self._is_failing(event)]
            for event in events:
                if not self._is_failing(event):
                    self._hold(planned.get(event.id), event, troubles.get(event.id), since=now)
            if failing:  # behind one that failed meanwhile: the next claim puts them off with it
                await nack(self._rt, self._claim, failing, until=look_again(at, now=at))
        self._is_claiming = False
        return bool(claimed.events)

    def _is_failing(self, event: Event) -> bool:
        """Whether one before it failed while it was claimed."""
        return event.ordering_key in self._failing or event.aside in self._failing

    async def _admit(self, events: Sequence[Event]) -> list[Event]:
        """Those of `events` there is room for; the others are looked at again later."""
        now = monotonic()
        admitted: list[Event] = []
        counts: dict[str, int] = {}
        blocked: dict[float, list[Event]] = {}
        ours = {held.event.id for queue in self._held.values() for held in queue}
        ours.update(event.id for event in self._settling)
        for event in events:
            if event.id in ours:  # its claim ran out and is ours again: it is being worked on
                continue
            queue = self._held.get(event.ordering_key)
            count = counts.setdefault(event.ordering_key, len(queue) if queue else 0)
            since = queue[0].since if queue else now
            if count >= MOST_OF_ONE or now - since >= SLOW_SECONDS:
                counts[event.ordering_key] = MOST_OF_ONE  # what is behind it waits as well
                blocked.setdefault(since, []).append(event)
            else:
                counts[event.ordering_key] += 1
                admitted.append(event)
        at = utcnow()
        for since, late in blocked.items():
            until = look_again(at - timedelta(seconds=now - since), now=at)
            await nack(self._rt, self._claim, late, until=until)
        return admitted

    async def _planned(
        self, events: Sequence[Event]
    ) -> tuple[dict[str, PlannedEvent], list[tuple[str, Exception]]]:
        planned, unplanned = await plan_events(self._rt, events)
        return (
            {each.event.id: each for each in planned},
            [(event.id, error) for event, error in unplanned],
        )

    def _hold(
        self, planned: PlannedEvent | None, event: Event, failure: Exception | None, *, since: float
    ) -> None:
        """Ask for what the event names, and remember that it waits for it."""
        event = event._replace(body=None)  # planned: it is needed no more, and may be large
        if planned is None:
            held = HeldEvent(event, EventPlan(Settled("dead")), {}, since, failure)
        else:
            batches: dict[ReadRequest, ReadBatch] = {}
            for ask, keys in planned.plan.reads.items():
                target = planned.targets[ask.connection_id]
                batch = self._readers.want(
                    ask,
                    keys,
                    app=planned.apps[target.id],
                    target=target,
                    token=planned.tokens[target.id],
                    until=since + CLAIM_SECONDS - SETTLE_SECONDS,
                    is_suspect=event.attempts > 1,
                )
                batches[ask] = batch
                self._waiting.setdefault(batch, set()).add(event.ordering_key)
            held = HeldEvent(event, planned.plan, batches, since)
        queue = self._held.setdefault(event.ordering_key, deque())
        queue.append(held)
        if queue[0].is_answered:
            self._ready.add(event.ordering_key)

    # Settling

    async def _news(self, more_is_due: MoreIsDue) -> None:
        """Wait for an answer, or until something else may be due."""
        waiting = [asyncio.ensure_future(each()) for each in (self._readers.news.wait, more_is_due)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    def _hear_answers(self) -> None:
        """Note whose first event may be answered by now."""
        self._readers.news.clear()
        while self._readers.answered:
            self._ready |= self._waiting.pop(self._readers.answered.popleft(), set())

    async def _settle(self) -> None:
        """Settle whatever is answered, in the order of each connection."""
        good, wrong = self._answered()
        self._failing.update(portion[0].event.ordering_key for portion, _ in wrong)
        self._settling = [held.event for held in good]
        self._settling += [held.event for portion, _ in wrong for held in portion]
        troubles = await self._apply(good) if good else []
        troubles += await self._put_off(wrong) if wrong else []
        await failed(self._rt, self._claim, troubles)
        self._settling = []

    def _answered(self) -> tuple[list[HeldEvent], list[tuple[list[HeldEvent], Exception]]]:
        """Takes out what can be settled, and what waits where the first event failed.

        That is all of the connection, or what names its entity, where that alone can't be read.
        """
        good: list[HeldEvent] = []
        wrong: list[tuple[list[HeldEvent], Exception]] = []
        for ordering_key in self._ready:
            queue = self._held.get(ordering_key)
            while queue and queue[0].is_answered:
                reason = next((each for each in queue[0].wrong() if not is_final(each)), None)
                if reason is None:
                    good.append(queue.popleft())
                    continue
                blocked = stepping_aside(queue) or list(queue)
                wrong.append((blocked, reason))
                taken = {held.event.id for held in blocked}
                queue = deque(held for held in queue if held.event.id not in taken)
                self._held[ordering_key] = queue
            if queue is not None and not queue:
                del self._held[ordering_key]
        self._ready.clear()
        return good, wrong

    async def _apply(self, good: Sequence[HeldEvent]) -> list[Trouble]:
        configuration = await self._rt.configuration()

        async def store(portion: Sequence[HeldEvent]) -> list[Trouble]:
            by_id = {held.event.id: held for held in portion}
            storing = Storing(self._rt.store, configuration, by_id)
            return await apply(
                self._rt, self._claim, portions_of(portion), storing, committed=storing.committed
            )

        halves, rest = ((), good) if self._rt.store.is_sqlite else halves_of(good)
        async with task_group() as group:
            tasks = [group.create_task(store(half)) for half in halves]
        troubles: list[Trouble] = []
        for events, error in [*chain(*(task.result() for task in tasks)), *await store(rest)]:
            self._failing.add(events[0].ordering_key)
            blocked = [held.event for held in self._held.pop(events[0].ordering_key, ())]
            self._settling += blocked
            troubles.append(([*events, *blocked], error))
        return troubles

    async def _put_off(
        self, wrong: Sequence[tuple[Sequence[HeldEvent], Exception]]
    ) -> list[Trouble]:
        """Events that can't be settled yet: those of which something was read remember it.

        Returns those that failed, to be tried again or given up. Where time ran out, or our own
        database was away, nothing failed.
        """
        begun = [held for portion, _ in wrong for held in portion if held.read()]
        by_id = {held.event.id: held for held in begun}
        storing = Storing(self._rt.store, await self._rt.configuration(), by_id)
        for portion in portions_of(begun):
            await in_transaction(self._rt, self._claim, portion, storing.remember)
            storing.committed()
        troubles: list[Trouble] = []
        later: list[Event] = []
        for batch, error in wrong:
            events = [held.event for held in batch]
            if batch[0].read() or isinstance(error, OutOfTime) or is_of_database(error):
                later += events
            else:
                troubles.append((events, error))
        if later:
            await nack(self._rt, self._claim, later, until=utcnow() + PAUSE)
        return troubles
