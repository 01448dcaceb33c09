"""A finder hands over everything it finds wrong; its topic's incidents are brought in line with it.

Each topic has one owner, the module that has it as its `TOPIC`. Nobody else's incidents are
touched, and what people set on an incident (acknowledged, snoozed, muted) outlives every update.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.announce import announce
from linekeeper.incidents.kinds import KINDS
from linekeeper.incidents.lifecycle import (
    IncidentChange,
    Opening,
    find_open,
    join,
    leave,
    open_new,
    perform,
)
from linekeeper.store import Store
from linekeeper.store.configuration import health_policy
from linekeeper.store.tables import AppState, Connection, Incident, IncidentConnection
from linekeeper.store.tables.health import LIST_REFUSED

_LOCK = 4_217_003  # PostgreSQL's advisory lock: one process at a time brings a topic in line


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong at present."""

    kind: str
    cause: str
    """What makes it the same trouble the next time; unique among open incidents."""
    app: str
    title: str
    text: str
    """What is wrong and what to do about it, in whole sentences."""
    scope: str = "app"
    figure: float | None = None
    """How bad it is; people are notified again when it has doubled."""
    measure: str = ""
    """What `figure` counts, where one kind has several; people are notified of another one."""
    members: Sequence[str] = ()
    """Ids of the connections it is about."""
    resolved: str = "It is over."
    """What is said when it is found no more."""
    run_id: str | None = None
    """The run it is about; its message leads there."""
    detail: Mapping[str, Any] = field(default_factory=dict)


async def apply_findings(
    store: Store,
    session: AsyncSession,
    topic: str,
    findings: Sequence[Finding],
    *,
    now: datetime,
    undecided: Collection[str] = (),
    apps: Collection[str] | None = None,
    goes_on: Callable[[Mapping[str, Any], Finding], bool] | None = None,
) -> list[IncidentChange]:
    """Open, update and resolve the incidents of `topic`, so that they are what `findings` say.

    `findings` is complete: what is open and not among them is resolved, unless all its members are
    `undecided`: connections of which nothing can be known now. Who looks at the apps of the
    settings alone names them: that nothing is found of another doesn't say that its trouble is
    over, and the sweep resolves what is open of an app that was taken out (`sweep/app.py`).
    Where findings are grouped now so and now otherwise, `goes_on` tells which of them may take
    over from an incident, given its detail; if they have all its members, its trouble isn't over.
    Returns what changed; it is announced already, in the caller's transaction.
    """
    strange = [f.kind for f in findings if f.kind in KINDS and topic not in KINDS[f.kind].topics]
    assert not strange, f"{topic} has no incidents of the kind {strange[0]}"
    if not store.is_sqlite:
        await session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    by_cause = {finding.cause: finding for finding in findings}
    opened = {
        incident.cause: incident
        for incident in await session.scalars(
            select(Incident).where(
                col(Incident.topic) == topic, col(Incident.resolved_at).is_(None)
            )
        )
    }
    changes: list[IncidentChange] = []
    for finding in by_cause.values():
        incident = opened.get(finding.cause)
        if incident is None:
            changes += await _open(store, session, topic, finding, now)
        else:
            changes += await _update(store, session, incident, finding, now)
    for cause, incident in opened.items():
        if cause in by_cause:
            continue
        is_seen = apps is None or incident.app in apps
        if not (is_seen or await _is_removed(session, incident.app)):
            continue
        members = await _members(session, incident.id)
        if members and members <= set(undecided):
            continue
        if await perform(session, incident.id, "resolve", now=now):
            changes.append(_over(incident, members, by_cause.values(), goes_on))
    await announce(store, session, changes, now=now)
    return changes


def _over(
    incident: Incident,
    members: Collection[str],
    findings: Iterable[Finding],
    goes_on: Callable[[Mapping[str, Any], Finding], bool] | None,
) -> IncidentChange:
    """Whether the trouble of what is found no more is over, or only another incident's now."""
    if goes_on is not None:
        successors = [finding for finding in findings if goes_on(incident.detail, finding)]
        taken_over = {member for finding in successors for member in finding.members}
        if members and taken_over.issuperset(members):
            return IncidentChange(incident.id, "merged", "It goes on in another incident")
        if not taken_over.isdisjoint(members):
            said = "It is over at some of its connections; the others have incidents of their own"
            return IncidentChange(incident.id, "resolved", said)
    return IncidentChange(incident.id, "resolved", incident.detail.get("resolved") or "It is over.")


