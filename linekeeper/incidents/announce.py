"""Saying that something happened: rows of the outbox, in the transaction that makes it true.

With them goes whom it concerns: the members of incidents, in the order in which they are named.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Subquery, bindparam, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config.alerts import Quiet
from linekeeper.incidents.lifecycle import IncidentChange, add_entries, next_revisions
from linekeeper.outbox.events import RELATED_LIMIT, About, IncidentFacts, incident_event
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store.engine import Store, chunked
from linekeeper.store.tables import Connection, Customer, Incident, IncidentConnection
from linekeeper.store.types import UtcDateTime
from linekeeper.text import shown

log = logging.getLogger(__name__)

_TEXT_LIMIT = 3_000
LOST = "reauthorization_required"
ROOT_CAUSE_WAIT = timedelta(seconds=20)
"""A lost login that follows another of its provider by less is held back for so long."""
_LONGEST = timedelta(minutes=10)
"""A row of logins lost within moments of each other is no longer."""


async def announce(
    store: Store, session: AsyncSession, changes: Sequence[IncidentChange], *, now: datetime
) -> None:
    """Notify people and the Event Feed of `changes`, in the caller's transaction.

    Each incident's `revision` grows by one however many changes it has here; with it go one
    `show`, one timeline entry a change, one reply in the thread (the texts, a line each), what has
    the reply that counts say who is affected by now, and the events. Pending changes of the session
    are flushed first; an `Incident` the caller holds keeps the old `revision`.

    Raises `LookupError` if an incident doesn't exist.
    """
    if not changes:
        return
    await session.flush()
    by_incident: dict[str, list[IncidentChange]] = {}
    for change in changes:
        by_incident.setdefault(change.incident_id, []).append(change)
    incidents = await next_revisions(session, list(by_incident))
    if missing := by_incident.keys() - incidents.keys():
        raise LookupError(f"no such incident: {', '.join(sorted(missing))}")
    members = await members_of(session, list(by_incident), each=RELATED_LIMIT)
    opened = [change.incident_id for change in changes if change.what == "opened"]
    alike = await heads_of(session, opened, now=now)
    messages = [_too(incidents[incident_id], head) for incident_id, head in alike.items()]
    for incident_id, its_changes in by_incident.items():
        incident = incidents[incident_id]
        ordering_key = incident_ordering_key(incident_id)
        messages.append(
            Message(
                "slack",
                show_key(incident_id, incident.revision),
                {"do": "show", "incident_id": incident_id, "revision": incident.revision},
                ordering_key,
            )
        )
        counted = [change for change in its_changes if change.is_counted]
        others = [change for change in its_changes if not change.is_counted]
        if entry := _entry(counted):
            entry |= {"counts": True, "revision": incident.revision}
            key = counts_key(incident_id, incident.revision)
            messages.append(Message("slack", key, entry, ordering_key))
        if entry := _entry(others):
            key = f"{ordering_key}:timeline:{incident.revision}"
            messages.append(Message("slack", key, entry, ordering_key))
        for change in its_changes:
            log.info("%s: %s", incident.title, change.what, extra={"incident": incident_id})
            text = shown(change.text, _TEXT_LIMIT, keep_lines=True)
            event = incident_event(
                incident, change.what, members.get(incident_id, []), text, now=now
            )
            if event is not None:
                messages.append(event)
    await add_entries(
        session,
        [
            {
                "incident_id": change.incident_id,
                "at": now,
                "kind": change.what,
                "text": shown(change.text, _TEXT_LIMIT, keep_lines=True),
            }
            for change in changes
            if change.text or change.what != "changed"
        ],
    )
    await enqueue(store, session, messages, now=now)


def _entry(changes: Sequence[IncidentChange]) -> dict[str, Any]:
    """What asks for a reply in the thread that says `changes` of one incident; empty: for none."""
    texts = [
        shown(change.text, _TEXT_LIMIT, keep_lines=True)
        for change in changes
        if change.text and change.what != "reopened"  # its first notice says so in the thread
    ]
    if not texts:
        return {}
    text = "\n".join(texts)
    entry: dict[str, Any] = {"do": "timeline", "incident_id": changes[0].incident_id, "text": text}
    if joined := ", ".join(change.joined for change in changes if change.joined):
        entry["joined"] = shown(joined, _TEXT_LIMIT)
    return entry


def _too(incident: IncidentFacts, head: str) -> Message:
    """Say it at once in the thread of the first of them, for its own message is held back."""
    ordering_key = incident_ordering_key(head)
    text = f"{incident.title} lost its login moments later: perhaps one root cause"
    entry = {"do": "timeline", "incident_id": head, "text": text}
    return Message("slack", f"{ordering_key}:alike:{incident.id}", entry, ordering_key)


def heads(incidents: Sequence[Incident | Row[Any]]) -> dict[str, str]:
    """Return the first of the row for lost logins that follow another of their provider.

    Makini announces them one by one; whoever doesn't answer is suspected for a while first. Pure.
    """
    last: dict[tuple[str, str], tuple[datetime, str]] = {}
    first_ids: dict[str, str] = {}
    for incident in sorted(incidents, key=lambda other: (other.opened_at, other.id)):
        is_lost = (incident.scope, incident.kind) == (
            "connection",
            LOST,
        ) and incident.resolved_at is None
        if not is_lost or not incident.provider:
            continue
        where = (incident.app, incident.provider)
        before, head = last.get(where, (datetime.min.replace(tzinfo=incident.opened_at.tzinfo), ""))
        if incident.opened_at - before < ROOT_CAUSE_WAIT:
            first_ids[incident.id] = head
        else:
            head = incident.id
        last[where] = incident.opened_at, head
    return first_ids


_LOST = select(
    col(Incident.id),
    col(Incident.app),
    col(Incident.provider),
    col(Incident.scope),
    col(Incident.kind),
    col(Incident.opened_at),
    col(Incident.resolved_at),
).where(
    col(Incident.scope) == "connection",
    col(Incident.kind) == LOST,
    col(Incident.resolved_at).is_(None),
    col(Incident.opened_at) > bindparam("since", type_=UtcDateTime),
)


async def heads_of(
    session: AsyncSession, incident_ids: Collection[str], *, now: datetime
) -> dict[str, str]:
    """Return which of `incident_ids`, just opened, follow another, each with the first of the
    row."""
    if not incident_ids:
        return {}
    lost: Any = await session.execute(_LOST, {"since": now - _LONGEST})
    head_ids = heads(lost.all())
    return {
        identifier: head_ids[identifier] for identifier in incident_ids if identifier in head_ids
    }


async def say(
    store: Store,
    session: AsyncSession,
    subject: str,
    text: str,
    now: datetime,
    *,
    quiet: Quiet | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """A message of its own, such as a test alert; a `subject` is said once.

    Where it is `quiet` now, it is said when that ends. `about`: as `said_about` gives it.
    """
    payload = {
        "do": "say",
        "subject": subject,
        "text": shown(text, _TEXT_LIMIT, keep_lines=True),
        **(about or {}),
    }
    at = quiet.until(now) if quiet is not None else None
    message = Message("slack", f"slack:say:{subject}", payload, kind="say", not_before=at)
    await enqueue(store, session, [message], now=now)


def said_about(
    topic: str, *, customer_id: str | None = None, connection_id: str | None = None
) -> dict[str, Any]:
    """The part of the payload that says what a message that is about no incident is about."""
    return {"about": {"topic": topic, "customer_id": customer_id, "connection_id": connection_id}}


def incident_ordering_key(incident_id: str) -> str:
    """The ordering key of everything said about an incident."""
    return f"slack:incident:{incident_id}"


def first_key(incident_id: str, opening: int = 0) -> str:
    """The dedupe key of the message with which an incident is first notified in Slack.

    `opening` counts how often it was reopened before.
    """
    again = f":{opening}" if opening else ""
    return f"{incident_ordering_key(incident_id)}{again}:first"


def show_key(incident_id: str, revision: int) -> str:
    """The dedupe key of what brings an incident's message up to a revision."""
    return f"{incident_ordering_key(incident_id)}:show:{revision}"


