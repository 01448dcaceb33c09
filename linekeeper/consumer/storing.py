"""The effects of record events: what was read goes into the index, in one transaction with the
word that the events are settled."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import Configuration
from linekeeper.consumer.events import give_up
from linekeeper.consumer.held import HeldEvent, is_final
from linekeeper.consumer.readers import ReadBatch
from linekeeper.consumer.reading import ReadRefused, Records
from linekeeper.health.evidence import Observation
from linekeeper.health.service import observe
from linekeeper.inbox.claim import Event, Settled, remember_keys
from linekeeper.inbox.plan import ReadRequest, mark_done
from linekeeper.incidents.conclude import conclude
from linekeeper.reconcile.identity import identifying_fields
from linekeeper.reconcile.marks import list_whole
from linekeeper.reconcile.upsert import Arrived, upsert_records
from linekeeper.store import Store
from linekeeper.store.keys import has_surrogate, stored_key
from linekeeper.store.lists import one_of
from linekeeper.store.tables import Change

IN_A_TRANSACTION = 500
ASKS_IN_A_TRANSACTION = 40


@dataclass(slots=True)
class _Came:
    """When the deliveries came that asked for a batch."""

    first: datetime
    by_key: dict[str, datetime] = field(default_factory=dict)
    """When the first delivery came that named a key, by the key as it is stored."""
    own: set[str] = field(default_factory=set)
    """The keys that a delivery named which can only be about this connection."""

    def add(self, at: datetime, keys: Iterable[str], of: Mapping[str, Sequence[str]]) -> None:
        """One more came `at`, and named `keys`; `of` are the connections each may be of."""
        self.first = min(self.first, at)
        for key in keys:
            stored = stored_key(key)
            self.by_key[stored] = min(at, self.by_key.get(stored, at))
            if len(of.get(key, ())) < 2:
                self.own.add(stored)


class Storing:
    """The effects of some events: each batch of what was read is stored once."""

    def __init__(
        self, store: Store, configuration: Configuration, held: Mapping[str, HeldEvent]
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._held = held
        self._stored: list[ReadBatch] = []

    async def __call__(
        self, session: AsyncSession, events: Sequence[Event]
    ) -> Mapping[str, Settled]:
        """Store what was read for `events`; what becomes of each."""
        await self._store_records(session, events)
        settled: dict[str, Settled] = {}
        for event in events:
            held = self._held[event.id]
            settled[event.id] = _settled(held, await self._brought_before(session, held))
        return settled

    async def _brought_before(self, session: AsyncSession, held: HeldEvent) -> set[tuple[str, str]]:
        """Connection and key of what changed there by a webhook since the event came.

        Asked where an earlier claim of it stored something: whose that was isn't known any more.
        """
        plan = held.plan
        if not plan.candidates or held.event.keys_done is None:
            return set()
        rows = await session.execute(
            select(col(Change.connection_id), col(Change.key)).where(
                one_of(self._store, Change.connection_id, _among(plan.candidates.values())),
                col(Change.entity) == plan.entity,
                one_of(self._store, Change.key, _among([map(stored_key, plan.candidates)])),
                col(Change.at) >= held.event.received_at,
                col(Change.source) == "webhook",
            )
        )
        return {(row[0], row[1]) for row in rows}

    async def remember(
        self, session: AsyncSession, events: Sequence[Event]
    ) -> Mapping[str, Settled]:
        """Store what was read for `events` that aren't finished, and which keys that were."""
        await self._store_records(session, events)
        done: dict[str, bytes] = {}
        for event in events:
            held = self._held[event.id]
            done[event.id] = mark_done(held.plan.keys, event.keys_done, held.read())
        await remember_keys(session, done)
        return {}

    def committed(self) -> None:
        """What the last transaction stored needn't be stored again."""
        for batch in self._stored:
            batch.is_stored = True

    async def _store_records(self, session: AsyncSession, events: Sequence[Event]) -> None:
        now = utcnow()
        came: dict[ReadRequest, dict[ReadBatch, _Came]] = {}
        for event in events:
            held = self._held[event.id]
            for ask, batch in held.batches.items():
                if not batch.is_stored:
                    batches = came.setdefault(ask, {})
                    same_batch = batches.setdefault(batch, _Came(event.received_at))
                    keys = held.plan.reads.get(ask, ())
                    same_batch.add(event.received_at, keys, held.plan.candidates)
        self._stored = [batch for batches in came.values() for batch in batches]
        waves: list[dict[ReadRequest, tuple[ReadBatch, Arrived]]] = []
        for ask in sorted(came):
            partition = 0
            for batch, same_batch in came[ask].items():
                answer = batch.answer
                if not isinstance(answer, Records) or not answer.records:
                    continue
                arrived = Arrived(
                    ask.connection_id,
                    ask.entity,
                    answer.records,
                    bodies=ask.entity in batch.app.bodies,
                    fields=identifying_fields(batch.app.natural_keys, ask.entity),
                    asked_at=answer.asked_at,
                    received_at=same_batch.first,
                    named_at=same_batch.by_key,
                    shared=same_batch.by_key.keys() - same_batch.own,
                )
                if partition == len(waves):
                    waves.append({})
                waves[partition][ask] = (batch, arrived)
                partition += 1
        for wave in waves:  # each connection and entity once in each, the earlier reading first
            arrivals = [arrived for _, arrived in wave.values()]
            changes = await upsert_records(
                self._store, session, arrivals, source="webhook", now=now
            )
            for change in changes:
                wave[ReadRequest(change.connection_id, change.entity)][0].changed.add(change.key)
        await self._heed(session, now=now)

    async def _heed(self, session: AsyncSession, *, now: datetime) -> None:
        """What answers without records say of a connection, or of an entity of it."""
        refused: dict[str, Observation] = {}
        unlisted: set[ReadRequest] = set()
        for batch in self._stored:
            answer = batch.answer
            if isinstance(answer, ReadRefused) and answer.observation is not None:
                refused[batch.ask.connection_id] = answer.observation
            elif isinstance(answer, Records) and (answer.to_list or not answer.is_offered):
                unlisted.add(batch.ask)
        if unlisted:
            await list_whole(session, unlisted, now=now)
        if refused:
            seen = sorted(refused.items())
            policy = self._configuration.policy
            if await observe(self._store, session, seen, policy=policy, now=now):
                await conclude(self._store, session, policy=policy, now=now)


