"""A customer who is to be asked for several things at about the same time gets one mail.

Mails of a customer go out in order, one at a time: the first names what those behind it ask for as
well, and once it has gone they need not be sent. Where it is given up, or not needed any more, the
next one goes.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.outbox.events import RECONNECT
from linekeeper.outbox.queue import OUTBOX
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Connection, Incident, IncidentConnection
from linekeeper.store.types import UtcDateTime

TOGETHER = ("ask", "remind")
"""What a mail asks of several cases at once."""
ASKED_LATELY = timedelta(days=1)
"""So long after a mail went out the next one to the same customer answers it."""
GATHERS = timedelta(seconds=15)
"""So long after it was written a mail waits at most for what is about to be asked, too."""

_BACKLOG = select(OUTBOX.c.ordering_key, OUTBOX.c.dedupe_key, OUTBOX.c.payload).where(
    OUTBOX.c.ordering_key.in_(bindparam("orders", expanding=True)),
    OUTBOX.c.status == "pending",
    OUTBOX.c.claimed_by.is_(None),
)
_LOOKED_AT = select(OUTBOX.c.payload).where(
    OUTBOX.c.channel == RECONNECT,
    OUTBOX.c.status == "pending",
    OUTBOX.c.next_attempt_at <= bindparam("now", type_=UtcDateTime),
)
_WHOSE = (
    select(col(IncidentConnection.incident_id), col(Connection.customer_id))
    .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
    .where(
        col(IncidentConnection.incident_id).in_(bindparam("incidents", expanding=True)),
        col(IncidentConnection.left_at).is_(None),
    )
)


_SENT = (
    select(OUTBOX.c.id, OUTBOX.c.payload)
    .where(
        OUTBOX.c.ordering_key == bindparam("order"),
        OUTBOX.c.status == "sent",
        OUTBOX.c.settled_at > bindparam("since", type_=UtcDateTime),
    )
    .order_by(OUTBOX.c.seq.desc())
    .limit(100)
)
_IN_TURN = (
    select(col(Incident.id))
    .where(col(Incident.id).in_(bindparam("incidents", expanding=True)))
    .order_by(col(Incident.id))
    .with_for_update(read=True)
)
_STILL_OPEN = select(col(Incident.id)).where(
    col(Incident.id).in_(bindparam("incidents", expanding=True)),
    col(Incident.resolved_at).is_(None),
)


class WaitingMail(NamedTuple):
    """A mail behind another to the same customer, which asks for the same of another case."""

    dedupe_key: str
    incident_id: str


async def backlogs_of(
    session: AsyncSession, rows: Sequence[OutboxRow]
) -> dict[str, list[WaitingMail]]:
    """By the row of a mail that was claimed what waits behind it."""
    first = {row.ordering_key: row for row in rows if row.payload["do"] in TOGETHER}
    backlogs: defaultdict[str, list[WaitingMail]] = defaultdict(list)
    if not first:
        return backlogs
    for order, key, payload in await session.execute(_BACKLOG, {"orders": sorted(first)}):
        row = first[order]
        if payload["do"] == row.payload["do"] and key != row.dedupe_key:
            backlogs[row.id].append(WaitingMail(key, payload["incident_id"]))
    return backlogs


async def backlog_in_turn(
    session: AsyncSession, row: OutboxRow, incidents: Collection[str]
) -> list[WaitingMail]:
    """What waits behind `row`, and nobody asks anew in these incidents until the transaction ends.

    Who asks writes a link and a mail; read one after the other, there could be one of them only.
    """
    await session.execute(_IN_TURN, {"incidents": sorted(incidents)})
    return (await backlogs_of(session, [row]))[row.id]


async def about_to_be_asked(
    store: Store, rows: Sequence[OutboxRow], *, now: datetime
) -> Collection[str]:
    """The mails of `rows` that were just written, while another case of their customer is still to
    be looked at: moments later that may ask, too."""
    young = [
        row for row in rows if row.payload["do"] in TOGETHER and now - row.created_at < GATHERS
    ]
    if not young:
        return ()
    async with store.read() as session:
        payloads = await session.scalars(_LOOKED_AT, {"now": now})
        incidents = sorted({payload["incident_id"] for payload in payloads})
        cases: defaultdict[str | None, set[str]] = defaultdict(set)
        for chunk in chunked(incidents, 5_000):
            for incident_id, customer_id in await session.execute(_WHOSE, {"incidents": chunk}):
                cases[customer_id].add(incident_id)
    return {
        row.id for row in young if cases[row.payload["customer_id"]] - {row.payload["incident_id"]}
    }


async def asked_before(
    store: Store, row: OutboxRow, named: Collection[str], *, now: datetime
) -> tuple[str, str] | None:
    """The last mail that asked the customer of `row` for another login, which is still to be given:
    its row and its incident. None where `row` doesn't ask, or there was none lately."""
    if row.payload["do"] != "ask":
        return None
    given = {"order": row.ordering_key, "since": now - ASKED_LATELY}
    async with store.read() as session:
        sent = {
            payload["incident_id"]: row_id
            for row_id, payload in reversed((await session.execute(_SENT, given)).all())
            if payload["do"] == "ask" and payload["incident_id"] not in named
        }
        still = set(await session.scalars(_STILL_OPEN, {"incidents": sorted(sent)}))
    return next(((sent[each], each) for each in reversed(sent) if each in still), None)


def named_by(row: OutboxRow, backlogs: Mapping[str, Sequence[WaitingMail]]) -> list[str]:
    """The incidents whose lost logins the mail of `row` names. Pure."""
    others = [each.incident_id for each in backlogs.get(row.id, ())]
    return list(dict.fromkeys([row.payload["incident_id"], *others]))
