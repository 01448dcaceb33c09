"""Implementations, and what proves their gates, read from the database in a few statements."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.credits.queries import holders
from linekeeper.implementation.connection_facts import connection_facts, known_since
from linekeeper.implementation.facts import (
    AppListing,
    Configured,
    GateEvidence,
    SeenPreflight,
    SetUp,
)
from linekeeper.implementation.standing import Standing, standing
from linekeeper.store.engine import chunked
from linekeeper.store.tables import (
    AppState,
    AuthenticationSetup,
    Connection,
    Customer,
    CustomerLink,
    Gate,
    Implementation,
    ImplementationSystem,
    Outbox,
    PreflightReport,
    WorkflowConfiguration,
)

UNDERWAY = ("running", "held")


async def load(session: AsyncSession, identifier: str, *, lock: bool = False) -> Standing | None:
    """One implementation; with `lock` nobody else changes it until the transaction ends."""
    statement = select(Implementation).where(col(Implementation.id) == identifier)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    standings = await load_many(session, list(await session.scalars(statement)))
    return standings[0] if standings else None


async def load_underway(session: AsyncSession) -> list[Standing]:
    """All that are running or held, the oldest first."""
    statement = (
        select(Implementation)
        .where(col(Implementation.status).in_(UNDERWAY))
        .order_by(col(Implementation.id))
    )
    return await load_many(session, list(await session.scalars(statement)))


async def unchanged(session: AsyncSession, standings: Sequence[Standing]) -> set[str]:
    """The ids of those that nobody has changed or forecast since they were loaded.

    Nobody changes them until the transaction ends.
    """
    loaded = {each.implementation.id: each.implementation for each in standings}
    rows = await session.execute(
        select(col(Implementation.id), col(Implementation.status), col(Implementation.forecast_at))
        .where(col(Implementation.id).in_(list(loaded)))
        .order_by(col(Implementation.id))
        .with_for_update()
    )
    return {
        row.id
        for row in rows
        if (row.status, row.forecast_at) == (loaded[row.id].status, loaded[row.id].forecast_at)
    }


async def load_many(session: AsyncSession, rows: Sequence[Implementation]) -> list[Standing]:
    ids = [row.id for row in rows]
    systems: dict[str, list[ImplementationSystem]] = {}
    gates: dict[str, list[Gate]] = {}
    for pager in await _among(session, ImplementationSystem, "implementation_id", ids):
        systems.setdefault(pager.implementation_id, []).append(pager)
    for gate in await _among(session, Gate, "implementation_id", ids):
        gates.setdefault(gate.implementation_id, []).append(gate)
    owners = [row.customer_id for row in rows]
    customers = {
        customer.id: customer for customer in await _among(session, Customer, "id", owners)
    }
    links = sorted(
        await _among(session, CustomerLink, "customer_id", owners), key=lambda link: link.id
    )
    pages = {link.customer_id: link for link in links if link.revoked_at is None}
    return [
        standing(
            row,
            customers[row.customer_id],
            systems.get(row.id, ()),
            gates.get(row.id, ()),
            pages.get(row.customer_id),
        )
        for row in rows
    ]


async def evidence(session: AsyncSession, standings: Sequence[Standing]) -> GateEvidence:
    """What proves the gates of `standings`, and their customers' other connections."""
    customers = list({standing.customer.id for standing in standings})
    targets = {s.target for standing in standings for s in standing.systems if s.target is not None}
    connections = await connection_facts(session, customers)
    subjects = [s.id for standing in standings for s in standing.systems]
    subjects += [c for standing in standings for s in standing.systems if (c := s.connection_id)]
    return GateEvidence(
        connections=connections,
        providers=frozenset(await session.scalars(select(col(Connection.provider)).distinct())),
        known_since=await known_since(session, connections.values()),
        preflights=await last_preflights(session, targets),
        listed={
            state.app: AppListing(state.last_list_at, state.listed_from)
            for state in await session.scalars(select(AppState))
            if state.last_list_at is not None
        },
        credited=await holders(session, subjects),
        set_up=await _set_up(session, [s.id for standing in standings for s in standing.systems]),
        configured={
            row.connection_id: Configured(row.read_at, row.configured_by, row.evidence)
            for row in await _among(
                session, WorkflowConfiguration, "connection_id", list(connections)
            )
            if row.read_at is not None
        },
    )