def counts_key(incident_id: str, revision: int) -> str:
    """The dedupe key of what has its thread's reply count who is affected at a revision."""
    return f"{incident_ordering_key(incident_id)}:counts:{revision}"


_AT_ONCE = 5_000


OF_ITS_ROUND = or_(
    col(Incident.reopened_at).is_(None),
    col(IncidentConnection.joined_at) >= col(Incident.reopened_at),
    col(IncidentConnection.left_at).is_(None),
)
"""The membership is of the incident's present opening, not only of an earlier one."""


def _ranked_members() -> Subquery:
    """One row a connection (its last membership), numbered within each incident.

    Who was in it only before it was reopened is none of them: that trouble is over.
    Those still affected come first, then those of critical customers, then as they joined. The
    incidents are the variable `incident_ids`.
    """
    last = (
        select(
            col(IncidentConnection.incident_id),
            col(IncidentConnection.connection_id),
            col(IncidentConnection.topic),
            col(IncidentConnection.kind),
            col(IncidentConnection.joined_at),
            col(IncidentConnection.left_at),
            func.row_number()
            .over(
                partition_by=[
                    col(IncidentConnection.incident_id),
                    col(IncidentConnection.connection_id),
                ],
                order_by=[
                    col(IncidentConnection.joined_at).desc(),
                    col(IncidentConnection.id).desc(),
                ],
            )
            .label("age"),
        )
        .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
        .where(
            col(IncidentConnection.incident_id).in_(bindparam("incident_ids", expanding=True)),
            OF_ITS_ROUND,
        )
        .subquery()
    )
    gone = case((last.c.left_at.is_(None), 0), else_=1)
    ordinary = case((col(Customer.critical).is_(True), 0), else_=1)
    return (
        select(
            last.c.incident_id,
            last.c.connection_id,
            last.c.topic,
            last.c.kind,
            last.c.joined_at,
            last.c.left_at,
            func.row_number()
            .over(
                partition_by=last.c.incident_id,
                order_by=[gone, ordinary, last.c.joined_at, last.c.connection_id],
            )
            .label("rank"),
            func.count().over(partition_by=last.c.incident_id).label("members"),
            func.sum(1 - gone).over(partition_by=last.c.incident_id).label("affected"),
        )
        .select_from(last)
        .join(Connection, col(Connection.id) == last.c.connection_id)
        .join(Customer, col(Customer.id) == col(Connection.customer_id), isouter=True)
        .where(last.c.age == 1)
        .subquery()
    )


RANKED = _ranked_members()
_ABOUT = (
    select(
        RANKED.c.incident_id,
        col(Connection.id),
        col(Connection.name),
        col(Connection.provider),
        col(Customer.id),
        col(Customer.name),
    )
    .join(Connection, col(Connection.id) == RANKED.c.connection_id)
    .join(Customer, col(Customer.id) == col(Connection.customer_id), isouter=True)
    .where(RANKED.c.rank <= bindparam("each"))
    .order_by(RANKED.c.incident_id, RANKED.c.rank)
)


async def members_of(
    session: AsyncSession, incident_ids: Sequence[str], *, each: int
) -> dict[str, list[About]]:
    """Up to `each` connections of every incident, as events name them."""
    abouts: dict[str, list[About]] = {}
    for batch in chunked(incident_ids, _AT_ONCE):
        rows = await session.execute(_ABOUT, {"incident_ids": list(batch), "each": each})
        for incident_id, *about in rows:
            abouts.setdefault(incident_id, []).append(About(*about))
    return abouts
