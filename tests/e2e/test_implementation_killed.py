"""Server, worker and consumer are killed at each gate; the implementation goes live all the same.

Twice at each, all three at once: while it waits, and when what it waits for has just happened, at
whatever their runs are then. A run that lost its process goes on by itself (`lost_runs`).
"""

import html
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import date, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil
import pytest
from prefect.client.schemas.objects import FlowRun, WorkPoolStatus
from sqlmodel import col, select

from linekeeper.store.tables import Audit, Connection, Gate, Implementation, Outbox
from tests.e2e.conftest import House, living, until
from tests.e2e.test_implementation import artifact, gates, rows
from tests.newest_runs import newest_runs

pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.timeout(14_400)]
PATIENCE = 3_000
"""Seconds until a run that lost its process has gone on, on a busy machine, more than once."""
SLUG = "granite-tools-upkeep"
PARTS = {
    "Prefect server": "linekeeper.cli.prefect_server",
    "worker": "worker start",
    "consumer": "linekeeper.cli consumer",
}


def processes(house: House) -> dict[str, psutil.Process]:
    """The processes of the three parts, as far as they run."""
    found = {}
    for child in psutil.Process(house.process.pid).children():
        with suppress(psutil.Error):  # it was just killed
            line = " ".join(child.cmdline())
            found |= {name: child for name, mark in PARTS.items() if mark in line}
    return found


def kill(house: House, *names: str) -> list[psutil.Process]:
    """`kill -9` of these parts, as far as they run; returns what was killed."""
    killed = [process for name, process in processes(house).items() if name in names]
    for process in killed:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    return killed


async def come_back(house: House, killed: list[psutil.Process]) -> None:
    """Wait until others have taken the places of what was killed."""

    async def others_are_there() -> bool:
        there = processes(house)
        if set(there) != set(PARTS) or any(process in killed for process in there.values()):
            return False
        try:
            answer = await house.http.get(f"{house.url('prefect')}/api/health")
            async with house.prefect() as client:
                pool = await client.read_work_pool("linekeeper")
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and pool.status is WorkPoolStatus.READY

    await until(others_are_there, what="the three parts to be back", seconds=400)


async def graph(house: House, run_id: Any) -> tuple[list[str], set[tuple[str, str]]]:
    """The labels of a run's graph, and its edges."""
    async with house.prefect() as client:
        answer = await client.request("GET", f"/flow_runs/{run_id}/graph-v2")
    nodes = [node for _, node in answer.json()["nodes"]]
    names = {node["id"]: node["label"] for node in nodes}
    return sorted(names.values()), {
        (names[parent["id"]], node["label"]) for node in nodes for parent in node["parents"]
    }


async def one_waits(house: House, beginning: str, end: str = "") -> FlowRun:
    """The suspended run whose name begins, and ends, so and says what it waits for."""

    async def suspended() -> FlowRun | None:
        for run in await house.runs(state="Suspended"):
            if run.name.startswith(beginning) and run.name.endswith(end):
                return run
        return None

    what = f"{beginning}{end} to wait"
    found: FlowRun = await until(suspended, what=what, seconds=PATIENCE)
    return found


async def form(house: House, title: str) -> FlowRun:
    """The form of a gate, waiting."""
    return await one_waits(house, "Granite Tools", f"· {title}")


async def resume(house: House, run: FlowRun, **answer: Any) -> None:
    async with house.prefect() as client:
        await client.resume_flow_run(run.id, run_input={"by": "Petra", **answer})


async def log_in(house: House) -> None:
    """The customer goes the way of the link that operators pass on."""
    page = await artifact_that_begins(house, "connect-link-")
    [link] = re.findall(r"\((http[^)]+)\)", page)
    shown = await house.http.get(link)
    [href] = re.findall(r'<a class="go" href="([^"]+)"', shown.text)
    asked = {k: v[0] for k, v in parse_qs(urlsplit(html.unescape(href)).query).items()}
    form = {"connection": "new:upkeep", "username": "pat", "password": "right"}
    answer = await house.http.post(
        f"{house.url('sandbox')}/oauth/authorize", data={**asked, **form, "answer": "approve"}
    )
    done = await house.http.get(answer.headers["location"])
    assert "Done" in done.text


async def artifact_that_begins(house: House, beginning: str) -> str:
    async with house.prefect() as client:
        keys = [found.key for found in await client.read_artifacts()]
    [key] = {key for key in keys if key and key.startswith(beginning)}
    return await artifact(house, key)


