"""The sign of life: sent after a sweep that did its work, kept back after one that could not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from aiohttp import web

from flows.health_sweep import health_sweep
from sandbox import Settings as SandboxSettings
from sandbox import serving
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both

pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]


@pytest.fixture
async def watcher() -> AsyncIterator[tuple[str, list[str]]]:
    """Whoever notices when the signs of life stay away: its URL, and what came.

    What it answers has no end, as a stream of events has none.
    """
    came: list[str] = []

    async def take(request: web.Request) -> web.StreamResponse:
        came.append(request.path)
        answer = web.StreamResponse()
        await answer.prepare(request)
        with suppress(ConnectionError):
            while True:
                await answer.write(b"data: well\n\n")
                await asyncio.sleep(0.1)
        return answer

    app = web.Application()
    app.router.add_get("/ping/linekeeper", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/ping/linekeeper", came
    await runner.cleanup()


async def test_a_good_sweep_is_told_to_the_watcher_and_one_without_its_list_is_not(
    running: Running,
    clean_prefect: PrefectServer,
    watcher: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, came = watcher
    monkeypatch.setenv("LINEKEEPER_HEARTBEAT_URL", url)
    box = SandboxSettings(port=0, connections=2, records_per_connection=0)
    async with serving(box) as sandbox:
        for name, value in (
            ("API_URL", sandbox.url),
            ("CLIENT_ID", box.client_id),
            ("CLIENT_SECRET", box.client_secret),
            ("PER_MINUTE", "0"),
        ):
            monkeypatch.setenv(f"LINEKEEPER_MAKINI_{name}", value)
        with on(clean_prefect):
            good = await health_sweep(return_state=True)
    assert good.is_completed(), good.message
    assert came == ["/ping/linekeeper"]
    monkeypatch.setattr("tasks.health.list_connections.retries", 0)
    with on(clean_prefect):
        blind = await health_sweep(return_state=True)
    assert blind.is_failed()
    assert came == ["/ping/linekeeper"]
