"""Prefect's worker as `linekeeper up` starts it: `python -m linekeeper.cli.prefect_worker …`.

It is `prefect worker start …` as soon as there are a server and its work pool, with one thing less.
For each run a process worker starts a process that prepares a workspace and finds out how the flow
is to be run, and only then the one that runs it; each imports all of Prefect. Our flows are where
this worker is installed, so the second (`linekeeper/cli/flow_run.py`) is started at once: a run
begins sooner, and costs a third less. A command that is set in the work pool, or on a deployment,
is run instead, as ever.

What can wait a moment (the queues in `YIELDING`) runs with a lower priority: a flow that starts
keeps a core busy for seconds, and webhooks come all the time.
"""

import asyncio
import shutil
import sys
import time
from typing import Any

import httpx

from linekeeper.garbage import importing

with importing():
    from prefect.cli import app
    from prefect.client.orchestration import get_client
    from prefect.client.schemas import FlowRun
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.utilities.processutils import command_to_string
    from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

POOL_SECONDS = 240.0
YIELDING = ("routine", "bulk")
NICENESS = 5


class AtOnce(ProcessJobConfiguration):
    """The run's own process, with this interpreter, and none before it."""

    def prepare_for_flow_run(self, flow_run: FlowRun, *given: Any, **kwargs: Any) -> None:
        """Fill in what depends on the run."""
        nice = shutil.which("nice") if flow_run.work_queue_name in YIELDING else None
        before = [nice, "-n", str(NICENESS)] if nice else []
        own = command_to_string([*before, sys.executable, "-m", "linekeeper.cli.flow_run"])
        self.command = self.command or own
        super().prepare_for_flow_run(flow_run, *given, **kwargs)


async def wait_for(pool: str) -> None:
    """Return once `pool` is there: a worker that finds none looks again after ten seconds only.

    It also returns after `POOL_SECONDS`; what is wrong Prefect says itself then.
    """
    ends = time.monotonic() + POOL_SECONDS
    async with get_client() as client:
        while time.monotonic() < ends:
            try:
                await client.read_work_pool(pool)
            except (ObjectNotFound, PrefectHTTPStatusError, httpx.RequestError):
                await asyncio.sleep(0.25)
            else:
                return


def main(pool: str) -> None:
    """Prefect's command line, with what it was given."""
    ProcessWorker.job_configuration = AtOnce
    asyncio.run(wait_for(pool))
    app()


if __name__ == "__main__":
    main(sys.argv[sys.argv.index("--pool") + 1])
