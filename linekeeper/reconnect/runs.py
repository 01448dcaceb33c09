"""The run of a case: started once, woken, and started anew where it is gone."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.announce import ROOT_CAUSE_WAIT, heads_of
from linekeeper.incidents.lifecycle import mark_reminded
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.outbox.waking import wake_run
from linekeeper.reconnect.case import Case, load_case
from linekeeper.reconnect.remind import DEADLINE
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Incident, IncidentConnection, Outbox, Reconnect

WAKE_SECONDS = 10
WAKE_SOON = timedelta(minutes=2)
WAKE_LATER_SECONDS = 300
LONGEST_PAUSE = timedelta(hours=4)
"""Between runs of a case that end without closing it."""
_TAGS = 10
"""Customers a run is tagged with; more would fill the Runs page."""


async def start_run(
    rt: Runtime, session: AsyncSession, case: Case, reconnect: Reconnect, *, now: datetime
) -> None:
    """Have the run of this attempt started: once, however often it is asked for."""
    key = run_key(reconnect)
    payload: dict[str, Any] = {
        "deployment": "reconnect",
        "idempotency_key": key,
        "name": case.incident.title,
        "parameters": {"incident": case.incident.id},
        "tags": run_tags(case),
    }
    begins = await _held_until(session, case.incident, now=now)
    row = Message("run", f"run:{key}", payload, not_before=begins)
    await enqueue(rt.store, session, [row], now=now)


def run_tags(case: Case) -> list[str]:
    """What the run of a case is found by; of many, the first.

    It waits for a customer unless somebody logged in at each connection: such a login is kept, and
    nobody is asked for it again.
    """
    live = [member for member in case.members if member.live]
    members = live[:_TAGS]
    tags = [f"customer:{member.customer_slug}" for member in members if member.customer_slug]
    tags += [f"connection:{member.slug}" for member in members]
    if not live or any(not member.has_logged_in for member in live):
        tags.append("waiting:customer")
    return [*dict.fromkeys(tags)]


async def _held_until(
    session: AsyncSession, incident: Incident, *, now: datetime
) -> datetime | None:
    """When the run may begin; None for now.

    While one login of a provider after the other is lost they soon become the incident of the
    first of them, with its run, so the runs of the others are held back. Customers are asked at
    once.
    """
    follows = await heads_of(session, [incident.id], now=now)
    return incident.opened_at + ROOT_CAUSE_WAIT if follows else None


async def withdraw_run(session: AsyncSession, case: Case, *, now: datetime) -> bool:
    """Whether the run of a case was still held back; then it is not started any more."""
    reconnect = case.reconnect
    if reconnect is None or reconnect.run_id is not None:
        return False
    withdrawn = await session.scalar(
        update_many(Outbox)
        .where(
            col(Outbox.dedupe_key) == f"run:{run_key(reconnect)}",
            col(Outbox.status) == "pending",
            col(Outbox.claimed_by).is_(None),
        )
        .values(status="skipped", settled_at=now, error="part of a wider incident")
        .returning(col(Outbox.id))
    )
    return withdrawn is not None


async def is_on_its_way(store: Store, reconnect: Reconnect) -> bool:
    """Whether the run of this attempt is still to be handed to Prefect."""
    async with store.read() as session:
        waits = await session.scalar(
            select(col(Outbox.id)).where(
                col(Outbox.dedupe_key) == f"run:{run_key(reconnect)}",
                col(Outbox.status) == "pending",
            )
        )
    return waits is not None


async def start_another(rt: Runtime, incident_id: str, *, now: datetime) -> bool:
    """Have another run started where the last one is gone; False while it is too early for that.

    The first takes over at once, later ones ever less often, up to every `LONGEST_PAUSE`.
    """
    async with rt.store.write() as session:
        case = await load_case(rt.store, incident_id, now=now, session=session)
        if case is None or case.reconnect is None or case.reconnect.closed_at is not None:
            return False
        reconnect = case.reconnect
        last = await session.scalar(
            select(col(Outbox.created_at)).where(
                col(Outbox.dedupe_key) == f"run:{run_key(reconnect)}"
            )
        )
        if last is not None and now - last < _pause(reconnect.run_generation):
            return False
        reconnect.run_generation += 1
        if reconnect.run_id is not None:
            reconnect.replaced_runs = [*reconnect.replaced_runs, reconnect.run_id]
        reconnect.run_id, reconnect.answers = None, 0  # the next run counts its own
        await start_run(rt, session, case, reconnect, now=now)
        return True


async def reopen(session: AsyncSession, case: Case, reconnect: Reconnect, now: datetime) -> None:
    """Work on it again: as another attempt, unless it is the loss of before that goes on."""
    if _goes_on(case, reconnect):
        await _keep_reminded(session, case)
        await resume(session, reconnect)
    else:
        reconnect.attempt += 1
        reconnect.run_generation = 1
        reconnect.opened_at, reconnect.deadline_at = now, now + DEADLINE
        reconnect.snoozed_until, reconnect.windows, reconnect.counts = None, {}, {}
        await _work_on(session, reconnect)


async def resume(session: AsyncSession, reconnect: Reconnect) -> None:
    """Work on the same attempt by another run: it goes on, or the login came after its end."""
    reconnect.run_generation += 1
    await _work_on(session, reconnect)


async def _work_on(session: AsyncSession, reconnect: Reconnect) -> None:
    """Have another run work on it: the one before never takes it back."""
    if reconnect.run_id is not None:
        reconnect.replaced_runs = [*reconnect.replaced_runs, reconnect.run_id]
    reconnect.run_id = reconnect.closed_at = reconnect.outcome = None
    reconnect.answers = 0
    await session.flush()


def _goes_on(case: Case, reconnect: Reconnect) -> bool:
    """Whether somebody who waits now waited when the case was closed, and was asked in it.

    Its app was taken out of the settings and put back, or Makini's list lacked it for a while. Who
    has lost the login since is asked as whoever joins a case is.
    """
    closed_at = reconnect.closed_at
    return (
        reconnect.outcome == "moved"
        and closed_at is not None
        and min((each.health_since for each in case.waiting), default=closed_at) <= closed_at
    )


async def _keep_reminded(session: AsyncSession, case: Case) -> None:
    """Who was reminded before isn't from the first day on again."""
    ids = [member.connection_id for member in case.waiting]
    numbers: dict[int, list[str]] = {}
    for chunk in chunked(ids, 5_000):
        rows = await session.execute(
            select(col(IncidentConnection.connection_id), func.max(IncidentConnection.reminded))
            .where(
                col(IncidentConnection.incident_id) == case.incident.id,
                col(IncidentConnection.connection_id).in_(chunk),
            )
            .group_by(col(IncidentConnection.connection_id))
        )
        for connection_id, number in rows:
            numbers.setdefault(number, []).append(connection_id)
    for number, members in numbers.items():
        await mark_reminded(session, case.incident.id, members, number)