async def _open(
    store: Store, session: AsyncSession, topic: str, finding: Finding, now: datetime
) -> list[IncidentChange]:
    opening = Opening(
        topic=topic,
        kind=finding.kind,
        scope=finding.scope,
        cause=finding.cause,
        app=finding.app,
        title=finding.title,
        summary=finding.text,
        figure=finding.figure,
        run_id=finding.run_id,
        detail=_detail(finding),
        members=dict.fromkeys(finding.members, finding.kind),
    )
    change = await open_or_reopen(store, session, opening, finding.text, now=now)
    return [change] if change else []


async def _update(
    store: Store, session: AsyncSession, incident: Incident, finding: Finding, now: datetime
) -> list[IncidentChange]:
    turned = incident.kind != finding.kind
    is_other = incident.detail.get("measure", finding.measure) != finding.measure
    worse = is_other or is_worse(incident.figure, finding.figure)
    figure = finding.figure if worse else incident.figure
    run_id = finding.run_id or incident.run_id
    has_other_run = run_id != incident.run_id
    is_restated = _words(incident.title) != _words(finding.title)
    columns = {
        "kind": finding.kind,
        "title": finding.title,
        "summary": finding.text,
        "figure": figure,
        "run_id": run_id,
        "detail": {**incident.detail, **_detail(finding)},
    }
    moved = await _bring_members(
        store, session, incident, finding.members, kind=finding.kind, now=now
    )
    if any(getattr(incident, name) != value for name, value in columns.items()):
        await perform(session, incident.id, "change", now=now, **columns)
    if worse or moved or turned or has_other_run or is_restated:
        said = finding.text if worse or turned else ""
        return [IncidentChange(incident.id, "changed", said)]
    return []


async def _bring_members(
    store: Store,
    session: AsyncSession,
    incident: Incident,
    members: Collection[str],
    *,
    kind: str,
    now: datetime,
) -> bool:
    """Make these its members, who join with that `kind`; whether they were others."""
    before, wanted = await _members(session, incident.id), set(members)
    if before == wanted:
        return False
    await leave(session, incident.id, sorted(before - wanted), now=now)
    joined = dict.fromkeys(sorted(wanted - before), kind)
    await join(store, session, incident.id, incident.topic, joined, now=now)
    return True


_MEMBERS = select(col(IncidentConnection.connection_id)).where(
    col(IncidentConnection.incident_id) == bindparam("incident"),
    col(IncidentConnection.left_at).is_(None),
)


async def _is_removed(session: AsyncSession, app: str) -> bool:
    """Whether the sweep has resolved what was open of `app`: this was opened while it did so."""
    removed = select(col(AppState.removed_at)).where(col(AppState.app) == app)
    return await session.scalar(removed) is not None


async def _members(session: AsyncSession, incident_id: str) -> set[str]:
    return set(await session.scalars(_MEMBERS, {"incident": incident_id}))


def _detail(finding: Finding) -> dict[str, Any]:
    return {**finding.detail, "resolved": finding.resolved, "measure": finding.measure}


def _words(title: str | None) -> str:
    """What `title` says apart from its numbers: a message with other words would be untrue."""
    return re.sub(r"\d[\d,.]*", "", title or "")


def is_worse(before: float | None, figure: float | None) -> bool:
    """Whether it is so much worse than the last notification that a new one is due."""
    return figure is not None and figure >= 2 * max(before or 0.0, 1.0)


