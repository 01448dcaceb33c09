"""The chapters of `linekeeper demo`: each breaks something, says what to do, and sees it done."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import httpx
from rich.console import Console
from sqlalchemy import func, select
from sqlmodel import col

from linekeeper.cli.errors import UserError
from linekeeper.cli.orchestrator import PrefectOrchestrator
from linekeeper.cli.parts import sandbox_url
from linekeeper.cli.server import own_api_url
from linekeeper.clock import utcnow
from linekeeper.customers.naming import label
from linekeeper.orchestrator import Run
from linekeeper.runtime import Runtime
from linekeeper.store import Store, new_id
from linekeeper.store.tables import (
    Connection,
    Customer,
    Drift,
    Gate,
    Implementation,
    Incident,
    IncidentConnection,
    Reconnect,
)

OUTAGE_MEMBERS = 5
"""As many of one provider's connections that fail alike are one incident."""
LOST = 4
LOOK_SECONDS = 1.0
T = TypeVar("T")


@dataclass(slots=True)
class Tour:
    """What a chapter needs: where things are, and how to say and to wait for something."""

    store: Store
    orchestrator: PrefectOrchestrator
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
                answer = await _until(question)
        else:
            self.says(f"  … waiting: {what}")
            answer = await _until(question)
        self.says(f"  [green]✓[/] {what}")
        return answer

    async def control(self, path: str, **body: object) -> None:
        """Do something to the sandbox."""
        answer = await self.http.post(f"{self.sandbox}/_control/{path}", json=body)
        answer.raise_for_status()

    async def breaks(self, connection: Connection, how: str) -> None:
        """Break a connection, to be restored at the end."""
        self.broken.append(connection.makini_key)
        await self.control(f"connections/{connection.makini_key}/{how}")

    async def restores(self) -> None:
        """Restore what was broken."""
        for key in self.broken:
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
                (connection, label(name, connection.provider, connection.name))
                for connection, name in rows
            ]

    async def incident_of(self, connection_id: str, *, since: datetime) -> Incident | None:
        """The incident that a connection got into since then, if it did."""
        async with self.store.read() as session:
            found: Incident | None = await session.scalar(
                select(Incident)
                .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
                .where(
                    col(IncidentConnection.connection_id) == connection_id,
                    col(IncidentConnection.joined_at) >= since,
                )
                .order_by(col(IncidentConnection.joined_at).desc())
                .limit(1)
            )
            return found


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
        leading = Tour(rt.store, orchestrator, sandbox, api.removesuffix("/api"), http)
        try:
            (await http.get(f"{sandbox}/healthz")).raise_for_status()
        except httpx.HTTPError:
            raise UserError(
                f"No sandbox answers at {sandbox}. Start `linekeeper up` in another terminal, in "
                "the same folder, and wait for `ready`."
            ) from None
        try:
            yield leading
        finally:
            await leading.restores()


async def _login(leading: Tour, count: str) -> None:
    """A lost login, followed to "Reconnected"."""
    connection, name = (await leading.waits("a connection that is well", _some(leading)))[0]
    leading.says("", f"[bold]{count} · A lost login[/]", f"Somebody at {name} changes a password.")
    now = utcnow()
    await leading.breaks(connection, "change-credentials")

    async def asked() -> Incident | None:
        incident = await leading.incident_of(connection.id, since=now)
        return incident if incident is not None and incident.connect_url else None

    incident = await leading.waits(f"Linekeeper has noticed that {name} lost its login", asked)
    leading.says(
        f"It is red in Slack: {leading.sandbox}/slack",
        "Now be the customer. Click [bold]Connect link for the customer[/] under that message, or",
        f"  {incident.connect_url}",
        "then [bold]Log in[/], pick the system marked “login lost”, any name and any password.",
    )

    async def reconnected() -> Reconnect | None:
        async with leading.store.read() as session:
            case = await session.get(Reconnect, incident.id)
        return case if case is not None and case.closed_at is not None else None

    case = await leading.waits("you have logged in, and the case is closed", reconnected)
    backfilled = sum(int(one.get("caught_up", 0)) for one in case.counts.values())
    leading.says(
        f"[bold]Reconnected.[/] The new login was verified by a read, {backfilled} records that "
        "changed meanwhile were backfilled,",
        "and the message in Slack is green. The run that waited for you:",
        f"  {leading.ui}/runs/flow-run/{case.run_id}",
    )


