"""The sweep: take the list, choose what to probe; the probing is in `batch`.

Each step takes what it needs from the database and leaves it there, so that a sweep killed
anywhere is completed by the next (DESIGN "Nothing is lost").
"""

from collections.abc import (
    Collection,
    Iterable,
    Sequence,
)
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate
from typing import NamedTuple

from sqlalchemy import and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.customers.adopt import Adoption, adopt
from linekeeper.customers.distinct_labels import distinguish_labels
from linekeeper.customers.succession import succeed_listed
from linekeeper.customers.successors import observe_likely_successors
from linekeeper.health.absence import conclude_missing
from linekeeper.health.evidence import Health, Observation, Outcome, load
from linekeeper.health.service import observe
from linekeeper.incidents.conclude import conclude
from linekeeper.makini import ListedConnection
from linekeeper.runtime import Runtime
from linekeeper.spending import Purpose, spends_on
from linekeeper.store.engine import chunked, insert_or_update
from linekeeper.store.modes import apply_rules, is_managed
from linekeeper.store.tables import AppState, Connection, Credential, Customer
from linekeeper.sweep import app as app_health
from linekeeper.sweep.connection_list import read_list
from linekeeper.sweep.pace import BUDGET_SHARE, SWEEP_MINUTES, pages_of
from linekeeper.sweep.successors import expect_tokens
from linekeeper.tokens.stored import is_live

BATCH = 2_000
_BETWEEN = timedelta(minutes=SWEEP_MINUTES)
OTHERS_SHARE = 0.25
"""The share of the calls for probes that is kept for those that are not urgent."""


@dataclass(frozen=True, slots=True)
class DueProbes:
    """The connections to probe now, most urgent first, and how many more were due."""

    ids: Sequence[str]
    left_out: int = 0
    noted: int | None = None
    """How many were left out by the sweep before, as it is kept."""

    @property
    def batches(self) -> list[list[str]]:
        return list(chunked(self.ids, BATCH))


@spends_on(Purpose.sweep)
async def take_list(
    rt: Runtime, app: AppConfig, *, now: datetime, accept_missing: bool = False
) -> Adoption:
    """Read the app's list: adopt what is new, judge by it what has no token.

    A connection missing from two complete lists in a row, without a sign of life between them, is
    `disconnected`, and that is an incident.
    From a list that looks truncated nothing is concluded of what is missing in it; that is an
    incident of the app until a list is whole or somebody says that they are gone
    (`accept_missing`). Raises `MakiniError` if the list can't be read.
    """
    policy = (await rt.configuration()).policy

    async def take(portion: Sequence[ListedConnection]) -> Adoption:
        async with rt.store.write() as session:
            adoption = await adopt(rt.store, session, app.name, portion, now=now)
            await observe_likely_successors(session, app.name, fresh=adoption.new_ids)
            seen = await _said_by_list(session, app, portion, adoption, now)
            await observe(rt.store, session, seen, policy=policy, now=now)
        return adoption

    reading = await read_list(rt, app, take)
    async with rt.store.write() as session:
        missing = await reading.find_missing(session)
        await conclude_missing(rt.store, session, app, missing, now=now, accept=accept_missing)
        if not missing.absence.looks_truncated:
            replaced = reading.adoption.replaced
            pairs = await succeed_listed(rt.store, session, app.name, replaced=replaced, now=now)
            await expect_tokens(rt.store, session, pairs, policy=policy, now=now)
        await distinguish_labels(session)  # also where one has just ended, or has another customer
        await apply_rules(session)  # also for what came while somebody changed a rule
        await observe_likely_successors(session, app.name)
        await conclude(rt.store, session, policy=policy, now=now)
    is_whole = accept_missing or not missing.absence.looks_truncated
    if not is_whole:
        reading.adoption.truncated = missing.absence.sentence
        await app_health.list_truncated(rt.store, app, missing.absence, now=now)
    await app_health.list_worked(rt.store, app, now=now, is_whole=is_whole)
    return reading.adoption


async def preview_list(rt: Runtime, app: AppConfig, *, now: datetime) -> Adoption:
    """What `take_list` would adopt and change; nothing is written. Raises `MakiniError`."""

    async def look(portion: Sequence[ListedConnection]) -> Adoption:
        async with rt.store.read() as session:
            return await adopt(rt.store, session, app.name, portion, now=now, dry_run=True)

    reading = await read_list(rt, app, look)
    async with rt.store.read() as session:
        missing = await reading.find_missing(session)
    reading.adoption.missing = [row.name for row in missing.rows]
    if missing.absence.looks_truncated:
        reading.adoption.truncated = missing.absence.sentence
    return reading.adoption


async def _said_by_list(
    session: AsyncSession,
    app: AppConfig,
    portion: Sequence[ListedConnection],
    adoption: Adoption,
    now: datetime,
) -> list[tuple[str, Observation]]:
    """Observations of those whose status in the list changed, or that nothing else observes."""
    ids = list(adoption.ids.values())
    with_token = set(
        await session.scalars(
            select(col(Credential.connection_id)).where(
                col(Credential.connection_id).in_(ids), is_live(now)
            )
        )
    )
    managed = set(
        await session.scalars(
            select(col(Connection.id)).where(col(Connection.id).in_(ids), is_managed(app))
        )
    )
    lost = await _lost_without_token(session, managed)
    relisted = set(adoption.relisted)
    seen = []
    for key, listed in {entry.key: entry for entry in portion}.items():
        identifier = adoption.ids[key]
        if identifier in adoption.replaced:
            continue
        connected, lost_at = listed.connected_at, lost.get(identifier)
        is_back = connected is not None and lost_at is not None and connected > lost_at
        decisive = identifier not in with_token and (is_back or identifier not in managed)
        if decisive or key in relisted:
            seen.append(
                (
                    identifier,
                    Observation(
                        at=now,
                        source="list",
                        outcome=Outcome.listed,
                        lifecycle=listed.lifecycle,
                        decisive=decisive,
                        unread=decisive,
                        connected_at=listed.connected_at,
                        message=f"listed as {listed.status or 'nothing'}",
                    ),
                )
            )
    return seen


