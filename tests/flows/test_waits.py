"""A run by hand that has to wait for another one says so, in its name and its log."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

from flows.process_webhooks import process_webhooks
from linekeeper.store import Store
from linekeeper.store.leases import holding
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.newest_runs import newest_runs

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    on_both,
]


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Until it is so: the server records names and logs a little later."""
    async with asyncio.timeout(90):
        while not await is_so():
            await asyncio.sleep(0.2)


async def test_a_run_that_waits_for_a_lease_says_so_and_goes_on_when_it_is_free(
    running: Running, clean_prefect: PrefectServer, store: Store
) -> None:
    with on(clean_prefect):
        async with holding(store, "process-webhooks", "another worker", wait=False) as held:
            assert held is not None
            waiting = asyncio.create_task(process_webhooks(return_state=True))

            async def named() -> bool:
                runs = await newest_runs(running.client)
                return "webhooks · waits for another run" in {run.name for run in runs}

            await until(named)
        state = await waiting
        run = await running.last()
        assert (state.name, run.name) == ("Completed", "webhooks · all applied")

        async def logged() -> bool:
            ours = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
            logs = await running.client.read_logs(log_filter=ours)
            return any("holds the lease process-webhooks" in log.message for log in logs)

        await until(logged)
