"""Observations into the database: judged, recorded, announced, in the caller's transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import bindparam, insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.config import HealthPolicy
from linekeeper.customers.naming import label
from linekeeper.health.dispute import explained
from linekeeper.health.evidence import (
    CALLS,
    OURS,
    Health,
    Judged,
    Observation,
    Outcome,
    is_readable,
)
from linekeeper.health.held import (
    Held,
    after_look,
    after_word,
    is_without_word,
    load_held,
    next_probe_at,
    write_held,
)
from linekeeper.health.judge import Judgement, dated, has_read_all, judge
from linekeeper.health.makinis_word import without_evidence
from linekeeper.outbox.events import About, connection_event
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store import Store, new_id, tables
from linekeeper.store.relisting import list_whole_again
from linekeeper.store.tables import Transition, Watermark
from linekeeper.store.types import UtcDateTime, table_of


@dataclass(frozen=True, slots=True)
class StateChange:
    """A connection whose health changed."""

    connection_id: str
    label: str
    before: Health
    after: Health
    observation: Observation


async def observe(
    store: Store,
    session: AsyncSession,
    seen: Sequence[tuple[str, Observation]],
    *,
    policy: HealthPolicy,
    now: datetime,
    too_late: set[int] | None = None,
) -> list[StateChange]:
    """Judge `seen` (connection id, observation), write what follows, return what changed.

    Several observations of one connection are judged in the order given. Ids nobody knows are
    left out. Rows are locked in the order of their ids, so that two writers never wait in a circle.
    To `too_late` the places are added of those that say nothing any more: a newer one was known.
    """
    rows = await load_held(session, sorted({identifier for identifier, _ in seen}), now)
    late: set[int] = set() if too_late is None else too_late
    before = dict(rows)
    changes: list[StateChange] = []
    probed_next: dict[str, datetime | None] = {}
    recorded: list[dict[str, Any]] = []
    for number, (identifier, stated) in enumerate(seen):
        row, given = rows.get(identifier), dated(stated, now)
        if row is None:
            continue
        observed = given if row.unlisted_since is None else without_evidence(given)
        verdict = judge(row.judged, observed, policy)
        disputed = verdict.judged.disputed
        observation = explained(observed, verdict.judged) if disputed else observed
        if verdict.doubts:
            observation = replace(observation, outcome=Outcome.doubted)
        if verdict.awaits_call:
            observation = replace(observation, message=f"{observation.message}: {_AWAITS_CALL}")
        if _is_noteworthy(observation, verdict, row.judged):
            recorded.append(_recorded(identifier, observation, verdict.applied))
        if not verdict.applied:
            late.add(number)
            continue
        judged = verdict.judged
        if given.source in CALLS or is_without_word(row, given):
            replied_at = given.at if is_readable(given) else judged.replied_at
            judged = replace(judged, asked_at=given.at, replied_at=replied_at)
        held_after = after_word if verdict.awaits_call else after_look
        after = held_after(row, judged, observation)
        if after.health != row.health:
            changes.append(
                StateChange(
                    identifier,
                    label(row.customer, row.provider, row.name, row.told_apart_by),
                    Health(row.health),
                    Health(after.health),
                    observation,
                )
            )
        if after == row:
            continue
        rows[identifier] = after
        probed_next[identifier] = next_probe_at(after, observation, policy, now)
    await write_held(session, before, rows, probed_next)
    if recorded:
        await session.execute(_RECORD, recorded)
    await _record_changes(store, session, changes, rows, now)
    await _list_what_synced(session, before, rows, now)
    if well := sorted({each.connection_id for each in changes if each.after is Health.healthy}):
        await session.execute(_END_WAITS, {"now": now, "ids": well})
    return changes


async def _list_what_synced(
    session: AsyncSession, before: dict[str, Held], rows: dict[str, Held], now: datetime
) -> None:
    """List whole whose first sync is over: it brought what is older than the last poll."""
    if ids := [each for each in rows if has_read_all(before[each].judged, rows[each].judged)]:
        await list_whole_again(session, ids, now=now)


_AWAITS_CALL = "calls of the connection fail, or none was answered yet, so the next one decides"
_RECORD = insert(table_of(tables.Observation))
_END_WAITS = (
    # What could not be read while the whole was in trouble is asked for by the next poll.
    update(table_of(Watermark))
    .where(
        table_of(Watermark).c.connection_id.in_(bindparam("ids", expanding=True)),
        table_of(Watermark).c.retry_at > bindparam("now", type_=UtcDateTime),
    )
    .values(retry_at=bindparam("now", type_=UtcDateTime))
)
_ADD_TRANSITIONS = insert(table_of(Transition))


async def _record_changes(
    store: Store,
    session: AsyncSession,
    changes: Sequence[StateChange],
    rows: dict[str, Held],
    now: datetime,
) -> None:
    if not changes:
        return
    transitions = [
        {
            "id": new_id(),
            "connection_id": change.connection_id,
            "at": change.observation.at,
            "axis": "health",
            "before": change.before.value,
            "after": change.after.value,
            "source": change.observation.source,
            "evidence": evidence(change.observation),
        }
        for change in changes
    ]
    await session.execute(_ADD_TRANSITIONS, transitions)
    await enqueue(store, session, list(_events(changes, transitions, rows)), now=now)


def _events(
    changes: Iterable[StateChange], transitions: Iterable[dict[str, Any]], rows: dict[str, Held]
) -> Iterable[Message]:
    for change, transition in zip(changes, transitions, strict=True):
        row = rows[change.connection_id]
        yield connection_event(
            About(change.connection_id, change.label, row.provider, row.customer_id, row.customer),
            transition_id=transition["id"],
            health=change.after.value,
            before=change.before.value,
            source=change.observation.source,
            occurred=change.observation.at,
        )


def evidence(observation: Observation) -> dict[str, Any]:
    """What a transition keeps of the observation that caused it; holds no secret."""
    facts = {
        "outcome": observation.outcome.value,
        "lifecycle": observation.lifecycle,
        "code": observation.code,
        "message": observation.message,
        "request_id": observation.request_id,
    }
    return {name: value for name, value in facts.items() if value}


def _recorded(identifier: str, observation: Observation, applied: bool) -> dict[str, Any]:
    return {
        "id": new_id(),
        "connection_id": identifier,
        "at": observation.at,
        "source": observation.source,
        "outcome": observation.outcome.value,
        "applied": applied,
        "code": observation.code,
        "message": observation.message,
        "request_id": observation.request_id,
        "latency": observation.latency,
    }


def _is_noteworthy(observation: Observation, verdict: Judgement, before: Judged) -> bool:
    """Whether an observation is worth a row of its own beside the judgement."""
    if observation.source == "product":
        return False  # its report is written down as it came
    if not verdict.applied or verdict.judged.health is not before.health:
        return True
    is_word = observation.outcome in (Outcome.answered, Outcome.listed)
    return observation.source not in OURS or not is_word
