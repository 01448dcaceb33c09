"""What must come by is noted when it was done, so that it is missed once its schedule is off."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlmodel import col, select

from flows.advance_implementations import advance_implementations
from flows.housekeeping import housekeeping
from flows.preflight import preflight
from flows.process_webhooks import process_webhooks
from flows.refresh_tokens import refresh_tokens
from linekeeper.store import Store
from linekeeper.store.tables import PartHeartbeat
from linekeeper.watch.work import WORK
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import on, on_both

pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]
FLOWS: dict[str, Callable[..., Awaitable[Any]]] = {
    "advance-implementations": advance_implementations,
    "housekeeping": housekeeping,
    "preflight": preflight,
    "process-webhooks": process_webhooks,
    "refresh-tokens": refresh_tokens,
}


async def noted(store: Store) -> set[str]:
    async with store.read() as session:
        return set(await session.scalars(select(col(PartHeartbeat.kind))))


@pytest.mark.parametrize("work", sorted(FLOWS))
@pytest.mark.usefixtures("running")
async def test_a_run_that_did_its_work_says_so(
    clean_prefect: PrefectServer, store: Store, work: str
) -> None:
    assert work in WORK
    assert work not in await noted(store)
    with on(clean_prefect):
        if work == "housekeeping":
            await FLOWS[work](dry_run=True, return_state=True)
            assert work not in await noted(store)
        await FLOWS[work](return_state=True)
    assert work in await noted(store)
