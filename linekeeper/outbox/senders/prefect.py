"""Outbox rows that go to Prefect: entries of the Event Feed, runs to start or to resume."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from linekeeper.orchestrator import Event, Orchestrator, OrchestratorUnavailable, Run
from linekeeper.outbox.dispatcher import Dispatcher
from linekeeper.outbox.sender import Ended, Failed, OutboxRow, Result, Sender
from linekeeper.redact import describe_error
from linekeeper.store import Store

AWAY_SECONDS = 15.0
"""When to try again what Prefect was not there to take."""
BUSY_SECONDS = 3.0
"""When to ask a run again that is to be woken, and works."""
WORKING = "the run works: it is woken once it is suspended"
log = logging.getLogger(__name__)


async def deliver_events(store: Store, orchestrator: Orchestrator, owner: str) -> bool:
    """Emit the event rows that are due, in one call; returns whether there were any.

    Raises `OrchestratorUnavailable`; the rows then wait.
    """
    async with Dispatcher(store, owner, EventSender(orchestrator)) as dispatcher:
        return bool(await dispatcher.deliver())


async def deliver_runs(store: Store, orchestrator: Orchestrator, owner: str) -> bool:
    """Start or resume the runs whose rows are due; returns whether there were any.

    Raises `OrchestratorUnavailable`; the rows then wait.
    """
    async with Dispatcher(store, owner, RunSender(orchestrator)) as dispatcher:
        return bool(await dispatcher.deliver())


class _PrefectSender(Sender):
    """A row that Prefect refuses (it is there, but the row is wrong) is dead after a day."""

    at_once = 1
    gives_up_after = timedelta(days=1)

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator

    def _away(self, error: OrchestratorUnavailable) -> Failed:
        """Only what was tried waits longer: if it is the cause, it doesn't hold up the others."""
        return Failed(
            str(error), wait=AWAY_SECONDS, is_kept=True, pauses=True, pause=1.0, error=error
        )


class EventSender(_PrefectSender):
    """Emits entries of the Event Feed."""

    channel = "event"
    batch = 100

    @asynccontextmanager
    async def prepare(self, rows: Sequence[OutboxRow]) -> AsyncIterator[Mapping[str, Result]]:
        """Emit them in one call; where one of them is wrong, each alone shows which."""
        known: dict[str, Result] = {}
        try:
            await self._orchestrator.emit([_event(row) for row in rows])
        except OrchestratorUnavailable as error:
            known = {row.id: self._away(error) for row in rows}
        except Exception as error:
            log.debug("each event is sent alone: %s", describe_error(error))
        else:
            known = {row.id: Ended() for row in rows}
        yield known

    async def send(self, row: OutboxRow) -> Result:
        """Emit it alone."""
        try:
            await self._orchestrator.emit([_event(row)])
        except OrchestratorUnavailable as error:
            return self._away(error)
        except Exception as error:
            return Failed(describe_error(error))
        return Ended()


class RunSender(_PrefectSender):
    """Starts, resumes and wakes runs."""

    channel = "run"
    batch = 10

    async def send(self, row: OutboxRow) -> Result:
        """Do what the row asks of Prefect."""
        try:
            done = await _start_or_resume(self._orchestrator, row.payload, row.dedupe_key)
        except OrchestratorUnavailable as error:
            return self._away(error)
        except Exception as error:
            return Failed(describe_error(error))
        return Ended() if done else Failed(WORKING, wait=BUSY_SECONDS, is_kept=True)


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


def _event(row: OutboxRow) -> Event:
    payload = row.payload
    return Event(
        id=payload.get("id", row.id),
        name=payload["name"],
        occurred=datetime.fromisoformat(payload["occurred"]),
        resource=payload["resource"],
        related=payload.get("related", ()),
        payload=payload.get("payload", {}),
    )