async def open_or_reopen(
    store: Store, session: AsyncSession, opening: Opening, text: str, *, now: datetime
) -> IncidentChange | None:
    """Open an incident, or reopen that of this trouble which was resolved not long ago, by the
    health policy; None where it is open already. A list that is refused is another trouble than one
    that can't be reached."""
    if await find_open(session, opening.cause) is not None:
        return None
    policy = await health_policy(store, session)
    rows = await session.execute(
        select(col(Incident.id), col(Incident.detail))
        .where(
            col(Incident.cause) == opening.cause,
            col(Incident.topic) == opening.topic,
            col(Incident.kind) == opening.kind,
            col(Incident.resolved_at) >= now - timedelta(minutes=policy.reopen_minutes),
        )
        .order_by(col(Incident.resolved_at).desc(), col(Incident.id).desc())
        .limit(1)
    )
    last = rows.first()
    if last is None or last.detail.get(LIST_REFUSED) != opening.detail.get(LIST_REFUSED):
        identifier = await open_new(store, session, opening, now=now)
        return IncidentChange(identifier, "opened", text) if identifier else None
    columns = {each.name: getattr(opening, each.name) for each in fields(Opening)}
    members = columns.pop("members")
    columns |= {"detail": dict(opening.detail), "reported_at": None}
    if not await perform(session, last.id, "reopen", now=now, **columns):
        return None  # another process has reopened it meanwhile
    await join(store, session, last.id, opening.topic, members, now=now)
    return IncidentChange(last.id, "reopened", text)


async def open_incident(
    store: Store, session: AsyncSession, opening: Opening, text: str = "", *, now: datetime
) -> None:
    """Open or reopen an incident and notify people of `text`, or its summary; nothing if it is
    open."""
    change = await open_or_reopen(store, session, opening, text or opening.summary, now=now)
    if change is not None:
        await announce(store, session, [change], now=now)


async def keep_members(
    store: Store, session: AsyncSession, cause: str, connections: Sequence[str], *, now: datetime
) -> None:
    """Make `connections` the members of the open incident of `cause`; nothing if there is none."""
    incident = await session.scalar(
        select(Incident).where(col(Incident.cause) == cause, col(Incident.resolved_at).is_(None))
    )
    if incident is not None:
        await _bring_members(store, session, incident, connections, kind=incident.kind, now=now)


async def open_causes(session: AsyncSession, *, topic: str, kind: str) -> list[tuple[str, str]]:
    """The apps and causes of the open incidents of a topic and kind."""
    rows = await session.execute(
        select(col(Incident.app), col(Incident.cause)).where(
            col(Incident.topic) == topic,
            col(Incident.kind) == kind,
            col(Incident.resolved_at).is_(None),
        )
    )
    return [(row[0], row[1]) for row in rows]


async def resolve_of_apps(
    store: Store, session: AsyncSession, apps: Sequence[str], text: str, *, now: datetime
) -> None:
    """Resolve whatever is open of `apps`, of every topic."""
    causes = await session.scalars(
        select(col(Incident.cause)).where(
            col(Incident.app).in_(apps), col(Incident.resolved_at).is_(None)
        )
    )
    for cause in causes.all():
        await resolve_incident(store, session, cause, text, now=now)


async def resolve_incident(
    store: Store, session: AsyncSession, cause: str, text: str, *, now: datetime
) -> None:
    """Resolve the open incident of `cause` and say `text`; nothing if there is none."""
    identifier = await find_open(session, cause)
    if identifier is not None and await perform(session, identifier, "resolve", now=now):
        await announce(store, session, [IncidentChange(identifier, "resolved", text)], now=now)


async def rename_cause(session: AsyncSession, cause: str, to: str, *, now: datetime) -> None:
    """Let the open incident of `cause` be that of `to`, unless `to` has one."""
    identifier = await find_open(session, cause)
    if identifier is not None and await find_open(session, to) is None:
        await perform(session, identifier, "change", now=now, cause=to)


async def resolve_of_disconnected(store: Store, topics: Sequence[str], *, now: datetime) -> int:
    """Resolve open incidents of `topics` about a connection that is disconnected; how many."""
    open_of_disconnected = (
        select(col(Incident.cause))
        .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
        .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
        .where(
            col(Incident.topic).in_(topics),
            col(Incident.scope) == "connection",
            col(Incident.resolved_at).is_(None),
            col(Connection.setup) == "disconnected",
        )
        .distinct()
    )
    async with store.read() as session:
        causes = list(await session.scalars(open_of_disconnected))
    if causes:
        async with store.write() as session:
            for cause in causes:
                await resolve_incident(
                    store, session, cause, "The connection was disconnected", now=now
                )
    return len(causes)
