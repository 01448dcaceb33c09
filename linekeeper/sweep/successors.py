"""Whose token is missing since a customer made a new connection at Makini itself."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import HealthPolicy
from linekeeper.health.evidence import Health, Observation, load
from linekeeper.health.held import JUDGED
from linekeeper.health.service import observe
from linekeeper.health.token_missing import is_tried_anew, needs_login
from linekeeper.outbox.events import request_reconnects
from linekeeper.outbox.queue import enqueue
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Connection, Credential, IncidentConnection
from linekeeper.store.types import table_of


async def expect_tokens(
    store: Store,
    session: AsyncSession,
    pairs: Iterable[tuple[str, str]],
    *,
    policy: HealthPolicy,
    now: datetime,
) -> None:
    """Of each of `pairs` the second took the place of the first: a token that Linekeeper had is
    missing until there is one of the second.

    What is lent by the product is the product's to bring. A login that was lost stays so; where
    something else was wrong, nobody knows before Makini was asked for a token.
    """
    of = {after: before for before, after in pairs}
    known = await _known(session, [*of, *of.values()])
    marks: list[dict[str, Any]] = []
    seen: list[tuple[str, Observation]] = []
    for after_id, before_id in of.items():
        before, after = known[before_id], known[after_id]
        waited = load(before.judged).token_missing_since
        if after.has_pair or not (waited or (before.has_pair and before.custody == "owned")):
            continue
        judged = replace(load(after.judged), token_missing_since=waited or now)
        marks.append({"row_id": after_id, "judged_now": judged})
        if before.health == Health.reauthorization_required:
            seen.append((after_id, needs_login(now, tried=False)))
        elif before.health != Health.healthy:
            seen.append((after_id, is_tried_anew(now)))
    if marks:
        await (await session.connection()).execute(_MARK, marks)
        await observe(store, session, seen, policy=policy, now=now)
        open_cases = await session.scalars(_CASES, {"ids": [each["row_id"] for each in marks]})
        await enqueue(store, session, request_reconnects(open_cases), now=now)


_TABLE = table_of(Connection)
_MARK = (
    # It is urgent: the sweep that finds it asks for its token.
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("row_id"))
    .values(judged=bindparam("judged_now", type_=JUDGED), suspect=True)
)
_CASES = select(col(IncidentConnection.incident_id)).where(
    col(IncidentConnection.connection_id).in_(bindparam("ids", expanding=True)),
    col(IncidentConnection.left_at).is_(None),
    col(IncidentConnection.kind) == Health.reauthorization_required.value,
)
_KNOWN = select(
    col(Connection.id),
    col(Connection.health),
    col(Connection.judged),
    col(Connection.custody),
    select(col(Credential.connection_id))
    .where(col(Credential.connection_id) == col(Connection.id))
    .exists()
    .label("has_pair"),
).where(col(Connection.id).in_(bindparam("ids", expanding=True)))


async def _known(session: AsyncSession, connections: list[str]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for ids in chunked(sorted(set(connections)), 5_000):
        known |= {row.id: row for row in await session.execute(_KNOWN, {"ids": ids})}
    return known
