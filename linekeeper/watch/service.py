"""The parts of Linekeeper watch each other: whatever still lives finds who is silent."""

import asyncio
import logging
import os
import socket
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import monotonic, utcnow
from linekeeper.config import Configuration
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.incidents.one_cause import MISSING
from linekeeper.incidents.suppressed import SINCE
from linekeeper.notify.routing import RuleSubject, channels_of, route
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import KeyProblem
from linekeeper.store.configuration import seed
from linekeeper.store.errors import trouble_of
from linekeeper.store.tables import Incident
from linekeeper.store.write_lock import holder_of_write_lock
from linekeeper.watch.alerts import watch_runs
from linekeeper.watch.database import LONGEST_SILENCE, DatabaseWatch, SaidGone, say_directly
from linekeeper.watch.decide import (
    PartTrouble,
    WatchFindings,
    WatchPolicy,
    examine,
    quiet_after,
    watching_since,
)
from linekeeper.watch.queries import beat, end, read_parts, remove, wake

TOPIC = "parts"
SLOWEST_BEAT = 10.0
FASTEST_BEAT = 0.5
STEP_SECONDS = 8.0
"""An attempt that takes longer counts as failed."""
log = logging.getLogger(__name__)

_TROUBLE = (SQLAlchemyError, OSError, KeyProblem)
_PREFIX = f"{TOPIC}:"
_SINCE = "since"
_KNOWN = select(col(Incident.cause), col(Incident.title), SINCE, col(Incident.detail)).where(
    col(Incident.topic) == TOPIC, col(Incident.resolved_at).is_(None)
)
_WEBHOOKS_BEHIND = select(col(Incident.id)).where(
    col(Incident.kind) == "webhooks_behind", col(Incident.resolved_at).is_(None)
)
"""Webhooks wait for a consumer for too long already."""


async def watch(rt: Runtime) -> WatchFindings:
    """Bring the incidents about parts in line with what their heartbeats say; returns that.

    Anybody may ask, at any time: the same heartbeats give the same incidents.
    """
    configuration = await rt.configuration()
    policy = policy_of(rt, configuration)
    async with rt.store.read() as session:
        seen, known = await _see(rt, session, policy)
    await remove(rt.store, seen.forgotten)
    if known != {(_PREFIX + trouble.cause, trouble.title) for trouble in seen.troubles}:
        async with rt.store.write() as session:
            now = await rt.store.clock(session)
            seen, _ = await _see(rt, session, policy)
            findings = [_finding(trouble) for trouble in seen.troubles]
            await apply_findings(rt.store, session, TOPIC, findings, now=now)
    return seen


async def _see(
    rt: Runtime, session: AsyncSession, policy: WatchPolicy
) -> tuple[WatchFindings, set[tuple[str, str]]]:
    """What the heartbeats say now; cause and title of what is open."""
    rows = (await session.execute(_KNOWN)).all()
    since = {
        cause.removeprefix(_PREFIX): (
            datetime.fromisoformat(detail[_SINCE]) if _SINCE in detail else begun_at
        )
        for cause, _, begun_at, detail in rows
    }
    now = await rt.store.clock(session)
    needed = ("consumer",) if await session.scalar(_WEBHOOKS_BEHIND) is not None else ()
    policy = replace(policy, needed=needed)
    seen = examine(await read_parts(session, now=now), policy, now=now, known=since)
    return seen, {(cause, title) for cause, title, *_ in rows}


async def has_watched_enough(rt: Runtime) -> bool:
    """Whether somebody has watched for so long that a part that says nothing is missing.

    Before that nobody can say it: a receiver that has just begun would find what follows from it,
    and not the cause.
    """
    policy = policy_of(rt, await rt.configuration())
    async with rt.store.read() as session:
        parts, now = await read_parts(session), await rt.store.clock(session)
    return now - watching_since(parts, policy, now=now) >= quiet_after(policy)


def policy_of(rt: Runtime, configuration: Configuration) -> WatchPolicy:
    """Return from when on silence is trouble, as it is set."""
    return WatchPolicy(after_of(rt.settings), has_apps=bool(configuration.apps))


def after_of(settings: Settings) -> timedelta:
    """How long a part may be silent (`WATCH_MINUTES`)."""
    return timedelta(minutes=settings.watch_minutes)


