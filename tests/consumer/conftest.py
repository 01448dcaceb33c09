"""Prefect as the consumer meets it: a real server with our deployments, and one that is away."""

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.client.orchestration import PrefectClient
from rich.console import Console

from linekeeper.cli.deploy import deploy
from linekeeper.settings import Settings
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.fixtures_prefect import (
    DEPLOYED,
    PrefectServer,
    blocks_of,
    forget_blocks,
    forget_everything,
)


@dataclass(frozen=True, slots=True)
class Prefect:
    """Our orchestrator, and a client of one's own to look and to change things with."""

    settings: Settings
    orchestrator: PrefectOrchestrator
    client: PrefectClient


@pytest.fixture
async def prefect(prefect_server: PrefectServer, tmp_path: Path) -> AsyncIterator[Prefect]:
    """A server with our deployments, schedules paused, and the block of one app.

    Of what an earlier test here left, only the blocks are made anew, and its runs stay: nothing
    else of what is deployed is changed by these tests.
    """
    settings = Settings(
        home=tmp_path / "prefect-home",
        prefect_port=prefect_server.port,
        makini_api_url="http://127.0.0.1:9",
    )
    async with PrefectClient(prefect_server.api_url) as client:
        url = prefect_server.api_url
        if url not in DEPLOYED or DEPLOYED[url] != await blocks_of(client):
            if url in DEPLOYED:
                await forget_blocks(client)
            else:
                await forget_everything(prefect_server)
            console = Console(file=io.StringIO())
            await deploy(settings, reset=False, console=console, schedules_active=False)
            DEPLOYED[url] = await blocks_of(client)
        async with PrefectOrchestrator.open(settings) as orchestrator:
            yield Prefect(settings, orchestrator, client)


@pytest.fixture
async def nobody(tmp_path: Path) -> AsyncIterator[PrefectOrchestrator]:
    """An orchestrator whose Prefect is away."""
    async with PrefectOrchestrator.open(Settings(home=tmp_path, prefect_port=1)) as orchestrator:
        yield orchestrator
