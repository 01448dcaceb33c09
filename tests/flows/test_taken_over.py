"""A run whose process is suspended for longer than its lease, and another run does its work."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import pytest
from prefect.client.schemas.objects import FlowRun, State
from sqlalchemy import delete, update
from sqlmodel import col

from flows.form import form
from flows.health_sweep import health_sweep
from linekeeper.clock import utcnow
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Lease
from tasks.ending import TakenOver
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_terminated import environment
from tests.newest_runs import newest_runs

RUN = "import asyncio; from flows.health_sweep import health_sweep as f; asyncio.run(f())"
pytestmark = on_both
SWEEP = col(Lease.name) == "health-sweep"


class Silent:
    """A Makini that takes connections and never answers."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.url = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.is_asked.set()
        await reader.read()
        writer.close()


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    makini = Silent()
    server = await asyncio.start_server(makini.take, "127.0.0.1", 0)
    makini.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield makini
    server.close()


async def suspended_sweep(
    running: Running, settings: Settings, silent: Silent
) -> asyncio.subprocess.Process:
    """A sweep that has begun, in a process of its own, and stands still."""
    managed = settings.model_copy(update={"makini_api_url": silent.url})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN),
        env={**os.environ, **environment(managed, running.client)},
    )
    async with asyncio.timeout(180):
        await silent.is_asked.wait()
    process.send_signal(signal.SIGSTOP)
    return process


async def ended(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGCONT)
    async with asyncio.timeout(300):
        await process.wait()


async def runs(running: Running, began: datetime) -> Sequence[FlowRun]:
    """Those since `began`, the first one first."""
    found = await newest_runs(running.client)
    since = [run for run in found if run.created is not None and run.created >= began]
    return sorted(since, key=lambda run: run.created or began)


async def test_a_sweep_that_was_suspended_says_which_run_took_over_and_is_not_red(
    running: Running,
    clean_prefect: PrefectServer,
    settings: Settings,
    store: Store,
    silent: Silent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = utcnow()
    process = await suspended_sweep(running, settings, silent)
    async with store.write() as session:  # as if its time had passed
        await session.execute(update(Lease).where(SWEEP).values(until=utcnow()))
    other_makini = settings.model_copy(update={"makini_api_url": "http://127.0.0.1:1"})
    with monkeypatch.context() as patch, on(clean_prefect):
        for name, value in environment(other_makini, running.client).items():
            if name.startswith("LINEKEEPER_"):
                patch.setenv(name, value)
        await health_sweep(return_state=True)
    await ended(process)
    first, second = await runs(running, began)
    assert first.state is not None
    assert (first.state.name, first.name) == ("Skipped", "sweep · taken over")
    message = first.state.message or ""
    assert f"The run {second.name!r} ({second.id})" in message
    assert "Nothing is lost" in message


@pytest.mark.repeats(
    "flows/test_taken_over.py::test_a_sweep_that_was_suspended_says_which_run_took_over_and_is_not_red",
    "flows/test_taken_over.py::test_work_that_nobody_took_over_is_red_and_says_what_to_do",
)
async def test_a_sweep_that_lost_its_lease_to_nobody_is_red_and_says_what_to_do(
    running: Running, settings: Settings, store: Store, silent: Silent
) -> None:
    began = utcnow()
    process = await suspended_sweep(running, settings, silent)
    async with store.write() as session:
        await session.execute(delete(Lease).where(SWEEP))
    await ended(process)
    [only] = await runs(running, began)
    assert only.state is not None
    assert only.state.name == "Failed"
    assert "Nobody has taken over: run it again" in (only.state.message or "")
    assert "LeaseLost" not in (only.state.message or "")


@pytest.mark.usefixtures("engine")
async def test_work_that_nobody_took_over_is_red_and_says_what_to_do() -> None:
    async def stood_still() -> State[None]:
        raise TakenOver(by=None)

    state = await form(stood_still)()
    assert state.name == "Failed"
    assert "Nobody has taken over: run it again" in (state.message or "")
