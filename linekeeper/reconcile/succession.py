"""A successor takes over the records of the connection before: compared, renamed, told.

Its first complete listing fills the index without a word in the feed. Then a plan says which old
record is which new one (`matching`), and its steps are taken, some thousand a transaction: what a
crash cuts short goes on with the next step, and each is told once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.clock import utcnow
from linekeeper.incidents.single import open_incident
from linekeeper.outbox.forward import RecoveredChange, forward_changes
from linekeeper.reconcile import succession_queries as queries
from linekeeper.reconcile.accounting import Counts, count_due
from linekeeper.reconcile.identity import identifying_fields
from linekeeper.reconcile.matching import Matching, Row, is_changed, match_records
from linekeeper.reconcile.queries import append_changes, lock_feed
from linekeeper.reconcile.succession_queries import Step
from linekeeper.reconcile.target import Target
from linekeeper.runtime import Runtime
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Deletion, Succession, SuccessionStep

TOPIC = "succession"
KIND = "records_unmatched"
CLOCKS = timedelta(minutes=1)
"""By how much clocks of our machines may differ."""

Op = Literal["inserted", "updated", "rekeyed"]


@dataclass(slots=True)
class Taken:
    """What some steps come to: changes to tell, old rows to remove or to move."""

    changes: list[dict[str, Any]] = field(default_factory=list)
    matched: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)

    def count(self, op: Op) -> int:
        """How many changes of this kind."""
        return sum(change["op"] == op for change in self.changes)


async def take_over(
    rt: Runtime, target: Target, succession: Succession, *, started: datetime, run_at: datetime
) -> Counts:
    """Compare the listing of `target` that began at `started` with the predecessor's records.

    What is counted is in a `drift` row of the run at `run_at`, for a back-fill.
    """
    if succession.status == "pending":
        await _plan(rt, target, succession, started)
    return await complete(rt, target, succession.entity, run_at=run_at)


async def complete(rt: Runtime, target: Target, entity: str, *, run_at: datetime) -> Counts:
    """Take the steps that are left of a plan, also one a crash cut short."""
    store = rt.store
    succession = (await queries.successions_of(store, target.id)).get(entity)
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
        return await count_due(store, session, target.id, entity, run_at=run_at, cause="backfill")


async def _plan(rt: Runtime, target: Target, succession: Succession, started: datetime) -> None:
    """Decide which old record is which new one, and write the steps down."""
    store, entity, before = rt.store, succession.entity, succession.predecessor_id
    await queries.forget_steps(store, target.id, entity)
    looked_at = utcnow()
    old = await queries.live_rows(store, before, entity)
    new = await queries.live_rows(store, target.id, entity)
    fields = identifying_fields(target.app.natural_keys, entity)
    # Seconds of work for a hundred thousand records: what else this process does goes on.
    matching = await asyncio.to_thread(match_records, old, new, fields)
    steps = _steps(matching, old, new)
    for start in range(0, len(steps), queries.AT_ONCE):
        async with store.write() as session:
            await queries.add_steps(
                session, target.id, entity, steps[start : start + queries.AT_ONCE]
            )
    known = {row.key for row in new}
    ambiguous = sum(len(olds) for olds, _ in matching.groups)
    held = [key for olds, _ in matching.groups for key in olds]
    async with store.write() as session:
        await lock_feed(store, session, target.id)
        # What webhooks brought since the index was looked at has been told nobody.
        late = await queries.unplanned_keys(
            session, target.id, entity, since=looked_at - CLOCKS, planned=known
        )
        await queries.add_steps(
            session, target.id, entity, [("insert", None, key, None) for key in late]
        )
        deletion = await _hold(
            session,
            target,
            entity,
            ambiguous=held,
            unmatched=matching.unmatched,
            live=len(old),
        )
        for start in range(0, len(held), queries.AT_ONCE):
            await queries.move_rows(
                store,
                session,
                entity,
                held[start : start + queries.AT_ONCE],
                before=before,
                after=target.id,
                deletion_id=deletion,
            )
        await queries.set_succession(
            session,
            target.id,
            entity,
            status="planned",
            listed_at=started,
            rule=matching.rule,
            comparable=matching.comparable,
            records=len(old),
            ambiguous=ambiguous,
            unmatched=len(matching.unmatched),
        )
        if deletion is not None:
            await _ask(
                store,
                session,
                target,
                entity,
                ambiguous=ambiguous,
                unmatched=len(matching.unmatched),
            )


def _steps(matching: Matching, old: Sequence[Row], new: Sequence[Row]) -> list[Step]:
    """The plan; a record that is the same under the same key needs no step."""
    before, after = {row.key: row for row in old}, {row.key: row for row in new}
    steps: list[Step] = [
        ("match", key, other, None)
        for key, other in matching.pairs.items()
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


async def _hold(
    session: AsyncSession,
    target: Target,
    entity: str,
    *,
    ambiguous: Sequence[str],
    unmatched: Sequence[str],
    live: int,
) -> str | None:
    """The deletion that holds what nobody knows the new key of: it isn't gone by itself."""
    if not ambiguous and not unmatched:
        return None
    deletion = Deletion(
        id=new_id(),
        connection_id=target.id,
        entity=entity,
        status="unmatched",
        records=len(ambiguous) + len(unmatched),
        live=live,
        at=utcnow(),
    )
    session.add(deletion)
    await session.flush()
    return deletion.id


