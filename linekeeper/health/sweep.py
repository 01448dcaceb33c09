"""The sweep: take the list, choose what to probe; the probing is in `batch`.

Each step takes what it needs from the database and leaves it there, so that a sweep killed
anywhere is completed by the next (DESIGN "Nothing is lost").
"""

from collections.abc import AsyncIterator, Container, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, case, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.customers.adopt import Adoption, adopt
from linekeeper.health import app as app_health
from linekeeper.health.conclude import conclude
from linekeeper.health.judge import Health, Observation, Outcome
from linekeeper.health.service import observe
from linekeeper.makini import ListedConnection
from linekeeper.pipeline import one_ahead
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import AppState, Connection, Credential, Customer, Transition
from linekeeper.store.upsert import insert_or_update

BATCH = 2_000
SWEEP_MINUTES = 5.0
"""How far apart sweeps are scheduled; what falls due before the next one is probed in this one."""
BUDGET_SHARE = 0.75
"""Of the calls between two sweeps; the rest is for the list, renewals and the product's work."""
_PORTION = 1_000


@dataclass(frozen=True, slots=True)
class Due:
    """The connections to probe now, most urgent first, and how many more were due."""

    ids: Sequence[str]
    left_out: int = 0

    @property
    def batches(self) -> list[Sequence[str]]:
        """The ids in batches."""
        return [self.ids[start : start + BATCH] for start in range(0, len(self.ids), BATCH)]


async def take_list(rt: Runtime, app: AppConfig, *, now: datetime) -> Adoption:
    """Read the app's list: adopt what is new, judge by it what has no token.

    A connection missing from two complete lists in a row is `disconnected`. Raises `MakiniError`
    if the list can't be read whole: then nothing is concluded from what is missing in it.
    """
    policy = (await rt.configuration()).policy
    total = Adoption()
    async with app_health.through_circuit(rt.store, app):
        async for portion in _portions(rt.makini(app).list_connections()):
            async with rt.store.write() as session:
                adoption = await adopt(rt.store, session, app.name, portion, now=now)
                seen = await _said_by_list(session, app, portion, adoption, now)
                await observe(rt.store, session, seen, policy=policy, now=now)
            total.add(adoption)
    async with rt.store.write() as session:
        await _drop_missing(session, rt, app.name, total.ids, now)
        await conclude(rt.store, session, policy=policy, now=now)
    await app_health.list_worked(rt.store, app, now=now)
    return total


async def preview_list(rt: Runtime, app: AppConfig, *, now: datetime) -> Adoption:
    """What `take_list` would adopt and change; nothing is written. Raises `MakiniError`."""
    total = Adoption()
    async with app_health.through_circuit(rt.store, app):
        async for portion in _portions(rt.makini(app).list_connections()):
            async with rt.store.read() as session:
                total.add(await adopt(rt.store, session, app.name, portion, now=now, dry_run=True))
    return total


async def _portions(
    pages: AsyncIterator[list[ListedConnection]],
) -> AsyncIterator[list[ListedConnection]]:
    portion: list[ListedConnection] = []
    async with aclosing(one_ahead(pages)) as listed:
        async for page, _ in listed:
            portion += page
            if len(portion) >= _PORTION:
                yield portion
                portion = []
    if portion:
        yield portion


async def _said_by_list(
    session: AsyncSession,
    app: AppConfig,
    portion: Sequence[ListedConnection],
    adoption: Adoption,
    now: datetime,
) -> list[tuple[str, Observation]]:
    """Observations of those whose status in the list changed, or that nothing else tells about."""
    ids = list(adoption.ids.values())
    with_token = set(
        await session.scalars(
            select(col(Credential.connection_id)).where(col(Credential.connection_id).in_(ids))
        )
    )
    relisted = set(adoption.relisted)
    seen = []
    for key, one in {one.key: one for one in portion}.items():
        identifier = adoption.ids[key]
        decisive = identifier not in with_token and not app.manages
        if decisive or key in relisted:
            seen.append(
                (
                    identifier,
                    Observation(
                        at=now,
                        source="list",
                        outcome=Outcome.listed,
                        lifecycle=one.lifecycle,
                        decisive=decisive,
                        message=f"listed as {one.status or 'nothing'}",
                    ),
                )
            )
    return seen


async def _drop_missing(
    session: AsyncSession, rt: Runtime, app: str, listed: Container[str], now: datetime
) -> None:
    rows = (
        await session.execute(
            select(
                col(Connection.id),
                col(Connection.makini_key),
                col(Connection.setup),
                col(Connection.missing_since),
            ).where(col(Connection.app) == app, col(Connection.setup) != "disconnected")
        )
    ).all()
    missing = [row for row in rows if row.makini_key not in listed]
    gone = [row for row in missing if row.missing_since is not None]
    await _set(session, [row.id for row in gone], setup="disconnected", missing_since=None)
    await _set(session, [row.id for row in missing if row.missing_since is None], missing_since=now)
    back = [row.id for row in rows if row.missing_since and row.makini_key in listed]
    await _set(session, back, missing_since=None)
    if gone:
        await session.execute(
            insert(Transition),
            [
                {
                    "id": new_id(),
                    "connection_id": row.id,
                    "at": now,
                    "axis": "setup",
                    "before": row.setup,
                    "after": "disconnected",
                    "source": "list",
                    "evidence": {"message": "missing from two complete lists"},
                }
                for row in gone
            ],
        )
    await insert_or_update(
        rt.store,
        session,
        AppState,
        [{"app": app, "budget": {}, "circuit": {}, "last_list_at": now}],
        key=["app"],
        update=["last_list_at"],
    )


async def _set(session: AsyncSession, ids: Sequence[str], **values: object) -> None:
    for start in range(0, len(ids), 10_000):
        await session.execute(
            update(Connection)
            .where(col(Connection.id).in_(ids[start : start + 10_000]))
            .values(**values)
            .execution_options(synchronize_session=False)
        )


async def due(rt: Runtime, app: AppConfig, policy: HealthPolicy, *, now: datetime) -> Due:
    """Which connections of `app` to probe now (INTERFACE `PROBE_MINUTES`).

    Those in trouble or suspect first, then critical customers', then by how long they have waited.
    Where the app's budget can't bear all of them the least urgent wait for a later sweep.
    """
    has_token = select(col(Credential.connection_id)).scalar_subquery()
    urgent = or_(col(Connection.health) != Health.healthy.value, col(Connection.suspect))
    critical = and_(col(Customer.critical).is_not(None), col(Customer.critical))
    waiting = or_(
        col(Connection.next_probe_at).is_(None),
        col(Connection.next_probe_at) <= now + timedelta(minutes=SWEEP_MINUTES),
    )
    reachable = or_(
        col(Connection.id).in_(has_token),
        and_(literal(app.manages), col(Connection.setup) != "pending"),
    )
    statement = (
        select(col(Connection.id))
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(col(Connection.app) == app.name, col(Connection.setup) != "disconnected", reachable)
        .order_by(
            case((urgent, 0), (critical, 1), else_=2),
            case((urgent, col(Connection.provider)), else_=""),
            col(Connection.next_probe_at).nulls_first(),
        )
    )
    if policy.probe_minutes > 0:
        statement = statement.where(or_(urgent, critical, waiting))
    async with rt.store.read() as session:
        ids = list(await session.scalars(statement))
    bearable = int(app.per_minute * SWEEP_MINUTES * BUDGET_SHARE) if app.per_minute else len(ids)
    return Due(ids[:bearable], max(0, len(ids) - bearable))
