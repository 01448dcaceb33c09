"""Moving implementations on: what is proven is settled, what became possible is opened.

All of it is read from the database, so it may be done by anybody at any time, and again: with
nothing new it changes nothing.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.credits.service import consume_on_connect, return_credits
from linekeeper.credits.tariff import cost_of
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.implementation import news, queries, work
from linekeeper.implementation.binding import bind
from linekeeper.implementation.evaluate import Evaluation, GateChange
from linekeeper.implementation.facts import ConnectionFacts, GateEvidence
from linekeeper.implementation.golive import go_live
from linekeeper.implementation.logins import turns_over
from linekeeper.implementation.notified import NotifiedSlip, notified_of
from linekeeper.implementation.outlook import Outlook
from linekeeper.implementation.progress import Progress, forecast_anew, forecast_standing, keep
from linekeeper.implementation.proofs import Lack, prove, troubles
from linekeeper.implementation.standing import Standing, hand_over, is_handed_over
from linekeeper.outbox.queue import Message
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Gate, Implementation

TRIALS_OF_ALL = 2_000
"""Trials of the hourly forecast of all; one that moves is forecast with the full number."""


@dataclass(slots=True)
class Round:
    """What moving all of them on did."""

    looked_at: int = 0
    moved: list[str] = field(default_factory=list)
    """Ids of those where something opened, was done or was connected."""
    aged: list[str] = field(default_factory=list)
    """Ids of those that stand still, and look otherwise than people last saw them: a day has
    passed, or something is late or in trouble that wasn't."""
    slipping: list[str] = field(default_factory=list)
    """Digest lines."""


class NoSuchImplementation(Exception):
    """Nothing answers to that name; the message offers what does."""


async def advance(store: Store, identifier: str, *, now: datetime) -> Progress:
    """Move one implementation on and forecast it anew. Raises `NoSuchImplementation`."""
    async with store.write() as session:
        standing = await queries.load(session, identifier, lock=True)
        if standing is None:
            raise NoSuchImplementation(f"there is no implementation {identifier}")
        evaluation, lacks = await advance_in(store, session, standing, now=now)
    return await forecast_anew(store, standing, evaluation, lacks, now=now)


async def advance_in(
    store: Store, session: AsyncSession, standing: Standing, *, now: datetime
) -> tuple[Evaluation, dict[str, Lack]]:
    """Move it on in the caller's transaction, which holds its lock; returns how it stands then."""
    implementation = standing.implementation
    seen = await queries.evidence(session, [standing])
    if implementation.status in queries.UNDERWAY:
        await _connect(store, session, standing, seen, now)
        seen = await queries.evidence(session, [standing])
    proofs, lacks = prove(standing, seen)
    if implementation.status not in queries.UNDERWAY:
        proofs = {}
    else:
        for row, to, at in turns_over(standing, seen):
            hand_over(row, to, at)
            row.changes += 1
    held = implementation.status != "running"
    evaluation = standing.evaluate(proofs, now, held=held)
    messages: list[Message | None] = []
    for change in evaluation.changes:
        row = standing.gates[change.gate]
        messages += _apply(standing, row, change)
    messages += [work.start_next(standing, row) for row in work.due(standing)]
    if evaluation.live and implementation.status in queries.UNDERWAY:
        messages += await go_live(session, standing, evaluation, troubles(lacks), now=now)
    await session.flush()
    await news.send(store, session, [*messages, news.wake(standing)], now=now)
    return evaluation, lacks


async def look(store: Store, identifier: str, *, now: datetime) -> Progress:
    """How one implementation stands, without moving it. Raises `NoSuchImplementation`."""
    async with store.read() as session:
        standing = await queries.load(session, identifier)
        if standing is None:
            raise NoSuchImplementation(f"there is no implementation {identifier}")
        _, lacks = prove(standing, await queries.evidence(session, [standing]))
    implementation = standing.implementation
    at = implementation.live_at or implementation.abandoned_at or now
    evaluation = standing.evaluate({}, at, held=True)
    outlook = await asyncio.to_thread(forecast_standing, standing, evaluation, lacks)
    return Progress(standing, evaluation, outlook, lacks)


