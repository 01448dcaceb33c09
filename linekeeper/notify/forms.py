"""The forms that messages of incidents lead to: where there are others, the messages are edited."""

from datetime import datetime

from sqlalchemy import select
from sqlmodel import col

from linekeeper.incidents.announce import incident_ordering_key
from linekeeper.notify.view import Links
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store.engine import Store, chunked
from linekeeper.store.tables import Incident, NoticeMessage


async def show_with_forms(store: Store, links: Links, *, now: datetime) -> int:
    """Have the messages of open incidents edited that lead to other forms, or to none.

    Returns how many; nothing is done while a form is unknown. Once for each set of forms.
    """
    if not links.has_all_forms:
        return 0
    stamp = links.forms_stamp
    async with store.read() as session:
        still_open = select(col(Incident.id)).where(col(Incident.resolved_at).is_(None))
        subjects = {f"incident:{opened}": opened for opened in await session.scalars(still_open)}
        stale: set[str] = set()
        for chunk in chunked(list(subjects), 5_000):
            rows = await session.execute(
                select(col(NoticeMessage.subject), col(NoticeMessage.stamp)).where(
                    col(NoticeMessage.subject).in_(chunk)
                )
            )
            stale |= {subjects[row[0]] for row in rows if row[1] != stamp}
    messages = [
        Message(
            "slack",
            f"{incident_ordering_key(incident_id)}:forms-{stamp}",
            {"do": "show", "incident_id": incident_id},
            incident_ordering_key(incident_id),
        )
        for incident_id in sorted(stale)
    ]
    if messages:
        async with store.write() as session:
            await enqueue(store, session, messages, now=now)
    return len(messages)
