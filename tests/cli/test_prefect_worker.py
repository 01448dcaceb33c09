"""Prefect's worker as `up` starts it: there once its pool is, and one process for each run."""

import asyncio
import sys
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate

from linekeeper.cli.prefect_worker import NICENESS
from tests.fixtures_prefect import PrefectServer

POOL = "a-pool-that-comes-later"
FLOW = """
import gc
from pathlib import Path
import psutil
from prefect import flow

@flow
def says_how_it_is_run():
    me = psutil.Process()
    Path({said!r}).write_text(
        f"{{me.nice()}} {{me.ppid()}} {{gc.isenabled()}} {{' '.join(me.cmdline())}}"
    )
"""


async def until_it_says(worker: asyncio.subprocess.Process, words: str) -> None:
    assert worker.stdout is not None
    async with asyncio.timeout(240):
        while words not in (line := (await worker.stdout.readline()).decode()):
            assert line, f"it ended without {words!r}"


AGAIN = pytest.mark.repeats(
    "cli/test_prefect_worker.py::test_a_worker_waits_for_its_pool_and_starts_one_process_for_a_run"
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("queue", "yields"), [pytest.param("urgent", 0, marks=AGAIN), ("routine", NICENESS)]
)
async def test_a_worker_waits_for_its_pool_and_starts_one_process_for_a_run(
    clean_prefect: PrefectServer, tmp_path: Path, queue: str, yields: int
) -> None:
    """And what can wait a moment yields to what handles webhooks."""
    said = tmp_path / "said"
    (tmp_path / "says.py").write_text(FLOW.format(said=str(said)))
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "linekeeper.cli.prefect_worker", "worker", "start"),
        *("--pool", POOL, "--type", "process", "--no-create-pool-if-not-found"),
        env={**clean_prefect.environment, "PREFECT_WORKER_QUERY_SECONDS": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with PrefectClient(clean_prefect.api_url) as client:
            await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
            await until_it_says(worker, "started!")
            deployment = await client.create_deployment(
                await client.create_flow_from_name("says-how-it-is-run"),
                "says",
                work_pool_name=POOL,
                path=str(tmp_path),
                entrypoint="says.py:says_how_it_is_run",
            )
            run = await client.create_flow_run_from_deployment(deployment, work_queue_name=queue)
            async with asyncio.timeout(240):
                while not (run.state and run.state.is_final()):
                    await asyncio.sleep(0.3)
                    run = await client.read_flow_run(run.id)
            assert run.state_name == "Completed", run.state
            nice, parent, collects, command = said.read_text().split(" ", 3)
            own = psutil.Process().nice()
            assert (int(nice), int(parent)) == (min(own + yields, 19), worker.pid)
            assert collects == "True"  # once all is imported
            assert command == f"{sys.executable} -m linekeeper.cli.flow_run"
            await client.delete_work_pool(POOL)
    finally:
        worker.terminate()
        await worker.communicate()
