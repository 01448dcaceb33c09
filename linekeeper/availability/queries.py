"""The histories and troubles of a month, in a few statements."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.availability.decide import History, Span, Troubles, Turn
from linekeeper.customers.naming import label
from linekeeper.store.tables import Connection, Customer, Incident, Outage, Transition

_PRODUCT = ("forward_refused", "forward_behind")
"""Kinds of incidents in which the product takes no messages."""
_APP = ("unreachable", "list_failed")
"""Kinds of incidents of a whole app that explain why its connections give no answer. In an app of
few connections the second is all that shows it: so few are never one incident."""


class _Edges(NamedTuple):
    """By connection and axis: the value before the month, and the one before what came later."""

    before: Mapping[tuple[str, str], str]
    after: Mapping[tuple[str, str], str]


async def read_histories(session: AsyncSession, month: Span) -> list[History]:
    """Each connection's turns in the month, beginning with what held at its start."""
    connections: Sequence[Any] = (
        await session.execute(
            select(
                col(Connection.id),
                col(Connection.app),
                col(Connection.name),
                col(Connection.provider),
                col(Connection.setup),
                col(Connection.health),
                col(Connection.created_at),
                col(Customer.name).label("customer"),
            )
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(col(Connection.created_at) < month.until)
            .order_by(col(Customer.name), col(Connection.provider), col(Connection.id))
        )
    ).all()
    turns: dict[tuple[str, str], list[Any]] = {}
    rows = await session.execute(
        select(
            col(Transition.connection_id),
            col(Transition.axis),
            col(Transition.at),
            col(Transition.before),
            col(Transition.after),
        )
        .where(col(Transition.at) >= month.since, col(Transition.at) < month.until)
        .order_by(col(Transition.at), col(Transition.id))
    )
    for row in rows:
        turns.setdefault((row.connection_id, row.axis), []).append(row)
    edges = _Edges(await _at_start(session, month.since), await _first_after(session, month.until))
    return [
        History(
            connection_id=row.id,
            label=label(row.customer, row.provider, row.name),
            customer=row.customer or "",
            app=row.app,
            setup=_turns(row, "setup", edges, turns, month),
            health=_turns(row, "health", edges, turns, month),
        )
        for row in connections
    ]


async def read_troubles(session: AsyncSession, month: Span) -> Troubles:
    """Our own outages, those of whole apps, and of products."""
    outages = await session.scalars(
        select(Outage).where(col(Outage.since) < month.until, col(Outage.until) > month.since)
    )
    incidents = await session.scalars(
        select(Incident).where(
            or_(
                (col(Incident.scope) == "app") & col(Incident.kind).in_(_APP),
                col(Incident.kind).in_(_PRODUCT),
            ),
            col(Incident.opened_at) < month.until,
            or_(col(Incident.resolved_at).is_(None), col(Incident.resolved_at) > month.since),
        )
    )
    apps: dict[str, list[Span]] = {}
    products: dict[str, list[Span]] = {}
    for incident in incidents:
        kept = products if incident.kind in _PRODUCT else apps
        span = Span(incident.since, incident.resolved_at or month.until)
        kept.setdefault(incident.app, []).append(span)
    ours = [Span(outage.since, outage.until) for outage in outages]
    return Troubles(ours, apps, products)


async def _at_start(session: AsyncSession, since: datetime) -> dict[tuple[str, str], str]:
    """What each axis became last before the month."""
    return await _edge(session, func.max, col(Transition.at) < since, col(Transition.after))


async def _first_after(session: AsyncSession, until: datetime) -> dict[tuple[str, str], str]:
    """What each axis was before its first change after the month."""
    return await _edge(session, func.min, col(Transition.at) >= until, col(Transition.before))


async def _edge(
    session: AsyncSession, pick: Any, which: ColumnElement[bool], value: Any
) -> dict[tuple[str, str], str]:
    """A value of each axis's last or first transition among some."""
    edge = (
        select(
            col(Transition.connection_id),
            col(Transition.axis),
            pick(col(Transition.at)).label("at"),
        )
        .where(which)
        .group_by(col(Transition.connection_id), col(Transition.axis))
        .subquery()
    )
    rows = await session.execute(
        select(col(Transition.connection_id), col(Transition.axis), value)
        .join(
            edge,
            (edge.c.connection_id == col(Transition.connection_id))
            & (edge.c.axis == col(Transition.axis))
            & (edge.c.at == col(Transition.at)),
        )
        .order_by(col(Transition.id))
    )
    return {(row[0], row[1]): row[2] for row in rows}


def _turns(
    row: Any, axis: str, edges: _Edges, turns: Mapping[tuple[str, str], list[Any]], month: Span
) -> list[Turn]:
    """One axis in the month. A connection that came into the books later begins then."""
    key = (row.id, axis)
    found = turns.get(key, [])
    first = edges.before.get(key)
    if first is None:
        first = found[0].before if found else edges.after.get(key, getattr(row, axis))
    start = Turn(max(row.created_at, month.since), first)
    # Written by a machine whose clock is behind, a turn may seem to come before the beginning.
    return [start, *(Turn(max(each.at, start.at), each.after) for each in found)]
