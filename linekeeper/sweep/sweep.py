"""The sweep: take the list, choose what to probe; the probing is in `batch`.

Each step takes what it needs from the database and leaves it there, so that a sweep killed
anywhere is completed by the next (DESIGN "Nothing is lost").
"""

from collections.abc import AsyncIterator, Container, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import and_, case, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.customers.adopt import Adoption, adopt
from linekeeper.health.judge import Health, Observation, Outcome
from linekeeper.health.service import observe
from linekeeper.incidents.conclude import conclude
from linekeeper.makini import LACKS_MOST, ErrorKind, ListedConnection, MakiniError
from linekeeper.pipeline import one_ahead
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import AppState, Connection, Credential, Customer, Transition
from linekeeper.store.upsert import insert_or_update
from linekeeper.sweep import app as app_health

BATCH = 2_000
SWEEP_MINUTES = 5.0
"""How far apart sweeps are scheduled; what falls due before the next one is probed in this one."""
BUDGET_SHARE = 0.75
"""Of the calls between two sweeps; the rest is for the list, renewals and the product's work."""
OTHERS_SHARE = 0.25
"""Of the calls for probes: kept for those that are not urgent, if there are such."""
MISSING_LEAST, MISSING_SHARE = 5, 0.5
"""A list in which this many, and more than this share of what is known, are missing has failed."""
_GONE = {False: "missing from two complete lists", True: "missing, and said to be gone"}
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


async def take_list(
    rt: Runtime, app: AppConfig, *, now: datetime, accept_missing: bool = False
) -> Adoption:
    """Read the app's list: adopt what is new, judge by it what has no token.

    A connection missing from two complete lists in a row is `disconnected`. Raises `MakiniError`
    if the list can't be read whole, or lacks most of what it had (`lacks_too_many`) and nobody said
    that they are gone (`accept_missing`): then nothing is concluded from what is missing in it.
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
        await _drop_missing(session, rt, app.name, total.ids, now, accept=accept_missing)
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


def lacks_too_many(missing: int, known: int) -> bool:
    """Whether a list rather fails than tells that so many of its connections are gone. Pure."""
    return missing >= MISSING_LEAST and missing > known * MISSING_SHARE


async def _drop_missing(
    session: AsyncSession,
    rt: Runtime,
    app: str,
    listed: Container[str],
    now: datetime,
    *,
    accept: bool,
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
    if lacks_too_many(len(missing), len(rows)) and not accept:
        raise MakiniError(
            ErrorKind.malformed,
            f"{len(missing)} of {len(rows)} known connections are missing in it, from which "
            "nothing was concluded",
            app=app,
            code=LACKS_MOST,
        )
    gone = [row for row in missing if accept or row.missing_since is not None]
    await _set(session, [row.id for row in gone], setup="disconnected", missing_since=None)
    first = [row.id for row in missing if not accept and row.missing_since is None]
    await _set(session, first, missing_since=now)
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
                    "evidence": {"message": _GONE[accept]},
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
    Where the app's budget can't bear all of them some wait for a later sweep (`choose`).
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
    rank = case((urgent, 0), (critical, 1), else_=2)
    statement = (
        select(col(Connection.id), rank, col(Connection.provider))
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(col(Connection.app) == app.name, col(Connection.setup) != "disconnected", reachable)
        .order_by(rank, col(Connection.next_probe_at).nulls_first())
    )
    if policy.probe_minutes > 0:
        statement = statement.where(or_(urgent, critical, waiting))
    async with rt.store.read() as session:
        rows = [Waiting(*row) for row in await session.execute(statement)]
    bearable = int(app.per_minute * SWEEP_MINUTES * BUDGET_SHARE) if app.per_minute else len(rows)
    return choose(rows, bearable)


class Waiting(NamedTuple):
    """A connection that is due; `rank` 0 is urgent."""

    id: str
    rank: int
    provider: str


def choose(waiting: Sequence[Waiting], bearable: int) -> Due:
    """Whom of `waiting` to probe where only so many calls are `bearable`. Pure.

    They come by rank, within it the longest waiting first. A quarter of the calls is for those that
    are not urgent: one large outage doesn't hide what happens to everybody else. A provider's
    urgent ones are asked together, so that they are seen to fail together.
    """
    urgent = [one for one in waiting if one.rank == 0]
    others = waiting[len(urgent) :]
    room = bearable - min(len(others), int(bearable * OTHERS_SHARE))
    asked = sorted(urgent[:room], key=lambda one: one.provider)
    asked += others[: bearable - len(asked)]
    return Due([one.id for one in asked], len(waiting) - len(asked))
