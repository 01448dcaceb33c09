"""What the database knows of the connections of an implementation's customer."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.implementation.facts import ConnectionFacts
from linekeeper.store.tables import (
    Connection,
    ConnectLink,
    Credential,
    Drift,
    Watermark,
    WebhookEvent,
)


async def connection_facts(
    session: AsyncSession, customers: Sequence[str]
) -> dict[str, ConnectionFacts]:
    """What counts as evidence about all connections of `customers`, by id."""
    rows = (
        await session.execute(
            select(
                Connection,
                exists().where(col(Credential.connection_id) == col(Connection.id)),
            ).where(col(Connection.customer_id).in_(customers))
        )
    ).all()
    ids = [row[0].id for row in rows]
    first_delivery = (
        select(col(WebhookEvent.processed_at))
        .where(
            col(WebhookEvent.connection_id) == col(Connection.id),
            col(WebhookEvent.status) == "processed",
            col(WebhookEvent.source) == "webhook",
        )
        .order_by(col(WebhookEvent.received_at))
        .limit(1)  # not the least of all: a busy connection has a million of them
        .scalar_subquery()
    )
    delivered = await session.execute(
        select(col(Connection.id), first_delivery).where(col(Connection.id).in_(ids))
    )
    arrived = {row[0]: row[1] for row in delivered}
    links = await session.execute(
        select(ConnectLink)
        .where(col(ConnectLink.used_for).in_(ids))
        .order_by(col(ConnectLink.used_at))
    )
    used = links.scalars().all()
    systems = {link.used_for: link.system for link in used if link.connection_id is None}
    logins = {link.used_for: link.used_at for link in used}
    polled = await _polled(session, ids)
    return {
        connection.id: ConnectionFacts(
            id=connection.id,
            name=connection.name,
            provider=connection.provider,
            setup=connection.setup,
            health=connection.health,
            health_since=connection.health_since,
            has_token=bool(has_token),
            sync_status=connection.sync_status,
            last_good_at=connection.last_good_at,
            last_sync_at=connection.last_sync_at,
            created_at=connection.created_at,
            made_at=connection.made_at,
            customer_id=connection.customer_id,
            app=connection.app,
            delivered_at=arrived.get(connection.id),
            replaced_by=connection.replaced_by,
            logged_in_at=logins.get(connection.id),
            system=systems.get(connection.id),
            **polled.get(connection.id, {}),
        )
        for connection, has_token in rows
    }


FIRST_LISTED = "It was listed for the first time; the next poll compares it."


async def _polled(session: AsyncSession, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """When all entities of a connection had been read to the end, and what that found."""
    marks: dict[str, list[Watermark]] = {}
    for mark in await session.scalars(
        select(Watermark).where(col(Watermark.connection_id).in_(ids))
    ):
        marks.setdefault(mark.connection_id, []).append(mark)
    polled: dict[str, dict[str, Any]] = {}
    for identifier, own in marks.items():
        offered = [mark for mark in own if mark.offered]
        trouble = next((mark.error for mark in offered if mark.error), None)
        unread = any(mark.polled_at is None for mark in offered)
        times = [mark.polled_at for mark in offered if mark.polled_at is not None]
        if trouble or unread or not times:
            why = trouble or "its entities were not all read yet"
            polled[identifier] = {"poll_trouble": f"Reconciliation: {why}."}
        elif any(mark.run_at is None for mark in offered):
            polled[identifier] = {"poll_trouble": FIRST_LISTED}
        else:
            polled[identifier] = {"polled_at": min(times)}
    # A run that counted something leaves a row of its own moment; one that found nothing, none.
    drift = await session.execute(
        select(
            col(Drift.connection_id),
            func.sum(Drift.missed + Drift.mismatched + Drift.deleted),
        )
        .join(
            Watermark,
            and_(
                col(Watermark.connection_id) == col(Drift.connection_id),
                col(Watermark.entity) == col(Drift.entity),
                col(Watermark.run_at) == col(Drift.run_at),
            ),
        )
        .where(col(Drift.connection_id).in_(ids))
        .group_by(col(Drift.connection_id))
    )
    for identifier, count in drift:
        polled.setdefault(identifier, {})["drift"] = int(count or 0)
    return polled


async def known_since(
    session: AsyncSession, connections: Iterable[ConnectionFacts]
) -> dict[str, datetime]:
    """When the first connection was seen of each app whose list doesn't date all `connections`."""
    unsaid = {facts.app for facts in connections if facts.made_at is None}
    if not unsaid:
        return {}
    first = select(col(Connection.app), func.min(col(Connection.created_at)))
    of_apps = first.where(col(Connection.app).in_(unsaid)).group_by(col(Connection.app))
    return {row[0]: row[1] for row in await session.execute(of_apps)}
