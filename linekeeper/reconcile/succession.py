"""A successor takes over the records of the connection before: compared, renamed, published.

Its first complete listing fills the index without a word in the feed. Then a plan says which old
record is which new one (`matching`), and its steps are taken, some thousand a transaction: what a
crash cuts short goes on with the next step, and each is published once.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from linekeeper.clock import utcnow
from linekeeper.reconcile import succession_queries as queries
from linekeeper.reconcile.accounting import Counts, count_due
from linekeeper.reconcile.deletion_queries import put_tombstones
from linekeeper.reconcile.identity import identifying_fields
from linekeeper.reconcile.known import successions_of
from linekeeper.reconcile.matching import Matching, MatchRow, is_changed, match_records
from linekeeper.reconcile.matching_deleted import match_deleted
from linekeeper.reconcile.queries import lock_feed
from linekeeper.reconcile.succession_queries import Step
from linekeeper.reconcile.succession_steps import decide_steps, freeing_first, publish
from linekeeper.reconcile.target import PollTarget
from linekeeper.reconcile.unmatched import ask, hold
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Succession

DOUBT_LASTS = timedelta(days=1)
"""How long a listing that lacks nothing is waited for."""
CLOCKS = timedelta(minutes=1)
"""How far the clocks of our machines may differ."""


def may_take_over(succession: Succession, *, doubtful: bool, now: datetime) -> bool:
    """Whether to compare by a listing now. Pure.

    One that may lack records would make of those a deletion and an insertion; a source of which
    no better listing comes for a day is taken as it is.
    """
    return not doubtful or now - succession.created_at >= DOUBT_LASTS


async def take_over(
    rt: Runtime,
    target: PollTarget,
    succession: Succession,
    *,
    deleted: Sequence[MatchRow],
    run_at: datetime,
    shard: str | None = None,
) -> Counts:
    """Compare a listing of `target` with the predecessor's records.

    It names those in `deleted` as deleted. What is counted is in a `drift` row of the run at
    `run_at`, for a backfill.
    """
    if succession.status == "pending":
        await _plan(rt, target, succession, deleted)
    return await complete(rt, target, succession.entity, run_at=run_at, shard=shard)


async def complete(
    rt: Runtime, target: PollTarget, entity: str, *, run_at: datetime, shard: str | None = None
) -> Counts:
    """Take the steps that are left of a plan, also one a crash cut short."""
    store = rt.store
    succession = (await successions_of(store, target.id)).get(entity)
    if succession is None or succession.status != "planned":
        return Counts()
    while await _take_some(rt, target, succession):
        pass
    before = succession.predecessor_id
    async with store.write() as session:
        await lock_feed(store, session, target.id)
        await queries.move_tombstones(session, entity, before=before, after=target.id)
    await queries.remove_rest(store, before, entity)
    async with store.write() as session:
        await lock_feed(store, session, target.id)
        await queries.set_succession(session, target.id, entity, status="done", done_at=utcnow())
        return await count_due(
            store, session, target.id, entity, run_at=run_at, cause="backfill", shard=shard
        )


async def _plan(
    rt: Runtime,
    target: PollTarget,
    succession: Succession,
    deleted: Sequence[MatchRow],
) -> None:
    """Decide which old record is which new one, and write the steps down."""
    store, entity, before = rt.store, succession.entity, succession.predecessor_id
    await queries.forget_steps(store, target.id, entity)
    looked_at = utcnow()
    old = await queries.live_rows(store, before, entity)
    new = await queries.live_rows(store, target.id, entity)
    fields = identifying_fields(target.app.natural_keys, entity)
    # Seconds of work for a hundred thousand records: what else this process does goes on.
    matching = await asyncio.to_thread(match_records, old, new, fields)
    await asyncio.to_thread(match_deleted, matching, old, new, deleted, fields)
    steps = _steps(matching, old, new)
    for chunk in chunked(steps, queries.AT_ONCE):
        async with store.write() as session:
            await queries.add_steps(session, target.id, entity, chunk)
    known = {row.key for row in new}
    ambiguous = sum(len(olds) for olds, _ in matching.groups)
    held = [key for olds, _ in matching.groups for key in olds]
    async with store.write() as session:
        await lock_feed(store, session, target.id)
        # What webhooks brought since the index was looked at has been published to nobody.
        late = await queries.unplanned_keys(
            session, target.id, entity, since=looked_at - CLOCKS, planned=known
        )
        await queries.add_steps(
            session, target.id, entity, [("insert", None, key, None) for key in late]
        )
        unmatched = len(matching.unmatched)
        await hold(session, target, entity, ambiguous=ambiguous, unmatched=unmatched, live=len(old))
        deletion = await queries.held_by(session, target.id, entity, "ambiguous")
        for keys in chunked(held, queries.AT_ONCE):
            await queries.move_rows(
                store,
                session,
                entity,
                keys,
                before=before,
                after=target.id,
                deletion_id=deletion,
            )
        await queries.set_succession(
            session,
            target.id,
            entity,
            status="planned",
            rule=matching.rule,
            comparable=matching.comparable,
            records=len(old),
            ambiguous=ambiguous,
            unmatched=unmatched,
        )
        if ambiguous or unmatched:
            await ask(store, session, target, entity, ambiguous=ambiguous, unmatched=unmatched)


def _steps(matching: Matching, old: Sequence[MatchRow], new: Sequence[MatchRow]) -> list[Step]:
    """The plan; a record that is the same under the same key needs no step.

    Whoever follows the renames one by one finds each new key free, as far as any order allows.
    """
    before, after = {row.key: row for row in old}, {row.key: row for row in new}
    steps: list[Step] = [("deleted", key, other, None) for key, other in matching.deleted.items()]
    steps += [
        ("match", key, other, None)
        for key, other in freeing_first(matching.pairs)
        if key != other or is_changed(before[key], after[other], comparable=matching.comparable)
    ]
    steps += [("insert", None, key, None) for key in matching.fresh]
    steps += [("absent", key, None, None) for key in matching.gone]
    steps += [("unmatched", key, None, None) for key in matching.unmatched]
    for olds, news in matching.groups:
        group = new_id()
        steps += [("ambiguous", key, None, group) for key in olds]
        steps += [("ambiguous", None, key, group) for key in news]
    return steps


async def _take_some(rt: Runtime, target: PollTarget, succession: Succession) -> bool:
    """Take the next steps in one transaction; whether there were any."""
    store, entity, before = rt.store, succession.entity, succession.predecessor_id
    async with store.write() as session:
        last = await lock_feed(store, session, target.id)
        steps = await queries.next_steps(session, target.id, entity)
        if not steps:
            return False
        olds = [step.old_key for step in steps if step.old_key is not None]
        news = [step.new_key for step in steps if step.new_key is not None]
        old_rows = await queries.rows_of(store, session, before, entity, olds)
        new_rows = await queries.rows_of(store, session, target.id, entity, news)
        taken = decide_steps(steps, old_rows, new_rows, comparable=succession.comparable)
        await publish(store, session, target, entity, taken.changes, last=last)
        await queries.remove_rows(store, session, before, entity, taken.matched)
        if taken.deleted:
            await put_tombstones(store, session, before, entity, taken.deleted, now=utcnow())
        sides = {"before": before, "after": target.id}
        await queries.move_rows(store, session, entity, taken.absent, **sides)
        if taken.unmatched:
            deletion = await queries.held_by(session, target.id, entity, "unmatched")
            await queries.move_rows(
                store, session, entity, taken.unmatched, deletion_id=deletion, **sides
            )
        await queries.drop_steps(session, [step.id for step in steps])
        await queries.count_up(
            session,
            target.id,
            entity,
            matched=len(taken.matched),
            rekeyed=taken.count("rekeyed"),
            updated=taken.count("updated"),
            inserted=taken.count("inserted"),
            absent=len(taken.absent),
        )
    return True
