"""Outbox rows that go to Prefect: entries of the Event Feed, runs to start or to resume."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.orchestrator import Event, Orchestrator, OrchestratorUnavailable, Run
from linekeeper.outbox.queue import claim, dead_letter, postpone, retry_at, settle
from linekeeper.redact import describe_error
from linekeeper.store import Store
from linekeeper.store.tables import Outbox

EVENT_BATCH = 100
RUN_BATCH = 10
AWAY = timedelta(seconds=15)
"""When to try again what Prefect was not there to take."""
BUSY = timedelta(seconds=3)
"""When to ask a run again that is to be woken, and works."""
WORKING = "the run works: it is woken once it is suspended"
GIVE_UP_AFTER = timedelta(days=1)
"""A row that Prefect refuses (it is there, but the row is wrong) is dead after so long."""


async def deliver_events(store: Store, orchestrator: Orchestrator, owner: str) -> bool:
    """Emit the event rows that are due, in one call; returns whether there were any.

    Raises `OrchestratorUnavailable`; the rows then wait.
    """
    rows = await _claim(store, "event", owner, EVENT_BATCH)
    if not rows:
        return False
    try:
        await orchestrator.emit([_event(row) for row in rows])
    except OrchestratorUnavailable as error:
        await postpone(store, rows, owner, str(error), until=utcnow() + AWAY)
        raise
    except Exception:  # one of them is wrong: each alone shows which
        for row in rows:
            await _emit_alone(store, orchestrator, row, owner)
    else:
        await settle(store, rows, owner, now=utcnow())
    return True


async def deliver_runs(store: Store, orchestrator: Orchestrator, owner: str) -> bool:
    """Start or resume the runs whose rows are due; returns whether there were any.

    Raises `OrchestratorUnavailable`; the rows then wait.
    """
    rows = await _claim(store, "run", owner, RUN_BATCH)
    for position, row in enumerate(rows):
        try:
            done = await _start_or_resume(orchestrator, row.payload, row.dedupe_key)
        except OrchestratorUnavailable as error:
            # Only this one waits longer: if it is the cause, it doesn't hold up the others.
            await postpone(store, [row], owner, str(error), until=utcnow() + AWAY)
            await postpone(store, rows[position + 1 :], owner, str(error), until=utcnow())
            raise
        except Exception as error:
            await _refused(store, row, owner, error)
        else:
            if done:
                await settle(store, [row], owner, now=utcnow())
            else:
                await postpone(store, [row], owner, WORKING, until=utcnow() + BUSY)
    return bool(rows)


async def _claim(store: Store, channel: str, owner: str, limit: int) -> Sequence[Outbox]:
    now = utcnow()
    if not await _is_due(store, channel, now):
        return []
    return await claim(store, channel, owner, limit=limit, now=now)


async def _is_due(store: Store, channel: str, now: datetime) -> bool:
    """A look that takes no write lock."""
    async with store.read() as session:
        return (
            await session.scalar(
                select(Outbox.id)
                .where(
                    col(Outbox.channel) == channel,
                    col(Outbox.status) == "pending",
                    col(Outbox.next_attempt_at) <= now,
                )
                .limit(1)
            )
            is not None
        )


async def _emit_alone(store: Store, orchestrator: Orchestrator, row: Outbox, owner: str) -> None:
    try:
        await orchestrator.emit([_event(row)])
    except OrchestratorUnavailable as error:
        await postpone(store, [row], owner, str(error), until=utcnow() + AWAY)
    except Exception as error:
        await _refused(store, row, owner, error)
    else:
        await settle(store, [row], owner, now=utcnow())


async def _refused(store: Store, row: Outbox, owner: str, error: Exception) -> None:
    now, reason = utcnow(), describe_error(error)
    if now - row.created_at > GIVE_UP_AFTER:
        await dead_letter(store, row, owner, reason, now=now)
    else:
        await postpone(store, [row], owner, reason, until=retry_at(row.attempts, now=now))


async def _start_or_resume(
    orchestrator: Orchestrator, payload: dict[str, Any], dedupe_key: str
) -> bool:
    """Whether the row is done; it is not while the run to be woken works."""
    if "wake" in payload:
        return await orchestrator.wake_run(payload["wake"])
    if "resume" in payload:
        await orchestrator.resume_run(payload["resume"], payload.get("answer"))
        return True
    await orchestrator.start_run(
        Run(
            deployment=payload["deployment"],
            idempotency_key=payload.get("idempotency_key", dedupe_key),
            name=payload.get("name"),
            parameters=payload.get("parameters", {}),
            tags=payload.get("tags", ()),
        )
    )
    return True


def _event(row: Outbox) -> Event:
    payload = row.payload
    return Event(
        id=payload.get("id", row.id),
        name=payload["name"],
        occurred=datetime.fromisoformat(payload["occurred"]),
        resource=payload["resource"],
        related=payload.get("related", ()),
        payload=payload.get("payload", {}),
    )