async def is_done(house: House, gate: str) -> None:
    async def done() -> bool:
        return (await gates(house, SLUG))[gate].status == "done"

    await until(done, what=f"the gate {gate} to be done", seconds=PATIENCE)


async def nothing() -> None:
    """Linekeeper moves on by itself."""


async def say_where_all_is(house: House) -> None:
    """Print the runs with their states, and the gates: what a wait in vain is explained by."""
    async with house.prefect() as client:
        for run in await newest_runs(client):
            since = run.state.timestamp if run.state else None
            print(f"run {run.name}: {run.state_name} since {since}", flush=True)
    for key, gate in (await gates(house, SLUG)).items():
        print(f"gate {key}: {gate.status}", flush=True)


async def test_killed_at_each_gate_it_goes_live_in_one_run_and_nothing_is_done_twice() -> None:
    async with living(connections=2, PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30") as house:
        run = await house.trigger(
            "implementation",
            customer="Granite Tools",
            systems=[{"name": "UpKeep"}],
            kickoff=date.today().isoformat(),  # noqa: DTZ011  the form's own idea of a day
            committed=(date.today() + timedelta(days=21)).isoformat(),  # noqa: DTZ011
            owner="Petra Ops",
            by="Olaf",
        )
        assert run.state is not None
        assert run.state.name == "Suspended", run.state.message
        drawn = await graph(house, run.id)
        titles = sorted(gate.title for gate in (await gates(house, SLUG)).values())
        assert drawn[0] == titles

        async def by_form(title: str) -> None:
            await resume(house, await form(house, title), outcome="done", evidence="a ticket")

        async def configured() -> None:
            asked = await one_waits(house, "configure · ")
            await resume(house, asked, entities=["eam/assets"])

        async def announced() -> None:
            [connection] = await rows(
                house, select(Connection).order_by(col(Connection.created_at).desc()).limit(1)
            )
            await house.control("records", connection=connection.makini_key, change=3)

        async def reconciled() -> None:
            await house.start("reconcile", connections=["Granite Tools · UpKeep"])

        walk: list[tuple[str, Callable[[], Awaitable[Any]], Callable[[], Awaitable[None]]]] = [
            (
                "kickoff",
                lambda: form(house, "Kickoff and technical requirements"),
                lambda: by_form("Kickoff and technical requirements"),
            ),
            (
                "authentication-1",
                lambda: one_waits(house, "authentication · Granite Tools"),
                lambda: log_in(house),
            ),
            # What Linekeeper settles by itself, killed while it does so.
            ("credits", nothing, nothing),
            ("first-sync-1", nothing, nothing),
            ("workflow-configuration-1", lambda: one_waits(house, "configure · "), configured),
            ("webhooks-1", lambda: one_waits(house, "configure · "), announced),
            ("reconciliation-1", lambda: is_done(house, "webhooks-1"), reconciled),
            (
                "validation",
                lambda: form(house, "Validation with the customer"),
                lambda: by_form("Validation with the customer"),
            ),
            ("go-live", lambda: form(house, "Go-live"), lambda: by_form("Go-live")),
        ]
        assert {gate for gate, _, _ in walk} == set(await gates(house, SLUG))
        for gate, waits, happens in walk:
            try:
                await waits()
                print(f"{gate} waits", flush=True)
                await come_back(house, kill(house, *PARTS))
                await waits()
                await happens()
                print(f"{gate} happened", flush=True)
                await come_back(house, kill(house, *PARTS))
                await is_done(house, gate)
            except TimeoutError:
                await say_where_all_is(house)
                raise
            assert set((await graph(house, run.id))[0]) == set(titles)

        over = await house.ended(run.id, seconds=PATIENCE)
        assert over.state is not None
        assert over.state.name == "Live", over.state.message
        assert await graph(house, run.id) == drawn
        [implementation] = await rows(
            house, select(Implementation).where(col(Implementation.slug) == SLUG)
        )
        assert (implementation.run_id, implementation.run_attempt) == (str(run.id), 0)
        audited = await rows(house, select(Audit).where(col(Audit.action) == "gate.done"))
        assert set(Counter(entry.detail["gate"] for entry in audited).values()) == {1}
        assert {gate.attempt for gate in await rows(house, select(Gate))} <= {0, 1}
        dead = await rows(house, select(Outbox).where(col(Outbox.status) == "dead"))
        assert [row.error for row in dead] == []
