"""What people decide about records that may each be one of several of the connection before."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.find import NotFound, find_connection
from linekeeper.reconcile import succession_queries as queries
from linekeeper.reconcile.matching import MatchRow
from linekeeper.reconcile.queries import clear_marks, lock_feed, records_of
from linekeeper.reconcile.succession_steps import decide_steps, publish
from linekeeper.reconcile.target import PollTarget, load_targets
from linekeeper.reconcile.unmatched import settle_held
from linekeeper.refusal import Refusal
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.lists import one_of
from linekeeper.store.tables import Audit, Connection, Record, Succession, SuccessionStep, Watermark
from linekeeper.text import named

Decision = Literal["show", "pair", "same_contents", "distinct"]
MOST_GROUPS = 200
"""Groups of a page."""


class NoMatch(Refusal):
    """It can't be decided so; the message says why."""


@dataclass(slots=True)
class Group:
    """Records of which only a person can tell which is which."""

    entity: str
    old: dict[str, Record] = field(default_factory=dict)
    new: dict[str, Record] = field(default_factory=dict)

    @property
    def alike(self) -> dict[str, str]:
        """New key by old key of those whose contents but for keys are nobody else's. Pure."""
        before, after = _by_contents(self.old), _by_contents(self.new)
        return {
            keys[0]: after[contents][0]
            for contents, keys in before.items()
            if len(keys) == 1 and len(after.get(contents, [])) == 1
        }


@dataclass(frozen=True, slots=True)
class WaitingMatches:
    """What waits at one connection."""

    target: PollTarget
    slug: str
    groups: Sequence[Group]


@dataclass(slots=True)
class MatchOutcome:
    """What became of it."""

    matched: int = 0
    new: int = 0
    left: int = 0


async def waiting_at(rt: Runtime, wanted: str) -> WaitingMatches:
    """The groups that wait at the connection called `wanted`. Raises `NoMatch`."""
    try:
        async with rt.store.read() as session:
            named = await find_connection(session, wanted)
            connection = await session.get_one(Connection, named.id)
    except NotFound as error:
        raise NoMatch("deletion", str(error)) from None
    (target,) = await load_targets(rt, await rt.app(connection.app), [connection.id])
    groups: dict[str, Group] = {}
    async with rt.store.read() as session:
        entities = await session.scalars(
            select(col(SuccessionStep.entity))
            .where(
                col(SuccessionStep.connection_id) == target.id,
                col(SuccessionStep.op) == "ambiguous",
            )
            .distinct()
        )
        for entity in sorted(entities):
            steps = await queries.ambiguous_steps(session, target.id, entity)
            records = await _records(rt.store, session, target.id, entity, steps)
            for step in steps:
                group = groups.setdefault(step.group_key or step.id, Group(entity))
                for side, key in ((group.old, step.old_key), (group.new, step.new_key)):
                    if key is not None and key in records:
                        side[key] = records[key]
    return WaitingMatches(target, connection.slug, list(groups.values()))


async def decide_matches(
    rt: Runtime,
    wanted: str,
    decision: Decision,
    *,
    pairs: Mapping[str, str],
    by: str,
    now: datetime,
) -> MatchOutcome:
    """Match `pairs` (new key by old key), those with the same contents, or say that all differ.

    A record left alone in its group is no other: one of the connection before is gone once the
    source's listings agree, a new one is published as inserted. Raises `NoMatch`.
    """
    waiting = await waiting_at(rt, wanted)
    chosen: dict[str, dict[str, str]] = defaultdict(dict)
    unknown = dict(pairs)
    for group in waiting.groups:
        of_group = group.alike if decision == "same_contents" else {}
        if decision == "pair":
            of_group = {
                old: new for old, new in pairs.items() if old in group.old and new in group.new
            }
        for old in of_group:
            unknown.pop(old, None)
        chosen[group.entity] |= of_group
    if decision == "pair" and unknown:
        which = named(f"{old} = {new}" for old, new in unknown.items())
        raise NoMatch("pairs", f"these are not of one group that waits: {which}; nothing was done")
    if not waiting.groups:
        raise NoMatch("deletion", f"{waiting.target.label}: nothing waits there")
    done = MatchOutcome()
    for entity in sorted(chosen):
        await _settle(
            rt,
            waiting.target,
            entity,
            chosen[entity],
            all_differ=decision == "distinct",
            done=done,
            now=now,
        )
    async with rt.store.write() as session:
        session.add(
            Audit(
                at=now,
                by=by,
                action="records.matched",
                subject=waiting.target.id,
                detail={"decision": decision, "matched": done.matched, "new": done.new},
            )
        )
        await session.flush()
    return done


