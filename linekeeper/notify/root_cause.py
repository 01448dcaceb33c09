"""What several connections that fail alike have in common, as far as it is known.

They are one incident of a provider, or of an app, by how many they are. Where nearly all of them
are one customer's, while most of the others are well, the cause is rather with that customer.
"""

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.setup import ESTABLISHED
from linekeeper.health.evidence import Health
from linekeeper.incidents.announce import OF_ITS_ROUND
from linekeeper.incidents.cause_of import CAUSE
from linekeeper.incidents.causes import is_of_customer
from linekeeper.store.tables import Connection, Credential, Customer, Incident, IncidentConnection
from linekeeper.text import Pen, counted


@dataclass(frozen=True, slots=True)
class CustomerShare:
    """The customer of whom an incident has the most connections."""

    customer: str
    hit: int
    """How many of theirs are in the incident."""
    others_hit: int
    others: int
    """How many connections of the same provider, or app, are of others."""

    @property
    def is_cause(self) -> bool:
        """Whether the trouble is rather theirs than that of the provider, or the app."""
        return is_of_customer(self.hit, self.others_hit, self.others)

    def words(self, pen: Pen) -> str:
        """What people read in place of a provider, or an app."""
        all_hit = self.hit + self.others_hit
        theirs = f"{self.hit:,} of the {all_hit:,}" if self.others_hit else f"all {all_hit:,}"
        well = self.others - self.others_hit
        return (
            f"probably at {pen.text(self.customer)}: {theirs} connections are theirs; "
            f"{counted(well, 'connection')} of other customers {'is' if well == 1 else 'are'} "
            "not affected"
        )


_HIT: Any = (
    select(
        col(IncidentConnection.incident_id).label("incident_id"),
        col(Incident.app).label("app"),
        col(Incident.scope).label("scope"),
        col(Incident.provider).label("provider"),
        col(Connection.customer_id).label("customer_id"),
        func.count(col(Connection.id).distinct()).label("hit"),
    )
    .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
    .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
    .where(
        col(IncidentConnection.incident_id).in_(bindparam("ids", expanding=True)),
        col(Incident.scope).in_(("app", "provider")),
        col(Incident.topic) == "health",
        OF_ITS_ROUND,
    )
    .group_by(
        col(IncidentConnection.incident_id),
        col(Incident.app),
        col(Incident.scope),
        col(Incident.provider),
        col(Connection.customer_id),
    )
)
_SET_UP = (
    select(col(Connection.app), col(Connection.provider), col(Connection.customer_id), func.count())
    .where(
        col(Connection.app).in_(bindparam("apps", expanding=True)),
        col(Connection.setup).in_(ESTABLISHED),
    )
    .group_by(col(Connection.app), col(Connection.provider), col(Connection.customer_id))
)
_SET_UP_OF = _SET_UP.where(col(Connection.provider).in_(bindparam("providers", expanding=True)))
_NAMES = select(col(Customer.id), col(Customer.name)).where(
    col(Customer.id).in_(bindparam("ids", expanding=True))
)


_CAUSES: Any = (
    select(
        col(IncidentConnection.incident_id),
        CAUSE,
    )
    .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
    .outerjoin(Credential, col(Credential.connection_id) == col(Connection.id))
    .where(
        col(IncidentConnection.incident_id).in_(bindparam("ids", expanding=True)),
        col(IncidentConnection.kind).in_(
            [
                Health.degraded.value,
                Health.reauthorization_required.value,
                Health.unknown.value,
            ]
        ),
        col(IncidentConnection.left_at).is_(None),
    )
    .distinct()
)


async def common_causes(session: AsyncSession, incident_ids: Collection[str]) -> dict[str, str]:
    """Return by incident the one cause (`incidents.kinds.meaning`) that all of its connections
    have whose health is degraded, unknown or of a lost login; else it is left out."""
    causes: dict[str, set[str]] = {}
    for incident_id, cause in await session.execute(_CAUSES, {"ids": sorted(incident_ids)}):
        causes.setdefault(incident_id, set()).add(cause)
    return {each: next(iter(found)) for each, found in causes.items() if len(found) == 1}


async def customer_shares(
    session: AsyncSession, incident_ids: Collection[str]
) -> dict[str, CustomerShare]:
    """Return by incident the customer who has the most connections in it.

    Left out are incidents of single connections, and those whose most are of no known customer.
    """
    hit: defaultdict[str, list[Row[Any]]] = defaultdict(list)
    for row in await session.execute(_HIT, {"ids": sorted(incident_ids)}):
        hit[row.incident_id].append(row)
    worst_of = {
        incident_id: max(rows, key=lambda row: (row.hit, row.customer_id or ""))
        for incident_id, rows in hit.items()
    }
    worst_of = {each: row for each, row in worst_of.items() if row.customer_id is not None}
    if not worst_of:
        return {}
    set_up: Counter[tuple[str, str | None, str | None]] = Counter()
    which: dict[str, list[str]] = {"apps": sorted({row.app for row in worst_of.values()})}
    is_of_app = any(row.scope == "app" for row in worst_of.values())
    if not is_of_app:
        which["providers"] = sorted({row.provider for row in worst_of.values()})
    rows = await session.execute(_SET_UP if is_of_app else _SET_UP_OF, which)
    for app, provider, customer_id, count in rows:
        for of in {(provider, customer_id), (provider, None), (None, customer_id), (None, None)}:
            set_up[app, *of] += count
    ids = sorted({row.customer_id for row in worst_of.values()})
    names = {row[0]: row[1] for row in await session.execute(_NAMES, {"ids": ids})}
    return {
        incident_id: CustomerShare(
            customer=names.get(worst.customer_id, ""),
            hit=worst.hit,
            others_hit=sum(row.hit for row in hit[incident_id]) - worst.hit,
            others=set_up[worst.app, provider, None]
            - set_up[worst.app, provider, worst.customer_id],
        )
        for incident_id, worst in worst_of.items()
        for provider in [worst.provider if worst.scope == "provider" else None]
    }
