"""Saying that something happened: rows of the outbox, in the transaction that makes it true."""

import logging
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.config.quiet import Quiet
from linekeeper.incidents.changes import IncidentChange
from linekeeper.incidents.conclude_queries import heads_of
from linekeeper.incidents.lifecycle import add_entries, next_revisions
from linekeeper.incidents.members import members_of
from linekeeper.outbox.events import RELATED_LIMIT, IncidentFacts, incident_event
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store.engine import Store
from linekeeper.text import shown

log = logging.getLogger(__name__)

_TEXT_LIMIT = 3_000


async def announce(
    store: Store, session: AsyncSession, changes: Sequence[IncidentChange], *, now: datetime
) -> None:
    """Notify people and the Event Feed of `changes`, in the caller's transaction.

    Each incident's `revision` grows by one however many changes it has here; with it go one
    `show`, one timeline entry a change, one reply in the thread (the texts, a line each) and the
    events. Pending changes of the session
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
    messages = [_too(incidents[one], head) for one, head in alike.items()]
    for incident_id, its_changes in by_incident.items():
        incident = incidents[incident_id]
        lane = incident_lane(incident_id)
        messages.append(
            Message(
                "slack",
                f"{lane}:show:{incident.revision}",
                {"do": "show", "incident_id": incident_id},
                lane,
            )
        )
        texts = [shown(c.text, _TEXT_LIMIT, keep_lines=True) for c in its_changes if c.text]
        if texts:
            entry = {"do": "diary", "incident_id": incident_id, "text": "\n".join(texts)}
            messages.append(Message("slack", f"{lane}:diary:{incident.revision}", entry, lane))
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


def _too(incident: IncidentFacts, head: str) -> Message:
    """Said at once in the thread of the first of them, for its own message is held back."""
    lane = incident_lane(head)
    text = f"{incident.title} lost its login moments later: perhaps one root cause"
    entry = {"do": "diary", "incident_id": head, "text": text}
    return Message("slack", f"{lane}:alike:{incident.id}", entry, lane)


async def say(
    store: Store,
    session: AsyncSession,
    subject: str,
    text: str,
    now: datetime,
    *,
    quiet: Quiet | None = None,
) -> None:
    """A message of its own, such as a test alert; a `subject` is said once.

    Where it is `quiet` now, it is said when that ends.
    """
    payload = {
        "do": "say",
        "subject": subject,
        "text": shown(text, _TEXT_LIMIT, keep_lines=True),
    }
    at = quiet.until(now) if quiet is not None else None
    message = Message("slack", f"slack:say:{subject}", payload, not_before=at)
    await enqueue(store, session, [message], now=now)


def incident_lane(incident_id: str) -> str:
    """The outbox lane of everything said about an incident."""
    return f"slack:incident:{incident_id}"