async def _settle(
    rt: Runtime,
    target: PollTarget,
    entity: str,
    chosen: Mapping[str, str],
    *,
    all_differ: bool,
    done: MatchOutcome,
    now: datetime,
) -> None:
    """Take the steps that follow from what was decided about one entity, in one transaction."""
    store = rt.store
    async with store.write() as session:
        last = await lock_feed(store, session, target.id)
        steps = await queries.ambiguous_steps(session, target.id, entity)
        taken, released, finished = _follow(steps, chosen, all_differ=all_differ)
        rows = await queries.rows_of(
            store,
            session,
            target.id,
            entity,
            [key for step in taken for key in (step.old_key, step.new_key) if key],
        )
        olds: dict[str, MatchRow] = {key: rows[key] for key in chosen if key in rows}
        succession = await session.get_one(Succession, (target.id, entity))
        result = decide_steps(taken, olds, rows, comparable=succession.comparable)
        await publish(store, session, target, entity, result.changes, last=last)
        await queries.remove_rows(store, session, target.id, entity, result.matched)
        released += result.absent  # its partner went meanwhile
        await clear_marks(store, session, target.id, entity, released)
        await queries.drop_steps(session, finished)
        await queries.count_up(
            session,
            target.id,
            entity,
            matched=len(result.matched),
            rekeyed=result.count("rekeyed"),
            updated=result.count("updated"),
            inserted=result.count("inserted"),
            ambiguous=-len(result.matched) - len(released),
        )
        if released:  # whether they are gone the next listings tell
            await session.execute(
                update(Watermark)
                .where(col(Watermark.connection_id) == target.id, col(Watermark.entity) == entity)
                .values(confirm_at=now)
            )
        await settle_held(store, session, target.id, entity, now=now)
        done.matched += len(result.matched)
        done.new += result.count("inserted")
        done.left += await queries.waiting_count(session, target.id, entity)


def _follow(
    steps: Sequence[SuccessionStep], chosen: Mapping[str, str], *, all_differ: bool
) -> tuple[list[SuccessionStep], list[str], list[str]]:
    """Steps to take, old keys that are no longer held, and the ids of steps that are over. Pure.

    Raises `NoMatch` where a record of a pair was given to another, here or by somebody else.
    """
    groups: defaultdict[str, list[SuccessionStep]] = defaultdict(list)
    for step in steps:
        groups[step.group_key or step.id].append(step)
    taken: list[SuccessionStep] = []
    released: list[str] = []
    finished: list[str] = []
    for group in groups.values():
        old = {step.old_key: step for step in group if step.old_key is not None}
        new = {step.new_key: step for step in group if step.new_key is not None}
        for old_key in list(old):
            other = new.pop(chosen.get(old_key, ""), None)
            if other is None:
                continue
            step = old.pop(old_key)
            taken.append(_step(step, "match", old_key, other.new_key))
            finished += [step.id, other.id]
        if old and new and not all_differ:
            continue
        released += old
        taken += [_step(step, "insert", None, key) for key, step in new.items()]
        finished += [step.id for step in (*old.values(), *new.values())]
    if left := chosen.keys() - {step.old_key for step in taken}:
        which = named(f"{old} = {chosen[old]}" for old in sorted(left))
        raise NoMatch("pairs", f"one of the two does not wait any more: {which}; nothing was done")
    return taken, released, finished


def _step(of: SuccessionStep, op: str, old_key: str | None, new_key: str | None) -> SuccessionStep:
    return SuccessionStep(
        connection_id=of.connection_id, entity=of.entity, op=op, old_key=old_key, new_key=new_key
    )


async def _records(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    entity: str,
    steps: Sequence[SuccessionStep],
) -> dict[str, Record]:
    keys = [key for step in steps for key in (step.old_key, step.new_key) if key is not None]
    rows = await session.scalars(
        select(Record).where(*records_of(connection_id, entity), one_of(store, Record.key, keys))
    )
    return {row.key: row for row in rows}


def _by_contents(records: Mapping[str, Record]) -> dict[str, list[str]]:
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for key, record in records.items():
        if record.plain_hash is not None:
            keys[record.plain_hash].append(key)
    return dict(keys)