async def _lost_without_token(session: AsyncSession, ids: Collection[str]) -> dict[str, datetime]:
    """When the login of each of the managed connections `ids` was lost that have no token at all.

    Nothing but the list says of them that the customer connected them again at Makini itself.
    """
    if not ids:
        return {}
    rows = await session.execute(
        select(col(Connection.id), col(Connection.judged), col(Connection.health_since)).where(
            col(Connection.id).in_(ids),
            col(Connection.health).in_((Health.reauthorization_required, Health.unknown)),
            col(Connection.id).not_in(select(col(Credential.connection_id))),
        )
    )
    return {row.id: load(row.judged).lost_at or row.health_since for row in rows}


async def due(rt: Runtime, app: AppConfig, policy: HealthPolicy, *, now: datetime) -> DueProbes:
    """Which connections of `app` to probe now (INTERFACE `PROBE_MINUTES`).

    Those in trouble or suspect first, then critical customers', then by how long they have waited.
    Where the app's budget can't bear all of them some wait for a later sweep (`choose`).
    """
    # Where nothing may be renewed, a token that has ended is none.
    held = select(col(Credential.connection_id)).where(is_live(now)).scalar_subquery()
    had_one = col(Connection.id).in_(select(col(Credential.connection_id)).scalar_subquery())
    urgent = or_(
        col(Connection.health) != Health.healthy.value,
        col(Connection.suspect),
        col(Connection.missing_since).is_not(None),  # asked before it is taken for gone
    )
    critical = and_(col(Customer.critical).is_not(None), col(Customer.critical))
    waiting = or_(
        col(Connection.next_probe_at).is_(None),
        col(Connection.next_probe_at) <= now + _BETWEEN,
    )
    reachable = or_(
        col(Connection.id).in_(held),
        and_(is_managed(app), or_(col(Connection.setup) != "pending", had_one)),
    )
    rank = case((urgent, 0), (critical, 1), else_=2)
    lasting = select(col(Credential.connection_id)).where(is_live(now + _BETWEEN))
    calls = case((col(Connection.id).in_(lasting.scalar_subquery()), 1), else_=2)
    statement = (
        select(col(Connection.id), rank, col(Connection.provider), calls)
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(col(Connection.app) == app.name, col(Connection.setup) != "disconnected", reachable)
        .order_by(rank, col(Connection.next_probe_at).nulls_first())
    )
    if policy.probe_minutes > 0:
        statement = statement.where(or_(urgent, critical, waiting))
    async with rt.store.read() as session:
        rows = [DueConnection(*row) for row in await session.execute(statement)]
        noted = await session.scalar(
            select(col(AppState.left_out)).where(col(AppState.app) == app.name)
        )
        listed = await session.scalar(
            select(func.count()).where(
                col(Connection.app) == app.name, col(Connection.setup) != "disconnected"
            )
        )
    if not app.per_minute:
        return replace(choose(rows, calls_of(rows)), noted=noted)
    most = int(app.calls_a_minute * SWEEP_MINUTES * BUDGET_SHARE)
    probe_budget = max(most - pages_of(app, listed or 0), 2)
    return replace(choose(rows, probe_budget), noted=noted)


async def note_left_out(rt: Runtime, app: str, work: DueProbes) -> None:
    """Keep how many of `app` this sweep leaves to a later one, where that changed."""
    if work.left_out == work.noted:
        return
    row = {"app": app, "budget": {}, "circuit": {}, "left_out": work.left_out}
    async with rt.store.write() as session:
        await insert_or_update(rt.store, session, AppState, [row], key=["app"], update=["left_out"])


class DueConnection(NamedTuple):
    """A connection that is due; `rank` 0 is urgent."""

    id: str
    rank: int
    provider: str
    calls: int = 1
    """What a probe costs: one whose token ends before the next sweep needs a new one first."""


def calls_of(connections: Iterable[DueConnection]) -> int:
    """What probing them costs."""
    return sum(each.calls for each in connections)


def choose(waiting: Sequence[DueConnection], probe_budget: int) -> DueProbes:
    """Whom of `waiting` to probe where only so many calls are `probe_budget`. Pure.

    They come by rank, within it the longest waiting first. A quarter of the calls is for those that
    are not urgent: one large outage doesn't hide what happens to everybody else. A provider's
    urgent ones are asked together, so that they are seen to fail together.
    """
    urgent = [candidate for candidate in waiting if candidate.rank == 0]
    others = waiting[len(urgent) :]
    room = probe_budget - min(calls_of(others), int(probe_budget * OTHERS_SHARE))
    first = _within(urgent, room)
    asked = sorted(first, key=lambda candidate: candidate.provider)
    asked += _within(others, probe_budget - calls_of(first))
    return DueProbes([candidate.id for candidate in asked], len(waiting) - len(asked))


def _within(connections: Sequence[DueConnection], calls: int) -> Sequence[DueConnection]:
    """The first of them, as many as so many calls are enough for."""
    spent = accumulate(each.calls for each in connections)
    return connections[: sum(1 for total in spent if total <= calls)]
