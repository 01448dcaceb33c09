"""A run that is told to end while it holds what can't be got again."""

import asyncio
import os
import signal
import sys

import pytest
from prefect.client.orchestration import PrefectClient

from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.access.rotating import (
    Rotating,
    managed,
    pair_of,
    rotating,
    rotating_server,
    with_k1,
)
from tests.flows.conftest import Running

__all__ = ["managed", "rotating", "rotating_server"]  # fixtures

RUN = "import asyncio; from flows.refresh_tokens import refresh_tokens as f; asyncio.run(f())"


@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.soak), 3])
async def test_a_run_that_is_terminated_stores_the_pair_that_makini_rotated(
    running: Running, managed: Settings, rotating: Rotating, store: Store, times: int
) -> None:
    """However often it is told so."""
    async with with_k1(managed, rotating) as (_, identifier):
        pass
    rotating.may_answer.clear()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN),
        env={**os.environ, **environment(managed, running.client)},
    )
    await rotating.has_rotated()
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
    rotating.may_answer.set()
    await process.wait()
    pair = await pair_of(store, identifier)
    assert pair is not None
    assert pair.refresh == f"r{rotating.number}"
    state = (await running.last()).state
    assert state is not None
    assert state.is_crashed()


def environment(managed: Settings, client: PrefectClient) -> dict[str, str]:
    """What a worker gives a run."""
    return {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PREFECT_API_URL": str(client.api_url),
        "LINEKEEPER_MAKINI_API_URL": str(managed.makini_api_url),
        "LINEKEEPER_MAKINI_CLIENT_ID": "client",
        "LINEKEEPER_MAKINI_CLIENT_SECRET": "secret",
        "LINEKEEPER_MAKINI_MODE": "manage",
        "LINEKEEPER_MAKINI_PER_MINUTE": "0",
    }
