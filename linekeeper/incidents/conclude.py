"""Incidents brought in line with the fleet, in the caller's transaction.

What is decided comes from the database alone, so that a sweep that was killed is completed by the
next one, and two processes that conclude one after the other open nothing twice.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import HealthPolicy
from linekeeper.incidents import kinds as words
from linekeeper.incidents.announce import OF_ITS_ROUND, announce
from linekeeper.incidents.causes import Trouble
from linekeeper.incidents.conclude_queries import (
    TOPIC,
    Who,
    concerned,
    open_incidents,
    open_kinds,
    past_incidents,
    standings,
    stored_scope,
    totals,
)
from linekeeper.incidents.decide import DISCONNECTED, Draft, Open, decide
from linekeeper.incidents.lifecycle import (
    IncidentChange,
    Opening,
    What,
    change_kinds,
    join,
    leave,
    open_new,
    perform,
)
from linekeeper.outbox.events import request_reconnects
from linekeeper.outbox.queue import enqueue
from linekeeper.store import Store
from linekeeper.store.lists import one_of
from linekeeper.store.tables import Connection, Incident, IncidentConnection
from linekeeper.text import counted, duration, health_name

_JOINED_NAMED = 20
"""As many as an incident's own message lists."""
_LOCK = 4_217_002  # PostgreSQL's advisory lock: one process concludes at a time


async def conclude(
    store: Store, session: AsyncSession, *, policy: HealthPolicy, now: datetime
) -> list[IncidentChange]:
    """Open, change, merge and resolve incidents as the fleet's health asks for; announce it all."""
    if not store.is_sqlite:
        await session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    opened = await open_incidents(session)
    fleet = await concerned(session, [member for each in opened for member in each.members])
    troubles = [
        Trouble(
            identifier,
            who.app,
            who.provider,
            kind,
            who.disappeared_at or who.since,
            who.customer_id,
        )
        for identifier, who in fleet.items()
        if (kind := who.trouble) is not None
    ]
    if not opened and not troubles:
        return []
    opened = await _with_owners(session, opened, fleet)
    placed = {member for each in opened for member in each.members}
    unassigned = [
        trouble.connection_id for trouble in troubles if trouble.connection_id not in placed
    ]
    since = now - timedelta(minutes=policy.reopen_minutes)
    counts, suspects = await totals(session) if troubles else ({}, {})
    decision = decide(
        troubles,
        opened,
        past=await past_incidents(session, unassigned, since),
        totals=counts,
        policy=policy,
        now=now,
        suspects=suspects,
        customers=await standings(session, troubles),
    )
    before = {incident.id: incident for incident in opened}
    lost = [member for member, who in fleet.items() if who.disappeared_at is not None]
    open_before = await open_kinds(session, lost)
    changes: list[IncidentChange] = []
    # First everybody leaves, then everybody joins: a connection is in one incident at a time.
    for wanted in decision.wanted:
        if wanted.id is not None and wanted.id in before:
            gone = before[wanted.id].members.keys() - wanted.members.keys()
            await leave(session, wanted.id, sorted(gone), now=now)
        for loser in wanted.merged:
            await perform(session, loser, "resolve", now=now)
            changes.append(IncidentChange(loser, "merged", "Part of a wider incident"))
    for identifier in decision.resolved:
        await perform(session, identifier, "resolve", now=now)
        changes.append(_ended(before[identifier], fleet, now))
    for wanted in decision.wanted:
        known = before.get(wanted.id or "")
        changes += await _bring(
            store, session, wanted, known, fleet=fleet, open_before=open_before, now=now
        )
    await announce(store, session, changes, now=now)
    ids = dict.fromkeys(change.incident_id for change in changes)
    await enqueue(store, session, request_reconnects(ids), now=now)
    return changes


async def _with_owners(
    session: AsyncSession, opened: Sequence[Open], fleet: Mapping[str, Who]
) -> list[Open]:
    """`opened`, with whose connections ever were in those in which there are one customer's now."""
    ids = [
        each.id
        for each in opened
        if each.scope in ("provider", "app")
        and len({fleet[member].customer_id for member in each.members if member in fleet}) == 1
    ]
    owners: defaultdict[str, set[str | None]] = defaultdict(set)
    for incident_id, customer_id in await session.execute(_OWNERS, {"ids": ids}) if ids else ():
        owners[incident_id].add(customer_id)
    return [
        replace(each, customers=frozenset(owners[each.id])) if each.id in owners else each
        for each in opened
    ]