async def ready(session: AsyncSession, *, now: datetime) -> list[str]:
    """Ids of those that have something to move on with."""
    standings = await queries.load_underway(session)
    return [
        surveyed.standing.implementation.id
        for surveyed in await _survey(session, standings, now)
        if surveyed.moves
    ]


async def advance_all(store: Store, *, now: datetime) -> Round:
    """Move on all that are underway. Those nothing happened to are only forecast anew."""
    async with store.read() as session:
        surveyed = await _survey(session, await queries.load_underway(session), now)
    done = Round(looked_at=len(surveyed))
    for project in surveyed:
        implementation = project.standing.implementation
        if project.moves:
            await advance(store, implementation.id, now=now)
            done.moved.append(implementation.id)
    still = [project for project in surveyed if not project.moves]
    seen = {project.standing.implementation.id: _seen(project) for project in still}
    outlooks = await asyncio.to_thread(_forecast_all, still)
    async with store.write() as session:
        unchanged = await queries.unchanged(session, [project.standing for project in still])
        for project, outlook in zip(still, outlooks, strict=True):
            if project.standing.implementation.id not in unchanged:
                continue  # whoever changed it meanwhile forecasts it
            await keep(
                store,
                session,
                project.standing,
                project.evaluation,
                outlook,
                lacks=project.lacks,
                now=now,
            )
    for project in still:
        if _seen(project) != seen[project.standing.implementation.id]:
            done.aged.append(project.standing.implementation.id)
    async with store.read() as session:
        done.slipping = list(
            await session.scalars(
                select(col(Implementation.digest))
                .where(col(Implementation.digest).is_not(None))
                .where(col(Implementation.status).in_(queries.UNDERWAY))
                .order_by(col(Implementation.id))
            )
        )
    return done


@dataclass(frozen=True, slots=True)
class _Surveyed:
    """How an implementation is, and whether there is something to move it on with."""

    standing: Standing
    evaluation: Evaluation
    lacks: dict[str, Lack]
    moves: bool


def _seen(surveyed: _Surveyed) -> tuple[date, NotifiedSlip]:
    """What decides whether its artifact has to be drawn again."""
    implementation = surveyed.standing.implementation
    notified = notified_of(implementation.notified, implementation.notified_of_before)
    return implementation.forecast_at.date(), notified


async def _survey(
    session: AsyncSession, standings: Sequence[Standing], now: datetime
) -> list[_Surveyed]:
    seen = await queries.evidence(session, standings)
    taken = await queries.spoken_for(
        session, list({standing.customer.id for standing in standings})
    )
    surveyed = []
    for standing in standings:
        proofs, lacks = prove(standing, seen)
        evaluation = standing.evaluate(proofs, now, held=standing.held)
        moves = bool(evaluation.changes or work.due(standing)) or evaluation.live
        moves = moves or _may_connect(standing, seen, taken) or bool(turns_over(standing, seen))
        surveyed.append(_Surveyed(standing, evaluation, lacks, moves))
    return surveyed


async def restart_lost(store: Store, alive: set[str], *, before: datetime, now: datetime) -> int:
    """Start the runs of open gates again that nobody runs any more; returns how many.

    `alive` are the ids of the gates that have an unfinished run, as listed at `before`.
    """
    async with store.write() as session:
        lost = await queries.lost_gates(session, alive, before=before)
        for row in lost:
            standing = await queries.load(session, row.implementation_id, lock=True)
            if standing is None:
                continue
            current = standing.gates[row.gate]
            current.attempt += 1
            current.answers = 0
            current.run_id = None
            await session.flush()
            await news.send(store, session, [news.gate_run(standing, current)], now=now)
    return len(lost)


