"""The home page of the Slack app: the connections of whoever opens it, those in trouble first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slack_sdk.models.blocks import Block, ContextBlock, HeaderBlock
from slack_sdk.models.views import View
from sqlalchemy import select
from sqlmodel import col

from linekeeper.customers.naming import label
from linekeeper.notify.compose import mrkdwn, sections
from linekeeper.people import is_member, person
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer, Incident, IncidentConnection
from linekeeper.text import Mrkdwn, counted, health_name, is_only_listed

_SHOWN = 100
"""Connections in trouble that are named; a page of Slack's has a hundred blocks at most."""
_LIGHTS = {"healthy": ":large_green_circle:", "degraded": ":large_yellow_circle:"}
_RED = ":red_circle:"


@dataclass(frozen=True, slots=True)
class OwnConnection:
    """A connection of a customer that the reader answers for."""

    name: str
    health: str
    since: datetime | None
    taken_by: str | None
    """Who acknowledged its open incident."""
    evidence: str | None = "probed"
    """How strong what shows the health is."""


async def read_own(store: Store, member: str) -> tuple[list[OwnConnection], int]:
    """The connections of customers whose owner is the Slack `member`, and how many customers that
    are."""
    if not is_member(member):
        return [], 0
    async with store.read() as session:
        owners = await session.execute(
            select(col(Customer.id), col(Customer.name), col(Customer.owner)).where(
                col(Customer.owner).contains(member, autoescape=True)
            )
        )
        mine = {
            customer_id: name
            for customer_id, name, owner in owners
            if person(owner).slack_id == member
        }
        rows = await session.execute(
            select(
                col(Connection.id),
                col(Connection.customer_id),
                col(Connection.provider),
                col(Connection.name),
                col(Connection.told_apart_by),
                col(Connection.health),
                col(Connection.health_since),
                col(Connection.evidence),
            ).where(col(Connection.customer_id).in_(mine), col(Connection.setup) != "disconnected")
        )
        connections = rows.all()
        taken = await session.execute(
            select(col(IncidentConnection.connection_id), col(Incident.acknowledged_by))
            .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
            .where(
                col(IncidentConnection.connection_id).in_([row[0] for row in connections]),
                col(IncidentConnection.left_at).is_(None),
                col(Incident.resolved_at).is_(None),
                col(Incident.acknowledged_by).is_not(None),
            )
        )
        by = {row[0]: row[1] for row in taken}
    own = [
        OwnConnection(label(mine[customer], *said), health, since, by.get(identifier), evidence)
        for identifier, customer, *said, health, since, evidence in connections
        if customer is not None
    ]
    own.sort(key=lambda each: (each.health == "healthy", each.name.casefold()))
    return own, len(mine)


def home(
    own: Sequence[OwnConnection], customers: int, *, now: datetime, fleet: str | None
) -> dict[str, Any]:
    """The page; `fleet` is the address of the page with everybody's, where it is known."""
    pen = Mrkdwn()
    troubled = [connection for connection in own if connection.health != "healthy"]
    lines = [_line(connection, pen) for connection in troubled[:_SHOWN]]
    if len(troubled) > _SHOWN:
        lines.append(f"and {len(troubled) - _SHOWN} more")
    if not own and customers:
        lines = [f"You own {counted(customers, 'customer')}, without a connection so far."]
    elif not own:
        lines = ["No customer has you as its owner. `customer-update` and `import-customers` set"]
        lines[0] += " it: a name and your member id, such as `Petra Novak <U0PETRANOVAK>`."
        lines[0] = lines[0].replace("<", "&lt;").replace(">", "&gt;")
    elif not troubled:
        listed = sum(is_only_listed(each.health, each.evidence) for each in own)
        lines = [
            f"No trouble is known; {listed} of them are only listed as active by Makini."
            if listed
            else "All of them are healthy."
        ]
    count = counted(len(own), "connection")
    blocks: list[Block] = [
        HeaderBlock(text=f"My connections: {count}, {len(troubled)} in trouble"),
        *sections(lines),
    ]
    below = f"As of {pen.moment(now)}" + (f" · {pen.link(fleet, 'Fleet')}" if fleet else "")
    blocks.append(ContextBlock(elements=[mrkdwn(below)]))
    return dict(View(type="home", blocks=blocks).to_dict())


def _line(connection: OwnConnection, pen: Mrkdwn) -> str:
    since = f" since {pen.moment(connection.since)}" if connection.since else ""
    taken = f", acknowledged by {pen.text(connection.taken_by)}" if connection.taken_by else ""
    light = _LIGHTS.get(connection.health, _RED)
    name = pen.strong(pen.text(connection.name))
    return f"{light} {name}: {health_name(connection.health)}{since}{taken}"