def _among(several: Iterable[Iterable[str]]) -> list[str]:
    return sorted(set(chain.from_iterable(several)))


def _settled(held: HeldEvent, before: Collection[tuple[str, str]]) -> Settled:
    plan = held.plan
    final = [error for error in held.wrong() if is_final(error)]
    if final:
        return give_up(held.event, final[0], plan.settled.connection_id)
    answers = [held.batches[ask].answer for ask in plan.reads]
    refusals = [str(answer) for answer in answers if isinstance(answer, ReadRefused)]
    if refusals and len(refusals) == len(answers):
        return plan.settled._replace(status="deferred", note=refusals[0])
    notes = [answer.note for answer in answers if isinstance(answer, Records) and answer.note]
    if any(has_surrogate(key) for key in plan.keys):
        notes.append("no URL can hold some of its keys: the next poll reads them")
    if left := len(held.left_to_the_poll()):
        notes.append(f"{left} of the connections with its keys could not be read: a poll does it")
    settled = plan.settled._replace(note=notes[0]) if notes else plan.settled
    if left_keys := len(held.keys_to_list()):
        note = f"{left_keys} of its {len(plan.keys)} keys are left to the next poll, which lists "
        settled = settled._replace(status="deferred", note=f"{note}{plan.entity} whole")
    return _of_owners(held, settled, before) if plan.candidates else settled


def _of_owners(held: HeldEvent, settled: Settled, before: Collection[tuple[str, str]]) -> Settled:
    """Whose an event without a connection turned out to be.

    A key that only one connection has is that one's. One that several have is of those whose
    record had changed (or, where it announces a deletion, is gone): if it is of none of them, the
    change was read before, and nobody is named.
    """
    owners: dict[str, list[str]] = {}
    unconfirmed = 0
    is_unread = False
    for key, candidates in held.plan.candidates.items():
        confirmed = [
            candidate
            for candidate in candidates
            if len(candidates) == 1
            or (candidate, stored_key(key)) in before
            or _confirms(held, candidate, key)
        ]
        if not confirmed:
            unconfirmed += 1
            is_unread |= not all(_was_read(held, candidate, key) for candidate in candidates)
        for connection_id in confirmed:
            owners.setdefault(connection_id, []).append(key)
    note = settled.note
    if unconfirmed:
        which = "those that could be read: a poll reads the others" if is_unread else "them"
        note = (
            f"{unconfirmed} of its keys are in several connections and changed in none of {which}"
        )
    if len(owners) == 1:
        return settled._replace(connection_id=next(iter(owners)), note=note, owners=owners)
    return settled._replace(connection_id=None, note=note, owners=owners)


def _was_read(held: HeldEvent, connection_id: str, key: str) -> bool:
    batch = held.batches.get(ReadRequest(connection_id, held.plan.entity))
    answer = batch.answer if batch is not None else None
    return isinstance(answer, Records) and key not in answer.unread


def _confirms(held: HeldEvent, connection_id: str, key: str) -> bool:
    if not _was_read(held, connection_id, key):
        return False
    batch = held.batches[ReadRequest(connection_id, held.plan.entity)]
    if stored_key(key) in batch.changed:
        return True
    return held.event.kind == "record.deleted" and batch.lacks(key)


def halves_of(
    good: Sequence[HeldEvent],
) -> tuple[Sequence[Sequence[HeldEvent]], Sequence[HeldEvent]]:
    """Two parts with no connection and no ordering key in common, and the rest. Pure.

    The halves are stored side by side, and after them the rest: what names no connection and may be
    of several. Few events are one transaction, and no halves.
    """
    if len(good) <= IN_A_TRANSACTION:
        return (), good
    rest: list[HeldEvent] = []
    groups: dict[str, list[HeldEvent]] = {}
    for held in good:
        connection_id = held.plan.settled.connection_id
        if held.event.connection_ref is None or connection_id is None:
            rest.append(held)
            continue
        group = groups.setdefault(connection_id, [])
        if groups.setdefault(held.event.ordering_key, group) is not group:
            return (), good
        group.append(held)
    halves: tuple[list[HeldEvent], list[HeldEvent]] = ([], [])
    for group in {id(group): group for group in groups.values()}.values():
        min(halves, key=len).extend(group)
    return halves, rest


def portions_of(held: Sequence[HeldEvent]) -> Iterator[list[Event]]:
    """Return them in order, few enough for one transaction to be short."""
    portion: list[Event] = []
    asks: set[ReadRequest] = set()
    for each in sorted(
        held, key=lambda each: (each.plan.settled.connection_id or "", each.event.id)
    ):
        reads = each.plan.reads.keys()
        full = len(portion) == IN_A_TRANSACTION or len(asks | reads) > ASKS_IN_A_TRANSACTION
        if portion and full:
            yield portion
            portion, asks = [], set()
        portion.append(each.event)
        asks |= reads
    if portion:
        yield portion