def _forecast_all(still: Sequence[_Surveyed]) -> list[Outlook]:
    return [
        forecast_standing(surveyed.standing, surveyed.evaluation, surveyed.lacks, TRIALS_OF_ALL)
        for surveyed in still
    ]


def _may_connect(standing: Standing, seen: GateEvidence, taken: set[str]) -> bool:
    owed = any(
        system.connection_id is not None
        and system.connection_id not in seen.credited
        and system.connection_id in seen.connections
        and seen.connections[system.connection_id].setup in ESTABLISHED
        for system in standing.systems
    )
    return owed or bool(_bound(standing, seen, taken))


def _bound(standing: Standing, seen: GateEvidence, taken: Iterable[str]) -> dict[str, str]:
    """Return the connection of each system that has none yet, or whose own is gone."""
    spoken_for = set(taken)
    free = [facts for facts in seen.connections.values() if facts.id not in spoken_for]
    gone = {facts.id: facts.replaced_by for facts in seen.connections.values() if _is_gone(facts)}
    since = standing.implementation.started_at
    customer = standing.customer.name
    bound = bind(
        standing.systems,
        customer,
        free,
        since,
        gone=gone,
        providers=seen.providers,
        known_since=seen.known_since,
    )
    for system in standing.systems:
        if successor := gone.get(system.connection_id or ""):
            bound[system.id] = successor
    return bound


def _is_gone(facts: ConnectionFacts) -> bool:
    return facts.setup == "disconnected"


async def _connect(
    store: Store, session: AsyncSession, standing: Standing, seen: GateEvidence, now: datetime
) -> None:
    """Recognise the customer's new connections as the systems; those established take credits."""
    implementation = standing.implementation
    taken = await queries.spoken_for(session, [standing.customer.id])
    bound = _bound(standing, seen, taken)
    for system in standing.systems:
        before = system.connection_id
        system.connection_id = bound.get(system.id, before)
        if before is not None and before != system.connection_id and before in seen.credited:
            note = f"replaced in {implementation.title}"
            await return_credits(
                store,
                session,
                before,
                app=implementation.app,
                by="implementation",
                note=note,
                now=now,
            )
        if system.connection_id is None:
            continue
        if system.connection_id in seen.credited and system.id not in seen.credited:
            continue  # those that this system reserved are released, whatever the connection holds
        facts = seen.connections.get(system.connection_id)
        connection = await session.get(Connection, system.connection_id)
        if facts is None or connection is None or facts.setup not in ESTABLISHED:
            continue
        system.tier = connection.tier or system.tier
        if connection.tier_by is None:
            connection.tier = system.tier
        if connection.tariff_by is None:
            connection.hosting = system.hosting or implementation.hosting
        system.cost = cost_of(system.tier, connection.hosting)
        await consume_on_connect(
            store,
            session,
            connection.id,
            system.cost,
            app=implementation.app,
            planned=system.id,
            implementation_id=implementation.id,
            by="implementation",
            note=implementation.title,
            now=now,
        )
    await session.flush()


def _apply(standing: Standing, row: Gate, change: GateChange) -> list[Message | None]:
    row.changes += 1
    if change.to == "open":
        row.status = "open"
        row.opened_at = change.at
        text = f"{row.title} may begin"
        messages: list[Message | None] = [news.gate_event(standing, row, "opened", change.at, text)]
        if row.check_name is None:
            row.attempt += 1
            messages.append(news.gate_run(standing, row))
        return messages
    if is_handed_over(row):
        hand_over(row, "customer", change.at)
    row.status = "done"
    row.done_at = change.at
    assert change.proof is not None  # nothing is done here without one
    row.done_by, row.evidence = change.proof.by, change.proof.text
    return [
        news.gate_event(standing, row, "done", change.at, row.evidence),
        news.end_run(row, change.at),
    ]
