"""The members of incidents, in the order in which they are named."""

from collections.abc import Sequence

from sqlalchemy import Subquery, bindparam, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.chunks import chunked
from linekeeper.outbox.events import About
from linekeeper.store.tables import Connection, Customer, IncidentConnection

_AT_ONCE = 5_000


def _ranked_members() -> Subquery:
    """One row a connection (its last membership), numbered within each incident.

    Those still affected come first, then those of critical customers, then as they joined. The
    incidents are the variable `incident_ids`.
    """
    last = (
        select(
            col(IncidentConnection.incident_id),
            col(IncidentConnection.connection_id),
            col(IncidentConnection.kind),
            col(IncidentConnection.joined_at),
            col(IncidentConnection.left_at),
            func.row_number()
            .over(
                partition_by=[
                    col(IncidentConnection.incident_id),
                    col(IncidentConnection.connection_id),
                ],
                order_by=[
                    col(IncidentConnection.joined_at).desc(),
                    col(IncidentConnection.id).desc(),
                ],
            )
            .label("age"),
        )
        .where(col(IncidentConnection.incident_id).in_(bindparam("incident_ids", expanding=True)))
        .subquery()
    )
    gone = case((last.c.left_at.is_(None), 0), else_=1)
    ordinary = case((col(Customer.critical).is_(True), 0), else_=1)
    return (
        select(
            last.c.incident_id,
            last.c.connection_id,
            last.c.kind,
            last.c.joined_at,
            last.c.left_at,
            func.row_number()
            .over(
                partition_by=last.c.incident_id,
                order_by=[gone, ordinary, last.c.joined_at, last.c.connection_id],
            )
            .label("place"),
            func.count().over(partition_by=last.c.incident_id).label("members"),
            func.sum(1 - gone).over(partition_by=last.c.incident_id).label("affected"),
        )
        .select_from(last)
        .join(Connection, col(Connection.id) == last.c.connection_id)
        .join(Customer, col(Customer.id) == col(Connection.customer_id), isouter=True)
        .where(last.c.age == 1)
        .subquery()
    )


RANKED = _ranked_members()
_ABOUT = (
    select(
        RANKED.c.incident_id,
        col(Connection.id),
        col(Connection.name),
        col(Connection.provider),
        col(Customer.id),
        col(Customer.name),
    )
    .join(Connection, col(Connection.id) == RANKED.c.connection_id)
    .join(Customer, col(Customer.id) == col(Connection.customer_id), isouter=True)
    .where(RANKED.c.place <= bindparam("each"))
    .order_by(RANKED.c.incident_id, RANKED.c.place)
)


async def members_of(
    session: AsyncSession, incident_ids: Sequence[str], *, each: int
) -> dict[str, list[About]]:
    """Up to `each` connections of every incident, as events name them."""
    found: dict[str, list[About]] = {}
    for some in chunked(incident_ids, _AT_ONCE):
        rows = await session.execute(_ABOUT, {"incident_ids": list(some), "each": each})
        for incident_id, *about in rows:
            found.setdefault(incident_id, []).append(About(*about))
    return found
