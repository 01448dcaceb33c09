"""Outbox rows that go to Prefect: entries of the Event Feed, runs to start or to resume."""

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.orchestrator import FeedEvent, Orchestrator, OrchestratorUnavailable, RunRequest
from linekeeper.outbox.dispatcher import Dispatcher
from linekeeper.outbox.sender import Ended, Failed, OutboxRow, Result, Sender, Settlement
from linekeeper.redact import describe_error
from linekeeper.store import Store

AWAY_SECONDS = 15.0
"""When to try again what Prefect was not there to take, and the longest pause of the others."""
BUSY_SECONDS = 3.0
"""When to ask a run again that is to be woken, and works."""
WORKING = "the run works: it is woken once it is suspended"
log = logging.getLogger(__name__)


def events_to_prefect(store: Store, orchestrator: Orchestrator, owner: str) -> Dispatcher:
    """The dispatcher of channel `event`: all entries that are due go out in one call."""
    return Dispatcher(store, owner, EventSender(orchestrator))


def runs_to_prefect(store: Store, orchestrator: Orchestrator, owner: str) -> Dispatcher:
    """The dispatcher of channel `run`: it starts and resumes the runs whose rows are due."""
    return Dispatcher(store, owner, RunSender(orchestrator))


class _PrefectSender(Sender, ABC):
    """A row that Prefect refuses (it is there, but the row is wrong) is dead after a day.

    While Prefect is away one row at a time finds out when it answers again, and that is one line
    in the log at the beginning and one at the end.
    """

    at_once = 1
    gives_up_after = timedelta(days=1)
    longest_pause = AWAY_SECONDS

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._is_away = False

    async def send(self, row: OutboxRow) -> Result:
        """Do what the row asks of Prefect."""
        try:
            done = await self._do(row)
        except OrchestratorUnavailable as error:
            return self._away(error)
        except Exception as error:
            return Failed(describe_error(error))
        return Ended() if done else Failed(WORKING, wait=BUSY_SECONDS, is_kept=True)

    @abstractmethod
    async def _do(self, row: OutboxRow) -> bool:
        """Whether it is done; it is not while the run to be woken works."""

    def _away(self, error: OrchestratorUnavailable) -> Failed:
        """What was tried waits longest: if it is the cause, it doesn't hold up the others."""
        if not self._is_away:
            log.warning("outbox messages of channel %s wait: %s", self.channel, error)
            self._is_away = True
        return Failed(str(error), wait=AWAY_SECONDS, is_kept=True, pauses=True)

    async def settled(
        self, session: AsyncSession, settlement: Settlement, *, now: datetime
    ) -> None:
        """Note that Prefect takes messages again."""
        if self._is_away and settlement.ended:
            log.info("outbox messages of channel %s are taken again", self.channel)
            self._is_away = False


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

    async def _do(self, row: OutboxRow) -> bool:
        await self._orchestrator.emit([_event(row)])
        return True


class RunSender(_PrefectSender):
    """Starts, resumes and wakes runs."""

    channel = "run"
    batch = 10

    async def _do(self, row: OutboxRow) -> bool:
        payload = row.payload
        if "wake" in payload:
            return await self._orchestrator.wake_run(payload["wake"])
        if "resume" in payload:
            await self._orchestrator.resume_run(payload["resume"], payload.get("answer"))
            return True
        await self._orchestrator.start_run(
            RunRequest(
                deployment=payload["deployment"],
                idempotency_key=payload.get("idempotency_key", row.dedupe_key),
                name=payload.get("name"),
                parameters=payload.get("parameters", {}),
                tags=payload.get("tags", ()),
            )
        )
        return True


def _event(row: OutboxRow) -> FeedEvent:
    payload = row.payload
    return FeedEvent(
        id=payload.get("id", row.id),
        name=payload["name"],
        occurred=datetime.fromisoformat(payload["occurred"]),
        resource=payload["resource"],
        related=payload.get("related", ()),
        payload=payload.get("payload", {}),
    )
