"""Which Slack channel takes a message: the first whose rules fit, `default` the rest.

An incident is routed once, when it is first announced, and stays in that channel to its end: its
message is there; `outgrown` notifies another where it grows beyond that. What concerns several
connections fits a rule only if each of them does: an outage is not hidden in a customer's channel.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import Configuration, SlackConfig
from linekeeper.incidents.suppressed import IncidentRow
from linekeeper.outbox.queue import OUTBOX
from linekeeper.outbox.sender import NoLongerOurs, OutboxRow
from linekeeper.people import person
from linekeeper.store.engine import Store, chunked
from linekeeper.store.tables import (
    Connection,
    Customer,
    IncidentConnection,
    Notice,
    NoticeChannel,
    Outbox,
)

DEFAULT = "default"
_SEVERITIES = frozenset({"critical", "normal", "low"})


@dataclass(frozen=True, slots=True)
class Concerned:
    """A connection or customer a message is about."""

    owner: str = ""
    customers: Collection[str] = ()
    """The customer's name and slug."""
    tags: Collection[str] = ()
    provider: str = ""


@dataclass(frozen=True, slots=True)
class RuleSubject:
    """What a message is about, as the rules of channels see it."""

    topics: Collection[str] = ()
    severity: str = ""
    concerned: Collection[Concerned] = ()


def channels_of(configuration: Configuration) -> dict[str, SlackConfig]:
    """Every channel by the name of its block, in the order in which they are asked."""
    others = sorted(
        configuration.slack_channels.items(), key=lambda item: (item[1].position, item[0])
    )
    default = configuration.slack
    return dict(others) | ({DEFAULT: default} if default is not None else {})


def route(about: RuleSubject, channels: Mapping[str, SlackConfig]) -> str:
    """The name of the channel that takes it."""
    for name, channel in channels.items():
        if name != DEFAULT and has_rules(channel) and _fits(about, channel):
            return name
    return DEFAULT


def has_rules(channel: SlackConfig) -> bool:
    """Whether anything is filled in that says what the channel takes."""
    return any(_words(getattr(channel, field)) for field in _RULES)


def check(channel: SlackConfig) -> None:
    """Raise `ValueError` that says which rule can never fit."""
    unknown = sorted(_words(channel.severities) - _SEVERITIES)
    if unknown:
        known = ", ".join(sorted(_SEVERITIES))
        raise ValueError(f"severities: {', '.join(unknown)} is none of {known}")


_RULES = ("owners", "customers", "tags", "providers", "severities", "topics")


def _fits(about: RuleSubject, channel: SlackConfig) -> bool:
    severities, topics = _words(channel.severities), _words(channel.topics)
    if severities and not severities & _folded([about.severity]):
        return False
    if topics and not topics & _folded(about.topics):
        return False
    members: list[tuple[frozenset[str], list[frozenset[str]]]] = [
        (_words(channel.owners), [_called(each.owner) for each in about.concerned]),
        (_words(channel.customers), [_folded(each.customers) for each in about.concerned]),
        (_words(channel.tags), [_folded(each.tags) for each in about.concerned]),
        (_words(channel.providers), [_folded([each.provider]) for each in about.concerned]),
    ]
    return all(
        not wanted or (values and all(wanted & value for value in values))
        for wanted, values in members
    )


def _called(owner: str) -> frozenset[str]:
    """What a rule may call this owner: as written, by name, or by Slack's id."""
    whom = person(owner)
    return _folded([owner, whom.name, whom.slack_id])


def _words(text: str) -> frozenset[str]:
    return _folded(text.replace("\n", ",").split(","))


def _folded(values: Iterable[str]) -> frozenset[str]:
    return frozenset(folded for value in values if (folded := value.strip().casefold()))


