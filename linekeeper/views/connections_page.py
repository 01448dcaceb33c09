"""The artifact `connections`: every connection, the healthy ones too, by customer, in parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import select
from sqlmodel import col

from linekeeper.customers.naming import label
from linekeeper.markdown import link, text, when
from linekeeper.notify.view import CONNECTIONS, Links
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Connection, Customer, Incident, IncidentConnection
from linekeeper.text import counted
from linekeeper.views.health_chart import look_of
from linekeeper.views.parts import artifact_key, joined

A_PART = 500
"""Connections on one page, so that it stays well under half a megabyte."""
_NOBODY = "Without a customer"
UNUSED_PART = "No connection is on this page any more: see the page `connections`.\n"
"""What a part says that was needed when there were more connections."""


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """One connection."""

    id: str
    slug: str
    name: str
    """As messages and its own page call it."""
    provider: str
    setup: str
    health: str
    evidence: str | None
    last_checked_at: datetime | None
    told_apart_by: str | None
    customer: str | None
    incident: str | None
    """The id of an open incident it is in."""
    incident_title: str | None = None


async def read_rows(store: Store) -> list[ConnectionRow]:
    """Every connection that wasn't disconnected, by customer and name."""
    async with store.read() as session:
        members = await session.execute(
            select(col(IncidentConnection.connection_id), col(Incident.id), col(Incident.title))
            .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
            .where(col(IncidentConnection.left_at).is_(None), col(Incident.resolved_at).is_(None))
            .order_by(col(Incident.id).desc())
        )
        incidents = {connection: (incident, title) for connection, incident, title in members}
        rows = await session.execute(
            select(
                col(Connection.id),
                col(Connection.slug),
                col(Connection.name),
                col(Connection.provider),
                col(Connection.setup),
                col(Connection.health),
                col(Connection.evidence),
                col(Connection.last_checked_at),
                col(Connection.told_apart_by),
                col(Customer.name),
            )
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(col(Connection.setup) != "disconnected")
        )
        connection_rows = [
            ConnectionRow(*row, *incidents.get(row[0], (None, None))) for row in rows
        ]
    return sorted(map(_as_shown, connection_rows), key=_order)


def _as_shown(row: ConnectionRow) -> ConnectionRow:
    if row.customer is None:
        return row
    return replace(row, name=label(row.customer, row.provider, row.name, row.told_apart_by))


def _order(row: ConnectionRow) -> tuple[bool, str, str, str]:
    return (row.customer is None, (row.customer or "").casefold(), row.name.casefold(), row.id)


def part_key(number: int) -> str:
    """The key of a part; the first one is the page that links lead to."""
    return CONNECTIONS if number == 1 else f"{CONNECTIONS}-{number}"


def parts(rows: Sequence[ConnectionRow]) -> list[list[ConnectionRow]]:
    """The rows of each page; of no connections one that says so. Pure."""
    return list(chunked(rows, A_PART)) or [[]]


def headline(rows: Sequence[ConnectionRow]) -> str:
    """One line about all of them. Pure."""
    customers = len({row.customer for row in rows if row.customer is not None})
    in_trouble = sum(row.incident is not None for row in rows)
    return (
        f"{counted(len(rows), 'connection')} of {counted(customers, 'customer')}, "
        f"{in_trouble:,} with an open incident"
    )


def pages(rows: Sequence[ConnectionRow], links: Links, now: datetime) -> list[str]:
    """The artifacts, one for each part. Pure."""
    all_parts = parts(rows)
    written = []
    for number, part in enumerate(all_parts, start=1):
        others = " · ".join(
            f"**{other}**" if other == number else f"[{other}]({links.artifact(part_key(other))})"
            for other in range(1, len(all_parts) + 1)
        )
        at = f"written {now:%Y-%m-%d %H:%M:%S} UTC" + (
            f" · parts: {others}" if len(all_parts) > 1 else ""
        )
        written.append(_page([f"# {headline(rows)}", at], part, links))
    return written


def _page(lines: list[str], part: Sequence[ConnectionRow], links: Links) -> str:
    for customer, members in groupby(part, key=lambda row: row.customer):
        lines.append(f"## {text(customer) if customer else _NOBODY}")
        lines.append("\n".join(_line(row, links) for row in members))
    if not part:
        lines.append("None is known yet: the next `health-sweep` adopts what Makini lists.")
    return "\n\n".join(lines) + "\n"


def _line(row: ConnectionRow, links: Links) -> str:
    """An entry of a list: a table for each customer would have columns of different widths."""
    shown = look_of(row.health, row.evidence)
    key = artifact_key(row.slug)
    name = link(row.name, links.artifact(key) if key in links.artifact_ids else None)
    checked = f"checked {when(row.last_checked_at)}" if row.last_checked_at else "never checked"
    health = f"{shown.sign} {shown.words}" + (f" ({row.setup})" if row.setup != "live" else "")
    forms: list[tuple[str, str, dict[str, Any]]] = [
        ("check", "check-connection", {"connection": row.id}),
        ("read", "reconcile", {"connections": [row.id]}),
    ]
    ways = [
        f"[{word}]({url})"
        for word, deployment, parameters in forms
        if (url := links.form(deployment, parameters))
    ]
    return f"- {joined(f'{health}: **{name}**', checked, _incident(row, links), *ways)}"


def _incident(row: ConnectionRow, links: Links) -> str:
    if row.incident is None:
        return ""
    is_its_own = row.incident_title == row.name
    title = "incident" if is_its_own else f"incident {row.incident_title}"
    return link(title, links.form("explain", {"subject": row.incident}))
