"""Events about records: what they name is read from Makini and stored if it is newer.

A webhook is a hint, the API is the truth (DESIGN "Nothing is lost"): keys are gathered over a
whole batch, read once for each connection and entity outside any transaction, within the app's
budget, and stored together with the word that the events are settled.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.access.tokens import Token, load_tokens
from linekeeper.clock import monotonic, utcnow
from linekeeper.config import AppConfig
from linekeeper.consumer.events import apply, failed, give_up, giving_back, let_go
from linekeeper.consumer.reading import OutOfTime, Records, Refused, read_records
from linekeeper.health.judge import Observation
from linekeeper.health.service import observe
from linekeeper.inbox.claim import Claimed, Event, Settled, claim_events
from linekeeper.inbox.plan import Ask, Plan, Wanted, plan, understand
from linekeeper.inbox.routing import Target, connections_of, owners_of
from linekeeper.incidents.conclude import conclude
from linekeeper.makini import MakiniError
from linekeeper.reconcile.identity import identifying_fields
from linekeeper.reconcile.upsert import Arrived, upsert_records
from linekeeper.runtime import Runtime

RANK = 1
BATCH = 2_000
AT_ONCE = 16
READ_SECONDS = 60.0
"""What is not read by then is given back: the claim must not run out under the settling. What is
read stays, so that the next claim has less to read."""
IN_A_TRANSACTION = 500
ASKS_IN_A_TRANSACTION = 40


class _Batch(NamedTuple):
    plans: Mapping[str, Plan]
    """By event id."""
    targets: Mapping[str, Target]
    tokens: Mapping[str, Token]


_Answers = Mapping[Ask, Records | Exception]


async def process_record_events(rt: Runtime, *, limit: int = BATCH) -> bool:
    """Claim and apply one batch; returns whether there was any."""
    claimed = await claim_events(rt.store, rt.owner, rank=RANK, limit=limit, now=utcnow())
    if not claimed.events:
        return False
    async with giving_back(rt, claimed):
        batch = await _plan(rt, claimed.events)
        answers = await _read_all(rt, batch)
        good, trouble = _sort(claimed.events, batch.plans, answers)
        await apply(rt, claimed, _portions(good, batch.plans), _Storing(rt, batch, answers))
        await _put_off(rt, claimed, list(trouble.values()))
    return True


async def _plan(rt: Runtime, events: Sequence[Event]) -> _Batch:
    apps = (await rt.configuration()).apps
    understood = {event.id: understand(event, apps.get(event.app)) for event in events}
    homeless: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for event in events:
        wanted = understood[event.id]
        if isinstance(wanted, Wanted) and event.connection_ref is None:
            homeless[event.app, wanted.entity].update(wanted.keys)
    async with rt.store.read() as session:
        named = await connections_of(session, events)
        by_key = await owners_of(session, homeless)
        targets = {one.id: one for one in named.values()}
        targets |= {one.id: one for owners in by_key.values() for one in owners}
        tokens = await load_tokens(rt.store, session, sorted(targets))
    now = utcnow()
    # Where nothing may renew it, a token that has ended is none.
    with_token = frozenset(
        connection_id
        for connection_id, token in tokens.items()
        if not token.is_over(now) or _may_renew(apps.get(targets[connection_id].app))
    )
    plans: dict[str, Plan] = {}
    for event in events:
        wanted = understood[event.id]
        if isinstance(wanted, Settled):
            known = named.get(event.id)
            plans[event.id] = Plan(wanted._replace(connection_id=known.id if known else None))
            continue
        owners: dict[str, Sequence[Target]] = {}
        for key in wanted.keys:
            if event.connection_ref is None:
                owners[key] = by_key.get((event.app, wanted.entity, key), ())
            elif known := named.get(event.id):
                owners[key] = (known,)
        plans[event.id] = plan(event, apps[event.app], wanted, owners, with_token)
    return _Batch(plans, targets, tokens)


def _may_renew(app: AppConfig | None) -> bool:
    return app is not None and app.manages


async def _read_all(rt: Runtime, batch: _Batch) -> _Answers:
    """Each connection and entity read once, whatever number of events named it."""
    asks: defaultdict[Ask, dict[str, None]] = defaultdict(dict)
    for one in batch.plans.values():
        for ask, keys in one.reads.items():
            asks[ask].update(dict.fromkeys(keys))
    apps = (await rt.configuration()).apps
    deadline = monotonic() + READ_SECONDS
    gate = asyncio.Semaphore(AT_ONCE)
    answers: dict[Ask, Records | Exception] = {}

    async def look(ask: Ask, app: AppConfig, keys: Sequence[str]) -> None:
        target = batch.targets[ask.connection_id]
        async with gate:
            try:
                answers[ask] = await read_records(
                    rt,
                    app,
                    target,
                    batch.tokens[target.id],
                    entity=ask.entity,
                    keys=keys,
                    deadline=deadline,
                )
            except Exception as error:
                answers[ask] = error

    async with asyncio.TaskGroup() as group:
        for ask, wanted in asks.items():
            app = apps[batch.targets[ask.connection_id].app]
            group.create_task(look(ask, app, list(wanted)))
    return answers


def _sort(
    events: Sequence[Event], plans: Mapping[str, Plan], answers: _Answers
) -> tuple[list[Event], dict[str, tuple[list[Event], Exception]]]:
    """The events that can be settled, and by lane those that can't, with the first one's reason."""
    good: list[Event] = []
    trouble: dict[str, tuple[list[Event], Exception]] = {}
    begun: set[Ask] = set()
    for event in events:
        plan = plans[event.id]
        is_first = begun.isdisjoint(plan.reads)
        begun.update(plan.reads)
        if event.lane in trouble:
            trouble[event.lane][0].append(event)
            continue
        wrong = [one for one in _wrong(plan, answers) if not _is_final(one)]
        if wrong and not (is_first and _is_too_much(plan, wrong)):
            trouble[event.lane] = ([event], wrong[0])
        else:
            good.append(event)
    return good, trouble


def _wrong(plan: Plan, answers: _Answers) -> list[Exception]:
    """Why some of the keys an event names have no answer; a refused login is one."""
    found: list[Exception] = []
    for ask, keys in plan.reads.items():
        answer = answers[ask]
        if isinstance(answer, Records):
            found += [answer.unread[key] for key in keys if key in answer.unread]
        elif not isinstance(answer, Refused):
            found.append(answer)
    return found


def _is_too_much(plan: Plan, wrong: Sequence[Exception]) -> bool:
    """Whether time ran out in the middle of an event before which nothing else was read.

    It would again: what was read of it is stored, the rest is left to the next poll.
    """
    late = sum(isinstance(one, OutOfTime) for one in wrong)
    return late == len(wrong) and late < sum(map(len, plan.reads.values()))


def _is_final(error: Exception) -> bool:
    return isinstance(error, MakiniError) and not error.retryable


def _portions(events: Sequence[Event], plans: Mapping[str, Plan]) -> Iterator[list[Event]]:
    """In order, few enough for one transaction to be short."""
    portion: list[Event] = []
    asks: set[Ask] = set()
    for event in sorted(
        events, key=lambda one: (plans[one.id].settled.connection_id or "", one.id)
    ):
        reads = plans[event.id].reads.keys()
        full = len(portion) == IN_A_TRANSACTION or len(asks | reads) > ASKS_IN_A_TRANSACTION
        if portion and full:
            yield portion
            portion, asks = [], set()
        portion.append(event)
        asks |= reads
    if portion:
        yield portion


class _Storing:
    """The effects of a portion: what was read goes into the index, each answer once."""

    def __init__(self, rt: Runtime, batch: _Batch, answers: _Answers) -> None:
        self._rt = rt
        self._batch = batch
        self._answers = answers

    async def __call__(
        self, session: AsyncSession, events: Sequence[Event]
    ) -> Mapping[str, Settled]:
        configuration = await self._rt.configuration()
        now = utcnow()
        came: dict[Ask, datetime] = {}
        for event in events:
            for ask in self._batch.plans[event.id].reads:
                came[ask] = min(event.received_at, came.get(ask, event.received_at))
        refused: dict[str, Observation] = {}
        arrived: list[Arrived] = []
        for ask in sorted(came):
            answer = self._answers[ask]
            if isinstance(answer, Refused) and answer.observation is not None:
                refused[ask.connection_id] = answer.observation
            if not isinstance(answer, Records) or not answer.records:
                continue
            app = configuration.apps[self._batch.targets[ask.connection_id].app]
            arrived.append(
                Arrived(
                    ask.connection_id,
                    ask.entity,
                    answer.records,
                    bodies=ask.entity in app.bodies,
                    fields=identifying_fields(app.natural_keys, ask.entity),
                    asked_at=answer.asked_at,
                    received_at=came[ask],
                )
            )
        if arrived:
            await upsert_records(self._rt.store, session, arrived, source="webhook", now=now)
        if refused:
            seen = sorted(refused.items())
            policy = configuration.policy
            if await observe(self._rt.store, session, seen, policy=policy, now=now):
                await conclude(self._rt.store, session, policy=policy, now=now)
        return {event.id: self._settled(event) for event in events}

    def _settled(self, event: Event) -> Settled:
        plan = self._batch.plans[event.id]
        wrong = _wrong(plan, self._answers)
        if final := [one for one in wrong if _is_final(one)]:
            return give_up(event, final[0], plan.settled.connection_id)
        if wrong:
            note = f"{len(wrong)} of its keys could not be read in {READ_SECONDS:.0f} s"
            return plan.settled._replace(status="deferred", note=note)
        answers = [self._answers[ask] for ask in plan.reads]
        refusals = [str(one) for one in answers if isinstance(one, Refused)]
        if refusals and len(refusals) == len(answers):
            return plan.settled._replace(status="deferred", note=refusals[0])
        notes = [one.note for one in answers if isinstance(one, Records) and one.note]
        return plan.settled._replace(note=notes[0]) if notes else plan.settled


async def _put_off(
    rt: Runtime, claimed: Claimed, trouble: Sequence[tuple[Sequence[Event], Exception]]
) -> None:
    late = [event for some, error in trouble if isinstance(error, OutOfTime) for event in some]
    if late:
        await let_go(rt, claimed, late)
    await failed(rt, claimed, [one for one in trouble if not isinstance(one[1], OutOfTime)])