_AT_ONCE = 5_000
_FIRST = (
    select(col(Notice.incident_id), col(Notice.group_key), col(Notice.slack_channel))
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
    """How an incident is announced in Slack."""

    slack_channel: str
    group_key: str | None
    """The message it shares with others, if it does."""


async def due_messages(store: Store, *, now: datetime) -> dict[str, dict[str, Any]]:
    """The payloads of the messages that are due, by their ids."""
    async with store.read() as session:
        rows = await session.execute(_DUE, {"now": now})
        return {row.id: row.payload for row in rows}


def incidents_of(payloads: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ids of the incidents that messages are about."""
    return [i for payload in payloads if isinstance(i := payload.get("incident_id"), str)]


_TROUBLE = select(col(NoticeChannel.since), col(NoticeChannel.needs_fix)).where(
    col(NoticeChannel.channel) == bindparam("name")
)


async def trouble_of(store: Store, channel: str) -> Row[datetime, bool] | None:
    """Since when a channel takes no messages, and whether that needs a fix, by what is known."""
    async with store.read() as session:
        return (await session.execute(_TROUBLE, {"name": channel})).first()


async def first_notices(session: AsyncSession, incident_ids: Collection[str]) -> dict[str, First]:
    """Those that are to be announced in Slack, and how; of several rounds the last.

    An incident that isn't among them is not to be announced, or not yet.
    """
    firsts: dict[str, First] = {}
    for ids in chunked(sorted(set(incident_ids)), _AT_ONCE):
        for incident_id, group_key, name in await session.execute(_FIRST, {"ids": ids}):
            firsts[incident_id] = First(name or DEFAULT, group_key)
    return firsts


async def later_reminds(store: Store, row: OutboxRow) -> bool:
    """Whether a later reminder of the same incident waits behind this one."""
    async with store.read() as session:
        backlog = await session.scalars(
            select(col(Outbox.payload)).where(
                col(Outbox.ordering_key) == row.ordering_key,
                col(Outbox.status) == "pending",
                col(Outbox.id) != row.id,
            )
        )
        return any(payload.get("do") == "remind" for payload in backlog)


_WITHHELD = (
    select(OUTBOX.c.payload)
    .where(
        OUTBOX.c.ordering_key == bindparam("key"),
        OUTBOX.c.status == literal_column("'suppressed'"),
    )
    .order_by(OUTBOX.c.seq)
)


async def withheld_texts(store: Store, ordering_key: str) -> list[str]:
    """The entries for an incident's thread that were suppressed, oldest first."""
    async with store.read() as session:
        rows = await session.scalars(_WITHHELD, {"key": ordering_key})
        return [str(row["text"]) for row in rows if row.get("do") in ("timeline", "diary")]


async def channels_for(
    session: AsyncSession,
    configuration: Configuration,
    incidents: Sequence[IncidentRow],
    severities: Mapping[str, str],
) -> dict[str, str]:
    """The name of each incident's channel. One that was announced stays where it was."""
    if not configuration.slack_channels:
        return {}
    channels = channels_of(configuration)
    announced = await first_notices(session, [incident.id for incident in incidents])
    chosen = {incident_id: first.slack_channel for incident_id, first in announced.items()}
    fresh = [incident for incident in incidents if incident.id not in chosen]
    return chosen | await fitting_channels(session, channels, fresh, severities)


async def fitting_channels(
    session: AsyncSession,
    channels: Mapping[str, SlackConfig],
    incidents: Sequence[IncidentRow],
    severities: Mapping[str, str],
) -> dict[str, str]:
    """The name of the channel that takes each incident as it is now."""
    concerned: dict[str, set[Concerned]] = {}
    for ids in chunked([incident.id for incident in incidents], _AT_ONCE):
        for incident_id, provider, tags, name, slug, owner in await session.execute(
            _CONCERNED, {"ids": ids}
        ):
            names = frozenset(filter(None, (name, slug)))
            member = Concerned(owner or "", names, frozenset(tags or ()), provider)
            concerned.setdefault(incident_id, set()).add(member)
    about = {
        each.id: RuleSubject(
            (each.kind, each.topic), severities.get(each.id, ""), concerned.get(each.id, set())
        )
        for each in incidents
    }
    return {incident_id: route(subject, channels) for incident_id, subject in about.items()}


class EarlierMessageWaits(Exception):
    """The message it belongs under is yet to be sent, or stands for too short a time to be followed
    by another: it is tried again after `wait` seconds."""

    def __init__(self, why: str, wait: float = 15.0) -> None:
        super().__init__(why)
        self.wait = wait


async def prove_ours(store: Store, row: OutboxRow) -> None:
    """Raises `NoLongerOurs` where the claim that gave us `row` holds it no more."""
    given = {"row_id": row.id, "token": row.claimed_by}
    async with store.read() as session:
        if await session.scalar(_HELD, given) is None:
            raise NoLongerOurs


_HELD: Any = select(col(Outbox.id)).where(
    col(Outbox.id) == bindparam("row_id"),
    col(Outbox.claimed_by) == bindparam("token"),
    col(Outbox.status) == literal_column("'pending'"),
)
