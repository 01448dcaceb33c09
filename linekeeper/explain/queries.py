"""Gathering the facts of one record's way, in a few statements over indexes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import Configuration
from linekeeper.customers.naming import label
from linekeeper.explain.facts import (
    AheadFacts,
    AttemptFacts,
    ChangeFacts,
    DeliveryFacts,
    EntityFacts,
    ExplainedConnection,
    ForwardFacts,
    OutageFacts,
    ReadFacts,
    RecordFacts,
)
from linekeeper.store.tables import (
    ApiKey,
    Change,
    Connection,
    ConnectionSetting,
    Customer,
    Deletion,
    DeliveryCount,
    Drift,
    FeedRead,
    ForwardAttempt,
    Outage,
    Outbox,
    Record,
    Transition,
    Watermark,
    WebhookEvent,
)
from linekeeper.store.types import from_row
from linekeeper.tokens.stored import has_usable_token

CHANGES = 20
"""The newest changes of a record that are looked at."""
_ENTITIES = 20
_ATTEMPTS = 200
_READS = 20
_NOT_REJECTED = "duplicate"


@dataclass(frozen=True, slots=True)
class Around:
    """A connection's row, what is known of it, and since when deliveries are kept."""

    row: Connection | None
    facts: ExplainedConnection | None
    kept_since: datetime | None


async def around(
    session: AsyncSession, connection_id: str | None, configuration: Configuration
) -> Around:
    """The connection with what its app is set to, and when the oldest delivery kept came."""
    oldest = select(col(WebhookEvent.received_at)).order_by(col(WebhookEvent.id)).limit(1)
    if connection_id is None:
        return Around(None, None, await session.scalar(oldest))
    connection, customer, has_token, forward_to, kept_since = (
        await session.execute(
            select(
                Connection,
                col(Customer.name),
                has_usable_token(utcnow(), configuration.apps),
                select(func.max(col(ConnectionSetting.forward_to)))
                .where(col(ConnectionSetting.connection_id) == col(Connection.id))
                .scalar_subquery(),
                oldest.scalar_subquery(),
            )
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(col(Connection.id) == connection_id)
        )
    ).one()
    app = configuration.apps.get(connection.app)
    facts = from_row(
        ExplainedConnection,
        connection,
        label=label(customer, connection.provider, connection.name, connection.told_apart_by),
        has_token=bool(has_token),
        entities=frozenset(app.entities) if app is not None else None,
        forwards=bool(app is not None and (app.forward_url or forward_to)),
        successor=await _called(session, connection.replaced_by),
    )
    return Around(connection, facts, kept_since)


async def _called(session: AsyncSession, connection_id: str | None) -> str | None:
    """What people call a connection, with the key that tells it from another one of its system."""
    if connection_id is None:
        return None
    connection, customer = (
        await session.execute(
            select(Connection, col(Customer.name))
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(col(Connection.id) == connection_id)
        )
    ).one()
    named = label(customer, connection.provider, connection.name, connection.told_apart_by)
    return f"{named} ({connection.makini_key})"


async def records_of(
    session: AsyncSession, connection_id: str, key: str, entity: str | None
) -> list[RecordFacts]:
    """The records with that key, or else with that readable number, the one read last first.

    Several entities may have the same key; of a number only one record is taken.
    """
    query = select(Record, col(Deletion.status)).outerjoin(
        Deletion, col(Deletion.id) == col(Record.deletion_id)
    )
    own = col(Record.connection_id) == connection_id
    if entity is not None:
        own = and_(own, col(Record.entity) == entity)
    for which, most in ((col(Record.key) == key, _ENTITIES), (col(Record.number) == key, 1)):
        rows = await session.execute(
            query.where(own, which).order_by(col(Record.seen_at).desc()).limit(most)
        )
        records = [
            from_row(
                RecordFacts,
                record,
                deletion=deletion,
            )
            for record, deletion in rows
        ]
        if records:
            return records
    return []


async def renamed(
    session: AsyncSession, connection_ids: Sequence[str | None], key: str
) -> Change | None:
    """The change that gave the record another key than `key`, in one of these connections."""
    change: Change | None = await session.scalar(
        select(Change)
        .where(
            col(Change.connection_id).in_([each for each in connection_ids if each is not None]),
            col(Change.old_key).is_not(None),
            col(Change.old_key) == key,
        )
        .order_by(col(Change.at).desc())
        .limit(1)
    )
    return change


async def changes_of(
    session: AsyncSession, connection_id: str, key: str, entities: Sequence[str]
) -> list[ChangeFacts]:
    """The newest changes of a record, the newest first. `entities` let the index be used."""
    rows = await session.scalars(
        select(Change)
        .where(
            col(Change.connection_id) == connection_id,
            col(Change.entity).in_(list(entities)),
            col(Change.key) == key,
        )
        .order_by(col(Change.seq).desc())
        .limit(CHANGES)
    )
    return [change_facts(change) for change in rows]


def change_facts(change: Change) -> ChangeFacts:
    """One row of `change`. A deletion has its own time where others have that of a delivery."""
    announced_at = None if change.source == "deletion" else change.announced_at
    return from_row(ChangeFacts, change, announced_at=announced_at)


