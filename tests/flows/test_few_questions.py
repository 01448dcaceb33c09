"""A run asks Prefect once for what it needs several times, and not for what can't be there."""

from collections import Counter
from typing import Any

import httpx
import pytest
from prefect.client.base import PrefectHttpxAsyncClient

import sandbox
from flows.health_sweep import health_sweep
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_reconnect_flows import fleet

__all__ = ["fleet"]
pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]


async def test_a_sweep_asks_once_which_forms_there_are_and_not_what_it_listed_before_it_began(
    running: Running,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: Counter[str] = Counter()
    send = PrefectHttpxAsyncClient.send

    async def counted(client: Any, request: httpx.Request, *given: Any, **how: Any) -> Any:
        if "/deployments/" in request.url.path:
            asked["deployments"] += 1
        elif request.url.path.endswith("/artifacts/filter") and b"flow_run_id" in request.content:
            asked["listed"] += b'"key":null' in request.content
        return await send(client, request, *given, **how)

    name = "check-connection"
    flow_id = await running.client.create_flow_from_name(name)
    form = await running.client.create_deployment(flow_id, name, tags=["linekeeper"])
    fleet.world.change_credentials(next(iter(fleet.world.connections.values())))
    monkeypatch.setattr(PrefectHttpxAsyncClient, "send", counted)
    with on(clean_prefect):
        assert (await health_sweep(return_state=True)).is_failed()
    assert asked == {"deployments": 1}
    assert f"/deployments/deployment/{form}/run" in await running.artifact("fleet")