_OWNERS = (
    select(col(IncidentConnection.incident_id), col(Connection.customer_id))
    .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
    .where(col(IncidentConnection.incident_id).in_(bindparam("ids", expanding=True)))
    .distinct()
)


async def _bring(
    store: Store,
    session: AsyncSession,
    wanted: Draft,
    known: Open | None,
    *,
    fleet: Mapping[str, Who],
    open_before: Mapping[str, Sequence[tuple[str, datetime]]],
    now: datetime,
) -> list[IncidentChange]:
    """Make the incident's row and members what `wanted` says; returns what is to be said."""
    title = _title(wanted, fleet, *await _ever(session, wanted))
    before = dict(known.members) if known else {}
    if wanted.id is None:
        opening = Opening(
            topic=TOPIC,
            kind=wanted.kind,
            scope=stored_scope(wanted.scope),
            cause=wanted.cause,
            app=wanted.app,
            provider=wanted.provider,
            customer_id=wanted.customer_id,
            title=title,
        )
        wanted.id = await open_new(store, session, opening, now=now)
        if wanted.id is None:
            raise LookupError(f"an incident of {wanted.cause} is open that was not seen")
    else:
        await perform(
            session,
            wanted.id,
            "reopen" if wanted.reopen else "change",
            now=now,
            kind=wanted.kind,
            scope=stored_scope(wanted.scope),
            cause=wanted.cause,
            provider=wanted.provider,
            customer_id=wanted.customer_id,
            title=title,
        )
    joined = {member: kind for member, kind in wanted.members.items() if member not in before}
    was_there = known is not None or wanted.reopen or wanted.merged
    reported = await _reported(store, session, wanted, list(joined)) if was_there else {}
    await join(store, session, wanted.id, TOPIC, joined, now=now, reported=reported)
    turned = {
        member: kind for member, kind in wanted.members.items() if before.get(member, kind) != kind
    }
    await change_kinds(session, wanted.id, turned)
    if known is None:
        what: What = "reopened" if wanted.reopen else "opened"
        said = words.headline(wanted.kind) or health_name(wanted.kind)
        text = f"{what.capitalize()}: {said}"
        if wanted.kind == DISCONNECTED:
            text += _open_before(wanted, fleet, open_before)
        return [IncidentChange(wanted.id, what, text)]
    changes = []
    if moved := _moved_text(wanted, before, fleet):
        names = _names(joined, fleet, most=_JOINED_NAMED)
        changes = [IncidentChange(wanted.id, "changed", moved, joined=names, is_counted=True)]
    if text := _turned_text(wanted, before, fleet):
        changes.append(IncidentChange(wanted.id, "changed", text))
    if not changes:
        text = f"It is taken for the trouble of {_where(wanted, fleet)} as a whole"
        changes = [IncidentChange(wanted.id, "changed", text)]
    return changes


async def _reported(
    store: Store, session: AsyncSession, wanted: Draft, members: Sequence[str]
) -> dict[str, str | None]:
    """What runs were red for, of those who were in this incident before: that is no news.

    Neither is what comes with the incidents merged into it. One that begins again is news, unless
    it is of a kind that comes and goes: a system that flaps would turn each sweep red.
    """
    is_news = wanted.reopen and wanted.kind not in words.FLAPPING
    before = [*wanted.merged, *([wanted.id] if wanted.id is not None and not is_news else [])]
    rows = await session.execute(
        select(col(IncidentConnection.connection_id), col(IncidentConnection.reported_kind))
        .where(
            one_of(store, IncidentConnection.incident_id, before),
            one_of(store, IncidentConnection.connection_id, members),
            col(IncidentConnection.left_at).is_not(None),
        )
        .order_by(col(IncidentConnection.left_at), col(IncidentConnection.id))
    )
    return {row[0]: row[1] for row in rows}