async def _set_up(session: AsyncSession, systems: Sequence[str]) -> dict[str, SetUp]:
    """The last set-up of the login of each of `systems`."""
    rows = await _among(session, AuthenticationSetup, "system_id", systems)
    rows.sort(key=lambda row: (row.started_at, row.id))
    return {
        row.system_id: SetUp(row.verified_at, row.ended_at is None, row.logins_from) for row in rows
    }


async def spoken_for(session: AsyncSession, customers: Sequence[str]) -> set[str]:
    """Connections of `customers` that are a system of some implementation already."""
    rows = await session.scalars(
        select(col(ImplementationSystem.connection_id))
        .join(Implementation, col(Implementation.id) == col(ImplementationSystem.implementation_id))
        .where(
            col(Implementation.customer_id).in_(customers),
            col(Implementation.status) != "abandoned",
            col(ImplementationSystem.connection_id).is_not(None),
        )
    )
    return {row for row in rows if row is not None}


async def last_preflights(
    session: AsyncSession, targets: Iterable[str]
) -> dict[tuple[str, str], SeenPreflight]:
    wanted = sorted(set(targets))
    if not wanted:
        return {}
    newer = aliased(PreflightReport)
    rows = await session.scalars(
        select(PreflightReport).where(
            col(PreflightReport.target).in_(wanted),
            ~exists().where(
                col(newer.target) == col(PreflightReport.target),
                col(newer.vantage) == col(PreflightReport.vantage),
                or_(
                    col(newer.at) > col(PreflightReport.at),
                    and_(
                        col(newer.at) == col(PreflightReport.at),
                        col(newer.id) > col(PreflightReport.id),
                    ),
                ),
            ),
        )
    )
    return {
        (row.target, row.vantage): SeenPreflight(row.at, row.passed, _finding(row.verdicts))
        for row in rows
    }


async def lost_gates(session: AsyncSession, alive: set[str], *, before: datetime) -> list[Gate]:
    """Open gates that wait for a person and whose run is gone.

    `alive` are the gates that have a run in Prefect, as listed at `before`; a run that was handed
    over later than that, or waits to be, isn't gone.
    """
    rows = await session.scalars(
        select(Gate)
        .join(Implementation, col(Implementation.id) == col(Gate.implementation_id))
        .where(
            col(Implementation.status).in_(UNDERWAY),
            col(Gate.check_name).is_(None),
            col(Gate.status).in_(("open", "blocked")),
        )
        .order_by(col(Gate.id))
    )
    missing = [row for row in rows if row.id not in alive]
    keys = {run_key(row): row for row in missing}
    coming = await session.scalars(
        select(col(Outbox.dedupe_key)).where(
            col(Outbox.dedupe_key).in_(list(keys)),
            or_(col(Outbox.status) == "pending", col(Outbox.settled_at) >= before),
        )
    )
    on_the_way = set(coming)
    return [row for key, row in keys.items() if key not in on_the_way]


async def portfolio(
    session: AsyncSession, *, live_since: datetime
) -> list[tuple[Implementation, list[Gate]]]:
    """All that are underway or went live since then, each with its open gates, oldest first."""
    rows = list(
        await session.scalars(
            select(Implementation)
            .where(
                or_(
                    col(Implementation.status).in_(UNDERWAY),
                    and_(
                        col(Implementation.status) == "live",
                        col(Implementation.live_at) >= live_since,
                    ),
                )
            )
            .order_by(col(Implementation.id))
        )
    )
    waiting: dict[str, list[Gate]] = {}
    for gate in await session.scalars(
        select(Gate)
        .where(col(Gate.status).in_(("open", "blocked")))
        .order_by(col(Gate.opened_at), col(Gate.id))
    ):
        waiting.setdefault(gate.implementation_id, []).append(gate)
    return [(row, waiting.get(row.id, [])) for row in rows]


def run_key(gate: Gate) -> str:
    """What makes the run of a gate's present attempt one run."""
    return f"gate:{gate.id}:{gate.attempt}"


async def _among(session: AsyncSession, table: Any, column: str, ids: Sequence[str]) -> list[Any]:
    rows: list[Any] = []
    wanted = sorted(set(ids))
    for portion in chunked(wanted, 10_000):
        rows += await session.scalars(
            select(table)
            .where(getattr(table, column).in_(portion))
            .execution_options(populate_existing=True)
        )
    return rows


def _finding(verdicts: Sequence[dict[str, Any]]) -> str:
    findings = [verdict for verdict in verdicts if verdict.get("status") == "finding"]
    if findings:
        return str(findings[0].get("message", ""))
    return "it could not be judged"
