"""When the connections of an app were away together, read from its incidents."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.availability.decide import TimeSpan, Turn, spans_as_a_whole, spans_of
from linekeeper.store.health_changes import HEALTH_CHANGES
from linekeeper.store.tables import Connection, IncidentConnection, Transition

_AWAY = "unreachable"
_MEMBERS = select(
    col(IncidentConnection.incident_id),
    col(IncidentConnection.connection_id),
    col(IncidentConnection.joined_at),
    col(IncidentConnection.left_at),
    col(Connection.health),
).join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
_TURNS = HEALTH_CHANGES.order_by(col(Transition.at), col(Transition.id))


async def away_together(
    session: AsyncSession, ids: Sequence[str], month: TimeSpan
) -> dict[str, list[TimeSpan]]:
    """When the connections of those incidents that have any were unreachable together.

    One that was in the incident for something else before counts from when it was unreachable.
    """
    of_those = col(IncidentConnection.incident_id).in_(ids)
    members = (await session.execute(_MEMBERS.where(of_those))).all()
    if not members:
        return {}
    first = min(member.joined_at for member in members)
    turns: dict[str, list[tuple[Turn, str]]] = defaultdict(list)
    for connection_id, at, before, after in await session.execute(
        _TURNS.where(
            col(Transition.connection_id).in_(
                select(col(IncidentConnection.connection_id)).where(of_those)
            ),
            col(Transition.at) > first,
        )
    ):
        turns[connection_id].append((Turn(at, after), before))
    away: dict[str, list[TimeSpan]] = defaultdict(list)
    for incident_id, connection_id, joined_at, left_at, health in members:
        later = [each for each in turns[connection_id] if each[0].at > joined_at]
        start = Turn(joined_at, later[0][1] if later else health)
        span = TimeSpan(joined_at, left_at or month.until)
        away[incident_id] += spans_of(_AWAY, [start, *(turn for turn, _ in later)], span)
    return {incident_id: spans_as_a_whole(spans) for incident_id, spans in away.items()}
