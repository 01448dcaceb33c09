"""A run that crashed and goes on, as those do that wait for people, is in trouble no more."""

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Completed, Crashed, Failed, Running, Scheduled, Suspended

from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.watch.alerts import Alert, Kind, record_alert, reported, settle_reported
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.cli.few import few
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import on_both
from tests.watch.test_alerts import age, deploy_quietly, incidents

__all__ = ["few"]


@on_both
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("kind", "broke", "ended"),
    [
        ("run_crashed", Crashed(), Suspended(timeout_seconds=86_400)),
        ("run_crashed", Crashed(), Completed(name="Live")),
        ("run_crashed", Crashed(), Failed(message="given up")),
        ("run_failed", Failed(), Completed()),
    ],
)
async def test_a_run_that_crashed_and_went_on_is_in_trouble_until_it_waits_again_or_ends(
    clean_prefect: PrefectServer,
    settings: Settings,
    store: Store,
    kind: Kind,
    broke: State[None],
    ended: State[None],
) -> None:
    settings = settings.model_copy(
        update={"prefect_port": clean_prefect.port, "makini_api_url": "http://127.0.0.1:9"}
    )
    async with (
        PrefectClient(clean_prefect.api_url) as client,
        PrefectOrchestrator.open(settings) as orchestrator,
    ):
        await deploy_quietly(settings)
        deployment = await client.read_deployment_by_name("digest/digest")
        before, run = [
            await client.create_flow_run_from_deployment(deployment.id) for _ in range(2)
        ]

        async def settled_with(state: State[None]) -> str:
            await client.set_flow_run_state(run.id, state, force=True)
            alerts = await reported(store)
            sight = await orchestrator.look(alerts)
            await settle_reported(
                store,
                alerts,
                states=sight.runs,
                finished=sight.finished,
                went_on=sight.went_on,
                pool_ready=sight.pool_ready,
                late=sight.late,
            )
            return (await incidents(store))[kind]

        await client.set_flow_run_state(before.id, Completed(), force=True)
        await record_alert(store, Alert(kind, "digest", str(run.id)))
        await age(store, minutes=2)
        assert await settled_with(broke) == "open"
        assert await settled_with(Scheduled()) == "open", "what did its work before is no cure"
        assert await settled_with(Running()) == "open"
        assert await settled_with(ended) == "resolved"
