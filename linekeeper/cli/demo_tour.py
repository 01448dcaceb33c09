"""What a chapter of `linekeeper demo` needs: to break, to say what to do, and to see it done."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import httpx
from rich.console import Console
from sqlalchemy import or_, select
from sqlmodel import col

from linekeeper.cli.parts import sandbox_url
from linekeeper.clock import utcnow
from linekeeper.customers.naming import label
from linekeeper.refusal import UserError
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
)
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tasks.prefect_adapter.server import own_api_url

LOOK_SECONDS = 1.0
ALIVE_EVERY = 5
"""After so many looks in vain: whether `linekeeper up` still runs."""
LATELY = timedelta(hours=1)
T = TypeVar("T")


@dataclass(slots=True)
class Tour:
    """What a chapter needs: where things are, and how to say and to wait for something."""

    store: Store
    orchestrator: PrefectOrchestrator
    settings: Settings
    sandbox: str
    ui: str
    http: httpx.AsyncClient
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    broken: list[str] = field(default_factory=list)
    """Makini's keys of what is to be restored at the end."""

    def says(self, *lines: str) -> None:
        """Print lines for people."""
        for line in lines:
            self.console.print(line)

    async def waits(self, what: str, question: Callable[[], Awaitable[T | None]]) -> T:
        """Say what is waited for, and wait for it."""
        if self.console.is_terminal:
            with self.console.status(f"waiting: {what}"):
                answer = await self._until(question)
        else:
            self.says(f"  … waiting: {what}")
            answer = await self._until(question)
        self.says(f"  [green]✓[/] {what}")
        return answer

    async def _until(self, question: Callable[[], Awaitable[T | None]]) -> T:
        """The first answer that is not None, asked for as long as `up` runs."""
        for number in itertools.count(1):
            answer = await question()
            if answer is not None:
                return answer
            await asyncio.sleep(LOOK_SECONDS)
            if number % ALIVE_EVERY == 0:
                await self.is_alive()
        raise AssertionError("unreachable: counting does not end")

    async def is_alive(self) -> None:
        """Raises `UserError` where the sandbox of `linekeeper up` doesn't answer."""
        try:
            (await self.http.get(f"{self.sandbox}/healthz")).raise_for_status()
        except httpx.HTTPError:
            raise UserError(
                f"No sandbox answers at {self.sandbox}. Start `linekeeper up` in another terminal, "
                "in the same folder, and wait for `ready`."
            ) from None

    async def control(self, path: str, **body: object) -> Any:
        """Do something to the sandbox; returns what it did."""
        try:
            answer = await self.http.post(f"{self.sandbox}/_control/{path}", json=body)
        except httpx.TransportError:
            await self.is_alive()
            raise
        answer.raise_for_status()
        return answer.json()

    async def breaks(self, connection: Connection, how: str) -> None:
        """Break a connection, to be restored at the end."""
        self.broken.append(connection.makini_key)
        await self.control(f"connections/{connection.makini_key}/{how}")

    async def restores(self) -> None:
        """Restore what was broken; a sandbox that has ended forgets it by itself."""
        for key in self.broken:
            with suppress(httpx.TransportError, UserError):
                await self.control(f"connections/{key}/mend")
        self.broken.clear()

    async def healthy(self) -> list[tuple[Connection, str]]:
        """Connections that are well and in no incident, with what people call them."""
        member = select(col(IncidentConnection.connection_id)).where(
            col(IncidentConnection.left_at).is_(None)
        )
        async with self.store.read() as session:
            rows = await session.execute(
                select(Connection, col(Customer.name))
                .join(Customer, col(Customer.id) == col(Connection.customer_id))
                .where(
                    col(Connection.setup) == "live",
                    col(Connection.health) == "healthy",
                    col(Connection.id).not_in(member),
                )
                .order_by(col(Customer.name), col(Connection.id))
            )
            return [
                (
                    connection,
                    label(name, connection.provider, connection.name, connection.told_apart_by),
                )
                for connection, name in rows
            ]

    async def well(self) -> list[tuple[Connection, str]]:
        """The same, waited for until there is one."""

        async def healthy_ones() -> list[tuple[Connection, str]] | None:
            return await self.healthy() or None

        return await self.waits("a connection that is well", healthy_ones)

    async def undisturbed(self) -> list[tuple[Connection, str]]:
        """Those that are well, with those first that were in no trouble for an hour.

        What changed around an outage is held against nobody's webhooks.
        """
        lately = select(col(IncidentConnection.connection_id)).where(
            or_(
                col(IncidentConnection.left_at).is_(None),
                col(IncidentConnection.left_at) > utcnow() - LATELY,
            )
        )
        async with self.store.read() as session:
            troubled = set(await session.scalars(lately))
        return sorted(await self.well(), key=lambda item: item[0].id in troubled)

    async def incident_of(self, connection_id: str, *, since: datetime) -> Incident | None:
        """The incident that a connection got into since then, if it did."""
        async with self.store.read() as session:
            incident: Incident | None = await session.scalar(
                select(Incident)
                .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
                .where(
                    col(IncidentConnection.connection_id) == connection_id,
                    col(IncidentConnection.joined_at) >= since,
                )
                .order_by(col(IncidentConnection.joined_at).desc())
                .limit(1)
            )
            return incident


@asynccontextmanager
async def tour() -> AsyncIterator[Tour]:
    """A tour of what runs on this machine; at its end everything it broke is restored.

    Raises:
        UserError: `linekeeper up` with its sandbox doesn't run here.
    """
    async with (
        Runtime.open() as rt,
        PrefectOrchestrator.open(rt.settings) as orchestrator,
        httpx.AsyncClient(trust_env=False, timeout=10) as http,
    ):
        sandbox = sandbox_url(rt.settings)
        api = os.environ.get("PREFECT_API_URL") or own_api_url(rt.settings)
        leading = Tour(rt.store, orchestrator, rt.settings, sandbox, api.removesuffix("/api"), http)
        await leading.is_alive()
        # What else breaks meanwhile would be taken for what a chapter breaks.
        await leading.control("scenario", calm=True)
        try:
            yield leading
        finally:
            await leading.restores()
            with suppress(httpx.TransportError, UserError):  # it may have been stopped
                await leading.control("scenario", calm=False)
