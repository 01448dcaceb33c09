"""How Slack is told of each incident: in which channel, with which others, or not yet.

A channel is the one it was told in, else the one its rules lead to.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.chunks import chunked
from linekeeper.config import Configuration, SlackConfig
from linekeeper.notify.places import messages_of
from linekeeper.notify.routing import DEFAULT, About, Concerned, channels_of, route
from linekeeper.outbox.queue import OUTBOX
from linekeeper.store.engine import Store
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Notice,
    Outbox,
)

_AT_ONCE = 5_000
_FIRST = (
    select(col(Notice.incident_id), col(Notice.fold), col(Notice.slack_channel))
    .where(
        col(Notice.incident_id).in_(bindparam("ids", expanding=True)),
        col(Notice.channel) == "slack",
        col(Notice.step) == "first",
    )
    .order_by(col(Notice.round))
)
_CONCERNED = (
    select(
        col(IncidentConnection.incident_id),
        col(Connection.provider),
        col(Connection.tags),
        col(Customer.name),
        col(Customer.slug),
        col(Customer.owner),
    )
    .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
    .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
    .where(col(IncidentConnection.incident_id).in_(bindparam("ids", expanding=True)))
)
MOST = 2_000
"""So many are divided at a time, the oldest."""
_DUE = (
    select(OUTBOX.c.id, OUTBOX.c.payload)
    .where(
        OUTBOX.c.channel == "slack",
        OUTBOX.c.status == "pending",
        OUTBOX.c.next_attempt_at <= bindparam("now"),
    )
    .order_by(OUTBOX.c.next_attempt_at, OUTBOX.c.seq)
    .limit(MOST)
)


@dataclass(frozen=True, slots=True)
class First:
    """How Slack is told of an incident."""

    slack_channel: str
    fold: str | None
    """The message it shares with others, if it does."""


async def due_messages(store: Store, *, now: datetime) -> dict[str, dict[str, Any]]:
    """The payloads of the messages that are due, by their ids."""
    async with store.read() as session:
        rows = await session.execute(_DUE, {"now": now})
        return {row.id: row.payload for row in rows}


def incidents_of(payloads: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ids of the incidents that messages are about."""
    return [i for payload in payloads if isinstance(i := payload.get("incident_id"), str)]


async def first_notices(session: AsyncSession, incident_ids: Collection[str]) -> dict[str, First]:
    """Those that Slack is to be told of, and how; of several rounds the last.

    An incident that isn't among them is not to be told, or not yet.
    """
    found: dict[str, First] = {}
    for ids in chunked(sorted(set(incident_ids)), _AT_ONCE):
        for incident_id, fold, name in await session.execute(_FIRST, {"ids": ids}):
            found[incident_id] = First(name or DEFAULT, fold)
    return found


async def incidents_of_fold(store: Store, key: str) -> list[str]:
    """The incidents that the one message `key` tells of."""
    async with store.read() as session:
        rows = await session.scalars(
            select(col(Notice.incident_id)).where(col(Notice.fold) == key).order_by(col(Notice.id))
        )
        return list(rows)


async def withheld_texts(store: Store, lane: str) -> list[str]:
    """What an incident's diary would have said while it was not to be told, oldest first."""
    async with store.read() as session:
        rows = await session.scalars(
            select(col(Outbox.payload))
            .where(
                col(Outbox.lane) == lane,
                col(Outbox.status) == "suppressed",
            )
            .order_by(col(Outbox.seq))
        )
        return [str(row["text"]) for row in rows if row.get("do") == "diary"]


async def channels_for(
    session: AsyncSession,
    configuration: Configuration,
    incidents: Sequence[Incident],
    severities: Mapping[str, str],
) -> dict[str, str]:
    """The name of each incident's channel. One that was told of stays where it was told."""
    if not configuration.slack_channels:
        return {}
    channels = channels_of(configuration)
    told = await first_notices(session, [incident.id for incident in incidents])
    chosen = {incident_id: first.slack_channel for incident_id, first in told.items()}
    fresh = [incident for incident in incidents if incident.id not in chosen]
    concerned: dict[str, set[Concerned]] = {}
    for ids in chunked([incident.id for incident in fresh], _AT_ONCE):
        for incident_id, provider, tags, name, slug, owner in await session.execute(
            _CONCERNED, {"ids": ids}
        ):
            names = frozenset(filter(None, (name, slug)))
            member = Concerned(owner or "", names, frozenset(tags or ()), provider)
            concerned.setdefault(incident_id, set()).add(member)
    for incident in fresh:
        about = About(
            topics=(incident.kind, incident.topic),
            severity=severities.get(incident.id, ""),
            concerned=concerned.get(incident.id, set()),
        )
        chosen[incident.id] = route(about, channels)
    return chosen


async def channel_of_message(
    store: Store, payload: Mapping[str, Any], channels: Mapping[str, SlackConfig]
) -> str:
    """The channel of a message that is about no incident; a thread stays where it began."""
    if (fold := payload.get("slack_channel")) is not None:
        return str(fold)
    if len(channels) < 2:
        return DEFAULT
    if (thread := payload.get("thread")) is not None:
        begun = await messages_of(store, str(thread))
        known = [name for name, channel in channels.items() if channel.channel in begun]
        if known:
            return known[0]
    async with store.read() as session:
        return route(await about_message(session, payload), channels)


async def about_message(session: AsyncSession, payload: Mapping[str, Any]) -> About:
    """What a message that is about no incident is about, as its writer said."""
    about = payload.get("about")
    if not isinstance(about, Mapping):
        return About()
    connection = None
    if about.get("connection_id"):
        connection = await session.get(Connection, str(about["connection_id"]))
    customer_id = connection.customer_id if connection else about.get("customer_id")
    customer = await session.get(Customer, str(customer_id)) if customer_id else None
    concerned = []
    if connection is not None or customer is not None:
        concerned.append(
            Concerned(
                owner=(customer.owner or "") if customer else "",
                customers=(customer.name, customer.slug) if customer else (),
                tags=tuple(connection.tags) if connection else (),
                provider=connection.provider if connection else "",
            )
        )
    return About(topics=(str(about.get("topic", "")),), concerned=concerned)