def _pause(generation: int) -> timedelta:
    if generation == 1:
        return timedelta()
    pause: timedelta = timedelta(minutes=5) * 2 ** min(generation - 1, 10)
    return min(pause, LONGEST_PAUSE)


def run_key(reconnect: Reconnect) -> str:
    """The idempotency key of the run that should be working on it."""
    return f"reconnect:{reconnect.incident_id}:{reconnect.attempt}:{reconnect.run_generation}"


def needs_waking(
    run_id: str | None, woken_at: datetime | None, *, over_at: datetime, now: datetime
) -> bool:
    """Whether the waiting run should look at the database: soon, and later now and then. Pure."""
    if run_id is None:
        return False
    return woken_at is None or _turn(woken_at, over_at, now) != _turn(now, over_at, now)


def _turn(at: datetime, over_at: datetime, now: datetime) -> int:
    every = WAKE_SECONDS if abs(now - over_at) < WAKE_SOON else WAKE_LATER_SECONDS
    return int(at.timestamp() // every)


async def wake(
    rt: Runtime,
    session: AsyncSession,
    reconnect: Reconnect,
    *,
    over_at: datetime,
    now: datetime,
) -> None:
    """Have the waiting run look at the database, unless it was just asked to."""
    if not needs_waking(reconnect.run_id, reconnect.woken_at, over_at=over_at, now=now):
        return
    reconnect.woken_at = now
    turn = str(_turn(now, over_at, now))
    await wake_run(rt.store, session, str(reconnect.run_id), turn, now=now)


async def end_replaced(rt: Runtime, session: AsyncSession, run_id: str, *, now: datetime) -> None:
    """Have a run that waits look at the database, where it finds that another took its case.

    Twice, for it may have been about to wait when it was woken first.
    """
    payload = {"resume": run_id, "answer": {"by": "linekeeper"}}
    messages = [
        Message("run", f"run:replaced:{run_id}:{turn}", payload, not_before=now + wait)
        for turn, wait in enumerate((timedelta(), WAKE_SOON))
    ]
    await enqueue(rt.store, session, messages, now=now)