async def _outage(leading: Tour, count: str) -> None:
    """An outage of a whole provider: one message, taken and over."""
    well = await leading.healthy()
    sizes = Counter(connection.provider for connection, _ in well)
    provider, size = max(sizes.items(), key=lambda item: item[1], default=("", 0))
    members = [(one, name) for one, name in well if one.provider == provider]
    leading.says("", f"[bold]{count} · An outage[/]")
    if size < OUTAGE_MEMBERS:
        leading.says("No provider has five connections that are well: left out.")
        return
    leading.says(f"All {size} {provider} systems go away at once. That takes three misses each.")
    now = utcnow()
    for connection, _ in members:
        await leading.breaks(connection, "go-offline")

    async def one_incident() -> Incident | None:
        found = await leading.incident_of(members[0][0].id, since=now)
        return found if found is not None and found.scope != "connection" else None

    incident = await leading.waits(f"they are one incident: {provider}", one_incident)
    leading.says(
        f"{size} systems, one message: {leading.sandbox}/slack",
        "Take it: click [bold]Acknowledge[/] under that message. Nobody is reminded from then on.",
    )

    async def acknowledged() -> str | None:
        async with leading.store.read() as session:
            row = await session.get_one(Incident, incident.id)
        return row.acknowledged_by if row.acknowledged_at else None

    by = await leading.waits("you have acknowledged it", acknowledged)
    leading.says(f"It says so: acknowledged by {by}. Now the systems come back.")
    await leading.restores()

    async def resolved() -> Incident | None:
        async with leading.store.read() as session:
            row = await session.get_one(Incident, incident.id)
        return row if row.resolved_at else None

    await leading.waits("it is resolved by itself", resolved)


async def _webhook(leading: Tour, count: str) -> None:
    """A webhook that never came, found by reconciling."""
    connection, name = (await leading.waits("a connection that is well", _some(leading)))[0]
    leading.says(
        "",
        f"[bold]{count} · A lost webhook[/]",
        f"{LOST} records change at {name}, and no webhook says so.",
    )
    now = utcnow()
    await leading.control("records", connection=connection.makini_key, change=LOST, announce=False)
    leading.says(
        "Nothing has happened here: nobody can notice what was never said. Unless one looks:",
        f"open {leading.ui}/deployments, open [bold]reconcile[/], click [bold]Run[/] → "
        "[bold]Quick run[/].",
    )

    async def found() -> int | None:
        async with leading.store.read() as session:
            return (
                await session.scalar(
                    select(func.sum(col(Drift.missed))).where(
                        col(Drift.connection_id) == connection.id, col(Drift.run_at) >= now
                    )
                )
                or None
            )

    missed = await leading.waits("reconcile has read what changed", found)
    leading.says(
        f"[bold]{missed} changes missed[/] by the webhooks of {name}: counted, repaired, and "
        "handed on to your product.",
        f"How far webhooks can be trusted: {leading.ui}/artifacts/key/webhook-trust",
    )


async def _step(leading: Tour, count: str) -> None:
    """A new customer: the first step of an implementation, answered in a form."""
    customer = f"Demo {new_id()[-4:]}"
    leading.says(
        "",
        f"[bold]{count} · Bringing a customer live[/]",
        f"{customer} is to be connected. The whole project is one run; its first step waits for "
        "you.",
    )
    parameters = {
        "customer": customer,
        "systems": [{"name": "UpKeep"}],
        "kickoff": utcnow().date().isoformat(),
        "by": "linekeeper demo",
    }
    run = Run("implementation", idempotency_key=f"demo:{customer}", parameters=parameters)
    project = await leading.orchestrator.start_run(run)

    async def open_step() -> Gate | None:
        async with leading.store.read() as session:
            return await session.scalar(
                select(Gate)
                .join(Implementation, col(Implementation.id) == col(Gate.implementation_id))
                .join(Customer, col(Customer.id) == col(Implementation.customer_id))
                .where(
                    col(Customer.name) == customer,
                    col(Gate.status) == "open",
                    col(Gate.run_id).is_not(None),
                )
                .limit(1)
            )

    step = await leading.waits("its first step is open, and its run waits", open_step)
    leading.says(
        f"Open {leading.ui}/runs/flow-run/{step.run_id}",
        f"click [bold]Resume[/]: {step.title} is [bold]done[/], say what shows it, and your name.",
    )

    async def answered() -> Gate | None:
        async with leading.store.read() as session:
            row = await session.get_one(Gate, step.id)
        return row if row.status == "done" else None

    done = await leading.waits("you have answered", answered)
    leading.says(
        f"Done by {done.done_by}: {done.evidence}. The next steps are open; the graph shows all:",
        f"  {leading.ui}/runs/flow-run/{project}?tab=Graph",
        "It stays waiting until that customer is live. `implementation-abandon` ends it.",
    )


def _some(leading: Tour) -> Callable[[], Awaitable[list[tuple[Connection, str]] | None]]:
    async def some() -> list[tuple[Connection, str]] | None:
        return await leading.healthy() or None

    return some


async def _until(question: Callable[[], Awaitable[T | None]]) -> T:
    """The first answer that is not None, asked for as long as it takes."""
    while True:
        answer = await question()
        if answer is not None:
            return answer
        await asyncio.sleep(LOOK_SECONDS)


CHAPTERS = {"login": _login, "outage": _outage, "webhook": _webhook, "step": _step}
