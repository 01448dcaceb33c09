"""A workspace that is shared: with a prefix nothing of others is touched, and ours is found."""

from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate
from prefect.events.actions import DoNothing
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from pydantic import SecretStr, ValidationError

from blocks import MakiniApp
from linekeeper.orchestrator import RunRequest
from linekeeper.settings import Settings
from tasks.prefect_adapter import block_documents, names, project
from tasks.prefect_adapter import settings as prefect_settings
from tasks.prefect_adapter.examination import examine_prefect
from tasks.prefect_adapter.links import find_links
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tasks.prefect_adapter.sight import look
from tests.cli.test_deploy import deployed
from tests.fixtures_prefect import PrefectServer

DOCKER = Path(__file__).parents[2] / "deploy/work-pools/docker.json"


async def of_others(client: PrefectClient) -> None:
    """What another Linekeeper, or anybody, may have in the workspace."""
    flow_id = await client.create_flow_from_name("digest")
    await client.create_deployment(flow_id, "digest", description="theirs", tags=["linekeeper"])
    trigger = EventTrigger(expect={"theirs"}, posture=Posture.Reactive, threshold=1)
    await client.create_automation(
        AutomationCore(name="Linekeeper: run failed", trigger=trigger, actions=[DoNothing()])
    )
    await client.create_variable(VariableCreate(name="linekeeper_paused", value=True))
    await block_documents.register(client)
    theirs = MakiniApp(client_id="theirs", client_secret=SecretStr("x"))
    await theirs.save("default", client=client)


async def test_with_a_prefix_nothing_of_others_is_touched_and_ours_is_found(
    clean_prefect: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEKEEPER_PREFIX", "plant-b")
    monkeypatch.setattr(names, "PAGE", 7)  # whatever is listed has several pages
    settings = Settings(
        home=tmp_path,
        prefect_port=clean_prefect.port,
        makini_client_id="ours",
        makini_client_secret=SecretStr("s3cret"),
        work_pool_type="docker",
        work_pool_template=DOCKER,
    )
    async with PrefectClient(clean_prefect.api_url) as client:
        await of_others(client)
        lines = await deployed(settings)
        assert "made deployment digest" in lines
        assert "made automation plant-b-Linekeeper: run failed" in lines
        wanted = {deployment.name for deployment in await project.wanted_deployments()}

        theirs = await client.read_deployment_by_name("digest/digest")
        assert (theirs.description, theirs.tags) == ("theirs", ["linekeeper"])
        ours = await client.read_deployment_by_name("digest/plant-b-digest")
        assert "plant-b-linekeeper" in ours.tags
        found = await names.every(client.read_deployments)
        assert {one.name for one in found} == {"digest", *(f"plant-b-{name}" for name in wanted)}
        links = await find_links(client)
        assert set(links.deployments) == wanted
        assert links.deployments["digest"] == str(ours.id)

        [untouched] = await client.read_automations_by_name("Linekeeper: run failed")
        assert untouched.tags == []
        [automation] = await client.read_automations_by_name("plant-b-Linekeeper: run failed")
        assert "prefect.tag.plant-b-linekeeper" in automation.trigger.model_dump_json()

        paused = {variable.name: variable.value for variable in await client.read_variables()}
        assert paused == {"linekeeper_paused": True, "plant_b_linekeeper_paused": False}
        assert (await look(client)).paused is False
        [app] = (await block_documents.read(client)).apps
        assert (app.name, app.client_id) == ("default", "ours")
        set_here = await prefect_settings.look(client)
        assert set_here is not None
        assert set(set_here.deployments) == {f"plant-b-{name}" for name in wanted}
        assert set(set_here.variables) == {"plant_b_linekeeper_paused"}
        assert len(set_here.automations) == 4

        async with PrefectOrchestrator.open(settings) as orchestrator:
            run_id = await orchestrator.start_run(RunRequest("digest", idempotency_key="once"))
        assert (await client.read_flow_run(UUID(run_id))).deployment_id == ours.id
        findings = await examine_prefect(settings, seconds=30)
        assert f"all {len(wanted)} are there" in {finding.text for finding in findings}

        assert [
            line for line in await deployed(settings) if line.startswith(("made", "left"))
        ] == []


@pytest.mark.parametrize("prefix", ["Plant", "plant_b", "-b", "b-", "a b", "9"])
def test_a_prefix_that_prefect_would_refuse_is_refused(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEKEEPER_PREFIX", prefix)
    with pytest.raises(ValidationError):
        Settings()