async def entities_of(session: AsyncSession, connection_id: str) -> list[EntityFacts]:
    """How far each entity of the connection has been read."""
    rows = await session.scalars(
        select(Watermark)
        .where(col(Watermark.connection_id) == connection_id)
        .order_by(col(Watermark.entity))
    )
    return [from_row(EntityFacts, mark) for mark in rows]


async def forward_of(
    session: AsyncSession,
    connection_id: str | None,
    delivery: DeliveryFacts | None,
    change: ChangeFacts | None,
) -> ForwardFacts:
    """The forward of the delivery and of the recovered change, with all their attempts."""
    rows, messages = [], []
    if delivery is not None:
        rows += [delivery.id, f"{delivery.id}:{connection_id}"]
        messages += [delivery.message_id, f"{delivery.message_id}-{connection_id}"]
    if change is not None:
        rows.append(change.id)
        messages.append(change.id)
    outbox = (
        await session.execute(
            select(
                col(Outbox.status),
                col(Outbox.created_at),
                col(Outbox.settled_at),
                col(Outbox.ordering_key),
                col(Outbox.seq),
            )
            .where(col(Outbox.dedupe_key).in_([f"forward:{row}" for row in rows]))
            .order_by(col(Outbox.status) != "sent", col(Outbox.seq).desc())
            .limit(1)
        )
    ).first()
    attempts = await session.execute(
        select(col(ForwardAttempt.at), col(ForwardAttempt.status), col(ForwardAttempt.error))
        .where(col(ForwardAttempt.message_id).in_(messages))
        .order_by(col(ForwardAttempt.at))
        .limit(_ATTEMPTS)
    )
    ahead = None
    if outbox is not None and outbox.status == "pending":
        ahead = await _ahead(session, outbox.ordering_key, outbox.seq)
    return ForwardFacts(
        ahead=ahead,
        status=outbox.status if outbox else None,
        created_at=outbox.created_at if outbox else None,
        settled_at=outbox.settled_at if outbox else None,
        attempts=tuple(AttemptFacts(row.at, row.status, row.error) for row in attempts),
    )


async def _ahead(session: AsyncSession, ordering_key: str, seq: str) -> AheadFacts | None:
    """What was tried of the same connection, and has to be taken before."""
    row = (
        await session.execute(
            select(col(Outbox.error), col(Outbox.refusal))
            .where(
                col(Outbox.ordering_key) == ordering_key,
                col(Outbox.status) == "pending",
                col(Outbox.seq) < seq,
                col(Outbox.error).is_not(None),
            )
            .order_by(col(Outbox.seq))
            .limit(1)
        )
    ).first()
    return None if row is None else AheadFacts(row.error, row.refusal)


async def reads_of(session: AsyncSession, change: ChangeFacts) -> tuple[ReadFacts, ...]:
    """Who read the change from the feed, the last one first."""
    if change.position is None:
        return ()
    rows = await session.execute(
        select(col(ApiKey.name), col(FeedRead.at))
        .join(ApiKey, col(ApiKey.id) == col(FeedRead.key_id))
        .where(col(FeedRead.upto) >= change.position, col(FeedRead.after) < change.position)
        .order_by(col(FeedRead.upto))
        .limit(_READS)
    )
    reads = [ReadFacts(row.name, row.at) for row in rows]
    return tuple(sorted(reads, key=lambda each: each.at, reverse=True))


async def counted_as(session: AsyncSession, change: ChangeFacts) -> str | None:
    """What the missing webhook of a change was put down to (`drift.cause`)."""
    cause: str | None = await session.scalar(
        select(col(Drift.cause))
        .join(Change, col(Change.missed_in) == col(Drift.id))
        .where(col(Change.id) == change.id)
    )
    return cause


async def health_at(session: AsyncSession, connection_id: str, at: datetime | None) -> str | None:
    """The health of a connection at a time; None where it isn't known."""
    if at is None:
        return None
    health: str | None = await session.scalar(
        select(col(Transition.after))
        .where(
            col(Transition.connection_id) == connection_id,
            col(Transition.axis) == "health",
            col(Transition.at) <= at,
        )
        .order_by(col(Transition.at).desc())
        .limit(1)
    )
    return health


async def outage_at(session: AsyncSession, at: datetime | None) -> OutageFacts | None:
    """The time in which no receiver could store, if `at` lies in one."""
    if at is None:
        return None
    row = await session.scalar(
        select(Outage).where(col(Outage.since) <= at, col(Outage.until) >= at).limit(1)
    )
    return OutageFacts(row.since, row.until) if row is not None else None


async def rejected_between(
    session: AsyncSession, app: str, since: datetime | None, until: datetime
) -> tuple[int, str]:
    """How many deliveries to the app were rejected in a time, and why."""
    if since is None:
        return 0, ""
    rows = (
        await session.execute(
            select(col(DeliveryCount.cause), func.sum(col(DeliveryCount.count)))
            .where(
                col(DeliveryCount.app) == app,
                col(DeliveryCount.cause) != _NOT_REJECTED,
                col(DeliveryCount.minute) >= since - timedelta(minutes=1),
                col(DeliveryCount.minute) <= until,
            )
            .group_by(col(DeliveryCount.cause))
            .order_by(func.sum(col(DeliveryCount.count)).desc())
        )
    ).all()
    total = sum(int(count) for _, count in rows)
    return total, ", ".join(cause.replace("_", " ") for cause, _ in rows[:3])
