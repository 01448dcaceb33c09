"""Flows run here as Prefect runs them, on a real server, against a store of their own."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun

from linekeeper.settings import Settings
from tasks.authentication_setup import verify_token
from tasks.health import list_connections, probe_connections
from tasks.notify import notify
from tasks.prefect_adapter.server import prefect_at
from tasks.refresh_tokens import renew_tokens
from tasks.workflow_configuration import first_read
from tests.fixtures_prefect import PrefectServer
from tests.newest_runs import newest_runs

on_both = pytest.mark.parametrize(
    "engine",
    ["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)],
    indirect=True,
    scope="session",
)
"""On both databases, the second in `make soak`: what these flows call is tested on both anyway."""

STEPS = (verify_token, first_read, list_connections, probe_connections, renew_tokens, notify)


def as_shown(artifact: dict[str, Any]) -> str:
    """An artifact as Prefect shows it: its description, then its text."""
    return f"{artifact['description']}\n\n{artifact['data']}"


class Running:
    """A place to run flows in, and to look at what became of them."""

    def __init__(self, client: PrefectClient, server: PrefectServer) -> None:
        self.client = client
        self.server = server

    async def last(self) -> FlowRun:
        """The run started last."""
        runs = await newest_runs(self.client)
        return max(runs, key=lambda run: run.created or datetime.min.replace(tzinfo=UTC))

    async def probe_tries(self) -> list[int]:
        """How often each batch of the last sweep was tried, once Prefect has noted their ends."""
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[(await self.last()).id]))
        async with asyncio.timeout(60):
            while True:
                tasks = await self.client.read_task_runs(flow_run_filter=of_run)
                batches = [task for task in tasks if task.name.startswith("probe ")]
                if batches and all(task.state and task.state.is_final() for task in batches):
                    return [task.run_count for task in batches]
                await asyncio.sleep(0.1)

    async def artifact(self, key: str) -> str:
        """The latest artifact `key`, as Prefect shows it: its description above its text."""
        answer = await self.client.request("GET", f"/artifacts/{key}/latest")
        return as_shown(answer.json())


@pytest.fixture
async def running(
    clean_prefect: PrefectServer,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncIterator[Running]:
    """The environment of a worker's run: ours leads to the store, Prefect's to the server.

    Prefect leaves a socket open for every flow it runs (its look for a result storage), which
    goes with a run's process; here it has to go with the test.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINEKEEPER_HOME", str(settings.home))
    monkeypatch.setenv("LINEKEEPER_DATABASE_URL", settings.resolved_database_url)
    key = settings.encryption_keys[0].get_secret_value()
    monkeypatch.setenv("LINEKEEPER_ENCRYPTION_KEYS", key)
    monkeypatch.setenv("LINEKEEPER_PREFECT_PORT", str(clean_prefect.port))
    async with PrefectClient(clean_prefect.api_url) as client:
        yield Running(client, clean_prefect)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    gc.freeze()  # what is left lives as long as the process: the next collection skips it


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds between its tries waits for none."""
    for step in STEPS:
        monkeypatch.setattr(step, "retry_delay_seconds", [0.0])


@contextmanager
def on(server: PrefectServer) -> Iterator[None]:
    """Flows called inside run on `server`."""
    with prefect_at(Settings(prefect_port=server.port)):
        yield
