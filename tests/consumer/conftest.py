"""Prefect as the consumer meets it: a real server with our deployments, and one that is away."""

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.client.orchestration import PrefectClient
from rich.console import Console

from linekeeper.cli.deploy import deploy
from linekeeper.cli.orchestrator import PrefectOrchestrator
from linekeeper.settings import Settings
from tests.fixtures_prefect import PrefectServer


@dataclass(frozen=True, slots=True)
class Prefect:
    """Our orchestrator, and a client of one's own to look and to change things with."""

    settings: Settings
    orchestrator: PrefectOrchestrator
    client: PrefectClient


@pytest.fixture
async def prefect(clean_prefect: PrefectServer, tmp_path: Path) -> AsyncIterator[Prefect]:
    """A server with our deployments, schedules paused, and the block of one app."""
    settings = Settings(
        home=tmp_path / "prefect-home",
        prefect_port=clean_prefect.port,
        makini_api_url="http://127.0.0.1:9",
    )
    await deploy(settings, reset=False, console=Console(file=io.StringIO()), schedules_active=False)
    async with (
        PrefectOrchestrator.open(settings) as orchestrator,
        PrefectClient(clean_prefect.api_url) as client,
    ):
        yield Prefect(settings, orchestrator, client)


@pytest.fixture
async def nobody(tmp_path: Path) -> AsyncIterator[PrefectOrchestrator]:
    """An orchestrator whose Prefect is away."""
    async with PrefectOrchestrator.open(Settings(home=tmp_path, prefect_port=1)) as orchestrator:
        yield orchestrator
