"""Observations into the database: judged, recorded, announced, in the caller's transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import uniform
from linekeeper.config import HealthPolicy
from linekeeper.customers.naming import label
from linekeeper.health.dispute import explained
from linekeeper.health.evidence import (
    CALLS,
    Health,
    Judged,
    Observation,
    Outcome,
    dump,
    is_readable,
    load,
    without_evidence,
)
from linekeeper.health.judge import dated, has_read_all, is_noteworthy, judge, without_future
from linekeeper.outbox.events import About, connection_event
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store import Store, new_id, tables
from linekeeper.store.engine import chunked
from linekeeper.store.relisting import list_whole_again
from linekeeper.store.tables import Connection, Customer, Transition, Watermark
from linekeeper.store.types import UtcDateTime, table_of


@dataclass(frozen=True, slots=True)
class StateChange:
    """A connection whose health changed."""

    connection_id: str
    label: str
    before: Health
    after: Health
    observation: Observation


@dataclass(frozen=True, slots=True)
class _Row:
    judged: Judged
    id: str
    app: str
    customer_id: str | None
    customer: str | None
    provider: str
    name: str
    told_apart_by: str | None
    health: str
    health_since: datetime
    """When the present health began, as the observation dates it."""
    unlisted_since: datetime | None
    sync_status: str | None
    last_sync_at: datetime | None
    last_good_at: datetime | None
    last_checked_at: datetime | None
    last_answered_at: datetime | None


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
    rows = await _load(session, sorted({identifier for identifier, _ in seen}), now)
    late: set[int] = set() if too_late is None else too_late
    before = dict(rows)
    changes: list[StateChange] = []
    updates: dict[str, dict[str, Any]] = {}
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
        if is_noteworthy(observation, verdict, row.judged):
            recorded.append(_recorded(identifier, observation, verdict.applied))
        if not verdict.applied:
            late.add(number)
            continue
        judged = verdict.judged
        if given.source in CALLS or _is_without_word(row, given):
            replied_at = given.at if is_readable(given) else judged.replied_at
            judged = replace(judged, asked_at=given.at, replied_at=replied_at)
        next_row = _heard_of if verdict.awaits_call else _next_row
        after = next_row(row, judged, observation)
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
        updates[identifier] = _values(after, _next_probe_at(after, observation, policy, now))
    if updates:
        await session.execute(_WRITE, [updates[key] for key in sorted(updates)])
    if recorded:
        await session.execute(_RECORD, recorded)
    await _record_changes(store, session, changes, rows, now)
    await _list_what_synced(session, before, rows, now)
    if well := sorted({each.connection_id for each in changes if each.after is Health.healthy}):
        await session.execute(_END_WAITS, {"now": now, "ids": well})
    return changes


async def _list_what_synced(
    session: AsyncSession, before: dict[str, _Row], rows: dict[str, _Row], now: datetime
) -> None:
    """List whole whose first sync is over: it brought what is older than the last poll."""
    if ids := [each for each in rows if has_read_all(before[each].judged, rows[each].judged)]:
        await list_whole_again(session, ids, now=now)


_AWAITS_CALL = "calls of the connection fail, or none was answered yet, so the next one decides"
_KNOWN = (
    select(
        col(Connection.judged),
        col(Connection.id),
        col(Connection.app),
        col(Connection.customer_id),
        col(Customer.name),
        col(Connection.provider),
        col(Connection.name),
        col(Connection.told_apart_by),
        col(Connection.health),
        col(Connection.health_since),
        col(Connection.unlisted_since),
        col(Connection.sync_status),
        col(Connection.last_sync_at),
        col(Connection.last_good_at),
        col(Connection.last_checked_at),
        col(Connection.last_answered_at),
    )
    .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
    .where(col(Connection.id).in_(bindparam("ids", expanding=True)))
    .order_by(col(Connection.id))
    # Not its key: `conclude` refers to the row from another transaction, which this one waits for.
    .with_for_update(of=Connection, key_share=True)
)


async def _load(session: AsyncSession, ids: list[str], now: datetime) -> dict[str, _Row]:
    rows: dict[str, _Row] = {}
    for chunk in chunked(ids, 10_000):
        known = await session.execute(_KNOWN, {"ids": chunk})
        for held, identifier, *about in known:
            rows[identifier] = _Row(without_future(load(held), now), identifier, *about)
    return rows


def _next_row(row: _Row, judged: Judged, observation: Observation) -> _Row:
    looked = _is_look(observation)
    unsaid = observation.outcome in (Outcome.missed, Outcome.unclear)
    answered = looked and not unsaid and not _is_without_word(row, observation)
    good = looked and judged.own is Health.healthy and judged.misses == 0
    return _Row(
        judged,
        row.id,
        row.app,
        row.customer_id,
        row.customer,
        row.provider,
        row.name,
        row.told_apart_by,
        judged.health.value,
        row.health_since if judged.health.value == row.health else observation.at,
        row.unlisted_since,
        sync_status=observation.sync_status or row.sync_status,
        last_sync_at=observation.sync_updated_at or row.last_sync_at,
        last_good_at=observation.at if good else row.last_good_at,
        last_checked_at=observation.at if looked else row.last_checked_at,
        last_answered_at=observation.at if answered else row.last_answered_at,
    )


def _heard_of(row: _Row, judged: Judged, observation: Observation) -> _Row:
    """The row of one that Makini speaks of: it is there, and was not looked at."""
    return replace(
        row,
        judged=judged,
        last_sync_at=observation.sync_updated_at or row.last_sync_at,
        last_answered_at=observation.at if row.last_answered_at else None,
    )


def _is_without_word(row: _Row, observation: Observation) -> bool:
    """Whether only the list could say anything, which lacks it: no token, and none is minted."""
    return observation.source == "list" and row.unlisted_since is not None


def _is_look(observation: Observation) -> bool:
    """Whether the connection itself was looked at; a report of the product is only a hint."""
    if observation.source == "list":
        return observation.decisive or observation.tried
    return observation.outcome is not Outcome.doubted


def _next_probe_at(
    row: _Row, seen: Observation, policy: HealthPolicy, now: datetime
) -> datetime | None:
    """None, which is at once, for one of which only the list spoke: no call was possible."""
    if row.judged.asked_at is None and seen.outcome is Outcome.listed and not seen.tried:
        return None
    # A little earlier than due, spread out; what Makini says unasked puts no probe off.
    wait = timedelta(minutes=policy.probe_minutes * uniform(0.8, 0.95))
    return (row.judged.asked_at or row.last_checked_at or now) + wait


def _values(row: _Row, next_probe_at: datetime | None) -> dict[str, Any]:
    return {
        "row_id": row.id,
        "new_health": row.health,
        "new_health_since": row.health_since,
        "new_judged": dump(row.judged),
        "new_suspect": row.judged.suspect,
        "new_evidence": row.judged.evidence.value if row.judged.evidence else None,
        "new_last_read_at": row.judged.read_at,
        "new_sync_status": row.sync_status,
        "new_last_sync_at": row.last_sync_at,
        "new_last_good_at": row.last_good_at,
        "new_last_checked_at": row.last_checked_at,
        "new_last_answered_at": row.last_answered_at,
        "new_next_probe_at": next_probe_at,
    }


_WRITTEN = (
    *("health", "health_since", "judged", "suspect", "evidence", "last_read_at", "sync_status"),
    *("last_sync_at", "last_good_at", "last_checked_at", "last_answered_at", "next_probe_at"),
)
_TABLE = table_of(Connection)
_WRITE = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("row_id"))
    .values({name: bindparam(f"new_{name}", type_=_TABLE.c[name].type) for name in _WRITTEN})
)
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
    rows: dict[str, _Row],
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
    changes: Iterable[StateChange], transitions: Iterable[dict[str, Any]], rows: dict[str, _Row]
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