async def _ever(session: AsyncSession, wanted: Draft) -> tuple[set[str], set[str]]:
    """All who are or were in the incident since it was last opened, and all who were before.

    Its title doesn't shrink as they recover.
    """
    now, before = set(wanted.members), set[str]()
    if wanted.id is not None and wanted.scope != "connection":
        for connection_id, is_of_round in await session.execute(_EVER, {"of": wanted.id}):
            (now if is_of_round and not wanted.reopen else before).add(connection_id)
    return now, before


_EVER = (
    select(col(IncidentConnection.connection_id), OF_ITS_ROUND)
    .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
    .where(col(Incident.id) == bindparam("of"))
)


def _title(wanted: Draft, fleet: Mapping[str, Who], now: set[str], before: set[str]) -> str:
    """`before` is said where some of them are not in trouble again: it is another problem now."""
    if wanted.scope == "connection":
        return fleet[next(iter(wanted.members))].label
    where = _where(wanted, fleet)
    title = f"{where} · {counted(len(now), 'connection')}"
    if before <= now:
        return title
    was = counted(len(before), "connection")
    if len(now) > 1:
        return f"{title} again (before: {was})"
    return f"{fleet[next(iter(now))].label} again (before: {was} of {where})"


def _where(wanted: Draft, fleet: Mapping[str, Who]) -> str:
    customer = fleet[next(iter(wanted.members))].customer if wanted.customer_id else None
    return words.root_cause(wanted.scope, wanted.app, wanted.provider, customer)


def _moved_text(wanted: Draft, before: Mapping[str, str], fleet: Mapping[str, Who]) -> str:
    """Who belongs to it now, and who does not any more."""
    joined = [member for member in wanted.members if member not in before]
    gone = [member for member in before if member not in wanted.members]
    well = [member for member in gone if member in fleet and fleet[member].health == "healthy"]
    left = [member for member in gone if member not in well]
    moved = (("Joined", joined), ("Recovered", well), ("Left", left))
    return "; ".join(f"{verb}: {_names(group, fleet)}" for verb, group in moved if group)


def _turned_text(wanted: Draft, before: Mapping[str, str], fleet: Mapping[str, Who]) -> str:
    """What else changed about it."""
    turned = [member for member, kind in wanted.members.items() if before.get(member, kind) != kind]
    parts = [
        f"{fleet[member].label} is now {health_name(wanted.members[member])}" for member in turned
    ]
    if wanted.merged:
        parts.append(
            f"one root cause: {counted(len(wanted.merged), 'incident')} merged into this one"
        )
    return "; ".join(parts)


def _names(group: Iterable[str], fleet: Mapping[str, Who], *, most: int = 5) -> str:
    names = sorted(fleet[member].label if member in fleet else member for member in group)
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _open_before(
    wanted: Draft,
    fleet: Mapping[str, Who],
    open_before: Mapping[str, Sequence[tuple[str, datetime]]],
) -> str:
    """What was open about the members when they disappeared: it is not over, it is out of sight."""
    said: list[str] = []
    for member in wanted.members:
        kinds = ", ".join(
            f"{health_name(kind)} since {since:%Y-%m-%d %H:%M} UTC"
            for kind, since in open_before.get(member, ())
        )
        if kinds:
            said.append(f"{fleet[member].label}: {kinds}")
    return f". Open before: {'; '.join(sorted(said))}" if said else ""


def _ended(incident: Open, fleet: Mapping[str, Who], now: datetime) -> IncidentChange:
    """How an incident ends that has no members any more."""
    if any(fleet[member].removed_at is not None for member in incident.members):
        text = "The app was taken out of the settings: it is not watched any more"
        return IncidentChange(incident.id, "resolved", text)
    lost = [member for member in incident.members if fleet[member].disappeared_at is not None]
    if lost:
        text = (
            f"{_names(lost, fleet)} disappeared at Makini, so nothing more is known about this "
            "problem"
        )
        return IncidentChange(incident.id, "merged", text)
    return IncidentChange(
        incident.id, "resolved", f"Resolved after {duration(now - incident.opened_at)}"
    )