async def _ask(
    store: Store,
    session: AsyncSession,
    target: Target,
    entity: str,
    *,
    ambiguous: int,
    unmatched: int,
) -> None:
    """Tell people that some of the predecessor's records wait for them."""
    said = []
    if ambiguous:
        said.append(
            f"{ambiguous:,} records may each be one of several: say which in the form "
            "`match-records`, whose page lists them."
        )
    if unmatched:
        said.append(
            f"{unmatched:,} records were stored by an earlier version, and too little is known "
            "of them to recognise them under other keys: what the system has now is in the feed "
            "as new. Once nothing refers to the old keys, accept them in the form `deletions`."
        )
    count = ambiguous + unmatched
    await open_incident(
        store,
        session,
        topic=TOPIC,
        kind=KIND,
        scope="connection",
        cause=cause(target.id, entity),
        app=target.app.name,
        title=f"{target.label} · {entity}: {count:,} records of the connection before are not "
        "matched",
        text="The new login made a new connection. " + " ".join(said),
        connections=[target.id],
        detail={"entity": entity, "ambiguous": ambiguous, "unmatched": unmatched},
        now=utcnow(),
    )


def cause(connection_id: str, entity: str) -> str:
    """The cause of the incident of records that wait for a person."""
    return f"succession:{connection_id}:{entity}"


async def _take_some(rt: Runtime, target: Target, succession: Succession) -> bool:
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
        await tell(store, session, target, entity, taken.changes, last=last)
        await queries.remove_rows(store, session, before, entity, taken.matched)
        sides = {"before": before, "after": target.id}
        await queries.move_rows(store, session, entity, taken.absent, **sides)
        if taken.unmatched:
            deletion = await queries.held_by(session, target.id, entity)
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


def decide_steps(
    steps: Sequence[SuccessionStep],
    old: Mapping[str, Row],
    new: Mapping[str, Row],
    *,
    comparable: bool,
) -> Taken:
    """What `steps` come to, by the rows as they are now. Pure but for the ids it makes."""
    taken = Taken()
    for step in steps:
        before, after = old.get(step.old_key or ""), new.get(step.new_key or "")
        if step.op == "match" and before is not None and after is not None:
            taken.matched.append(before.key)
            if before.key != after.key:
                taken.changes.append(_change("rekeyed", after, old_key=before.key))
            if is_changed(before, after, comparable=comparable):
                taken.changes.append(_change("updated", after))
        elif step.op == "insert" and after is not None:
            taken.changes.append(_change("inserted", after))
        elif step.op in ("absent", "match") and before is not None:
            taken.absent.append(before.key)
        elif step.op == "unmatched" and before is not None:
            taken.unmatched.append(before.key)
    return taken


def _change(op: Op, row: Row, *, old_key: str | None = None) -> dict[str, Any]:
    return {
        "id": new_id(),
        "key": row.key,
        "op": op,
        "old_key": old_key,
        "updated_at": row.time,
        "due": None if op == "rekeyed" else "missed",
    }


async def tell(
    store: Store,
    session: AsyncSession,
    target: Target,
    entity: str,
    changes: Sequence[dict[str, Any]],
    *,
    last: int,
) -> None:
    """Append `changes` to the feed, numbered on from `last`, and hand them on."""
    if not changes:
        return
    now = utcnow()
    rows = [
        {
            "connection_id": target.id,
            "seq": seq,
            "position": None,
            "entity": entity,
            "at": now,
            "source": "succession",
            "recovered": True,
            "announced_at": None,
            **change,
        }
        for seq, change in enumerate(changes, start=last + 1)
    ]
    await append_changes(session, rows)
    recovered = [
        RecoveredChange(
            id=row["id"],
            connection_id=target.id,
            makini_key=target.makini_key,
            entity=entity,
            key=row["key"],
            op=row["op"],
            at=row["updated_at"] or now,
            old_key=row["old_key"],
        )
        for row in rows
    ]
    await forward_changes(store, session, target.app, recovered, now=now)