class Watcher:
    """What the receiver and the consumer each do beside their work: live, watch, and speak up.

    `step` never raises: where the database is gone, that is what it says.
    """

    def __init__(self, rt: Runtime, kind: str, *, address: str = "") -> None:
        self._rt = rt
        self._address = address
        self._kind = kind
        self._part = f"{kind}:{rt.owner}"
        self._host = socket.gethostname()
        after = after_of(rt.settings)
        self.seconds = min(max(after.total_seconds() / 6, FASTEST_BEAT), SLOWEST_BEAT)
        """Until the next step."""
        self._database = DatabaseWatch(f"the {kind} on {self._host}", min(after, LONGEST_SILENCE))
        self._said_gone = SaidGone(rt.settings.home, rt.owner)
        self._configuration: Configuration | None = None
        self._looking: asyncio.Task[WatchFindings] | None = None
        self._looked_at: datetime | None = None

    async def step(self) -> WatchFindings | None:
        """Live and watch once; what was seen, or None where the database did not answer."""
        # Not cancelled when it is late: the driver would first wait for the lock all the same.
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name=f"watch of the {self._kind}")
        done, _ = await asyncio.wait({self._looking}, timeout=STEP_SECONDS)
        if not done:
            await self._database_failed(f"no answer within {STEP_SECONDS:g} s")
            return None
        looked, self._looking = self._looking, None
        error = looked.exception()
        if error is None:
            await self._database_worked()
            with suppress(*_TROUBLE):
                await watch_runs(self._rt.store)
            return looked.result()
        if not isinstance(error, _TROUBLE):
            log.error("watching the other parts failed: %s", type(error).__name__)
            return None
        await self._database_failed(_why(error))
        return None

    async def end(self) -> None:
        """Say that this part ends in good order, if the database takes it within a second."""
        ending = asyncio.create_task(self._end(), name=f"end of the {self._kind}")
        await asyncio.wait({ending}, timeout=1.0)
        if ending.done() and (error := ending.exception()) is not None:
            log.warning("the end of this part was not noted: %s", type(error).__name__)

    async def _end(self) -> None:
        if self._looking is not None:  # its heartbeat, written later, would say that it lives
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await end(self._rt.store, self._part, self._kind)

    async def _look(self) -> WatchFindings:
        self._configuration = await self._rt.configuration()
        quiet = quiet_after(policy_of(self._rt, self._configuration))
        if self._looked_at is not None and utcnow() - self._looked_at >= quiet:
            await wake(self._rt.store, quiet_after=quiet)
        alive = partial(beat, self._rt.store, self._part, self._kind, self._host)
        await alive(process_id=os.getpid(), mark=self._address)
        self._looked_at = utcnow()
        return await watch(self._rt)

    async def _database_failed(self, reason: str) -> None:
        now = utcnow()
        self._take_over()
        if (holder := holder_of_write_lock(self._rt.settings)) is not None:
            reason = f"{reason}; process {holder} holds the file's write lock"
        text = self._database.failed(reason, monotonic=monotonic(), now=now)
        if text is not None:
            log.error("%s", text)
            since = self._database.failing_from or now
            if await self._say(text, "database:gone", since):
                self._database.notified_from = since
                self._said_gone.write(since)

    async def _database_worked(self) -> None:
        self._take_over()
        text, since = self._database.worked(), self._database.notified_from
        if text is not None and since is not None:
            log.info("%s", text)
            if await self._say(text, "database:back", since):
                self._database.notified_from = None
                self._said_gone.forget()

    def _take_over(self) -> None:
        """What a part said that has crashed since is as if this one had said it."""
        since = self._said_gone.take_over() if self._database.notified_from is None else None
        if since is not None:
            self._database.notified_from = since
            self._said_gone.write(since)

    async def _say(self, text: str, key: str, since: datetime) -> bool:
        slack = seed(self._rt.settings).slack
        if self._configuration is not None:
            about = RuleSubject(topics=("parts", "part_silent"), severity="critical")
            channels = channels_of(self._configuration)
            slack = channels.get(route(about, channels))
        return await say_directly(slack, text, key=key, since=since)


def _why(error: Exception) -> str:
    return trouble_of(error).text if isinstance(error, DBAPIError) else type(error).__name__


def _finding(trouble: PartTrouble) -> Finding:
    return Finding(
        kind=trouble.kind,
        cause=_PREFIX + trouble.cause,
        app="",
        title=trouble.title,
        text=trouble.text,
        scope="house",
        resolved=trouble.resolved,
        detail={_SINCE: trouble.since.isoformat(), MISSING: trouble.missing},
    )
