"""`prefect.yaml` is read as Prefect itself reads it, and `linekeeper deploy` seeds it once."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate, WorkPoolCreate
from prefect.client.schemas.schedules import RRuleSchedule

from linekeeper.refusal import UserError
from linekeeper.settings import Settings
from tasks.prefect_adapter import project
from tasks.prefect_adapter.deployments import upsert
from tasks.prefect_adapter.server import prefect_at
from tests.fixtures_prefect import PrefectServer

ENTRY: dict[str, Any] = {
    "name": "doctor",
    "entrypoint": "flows/doctor.py:doctor",
    "description": "For {{ prefect.variables.team }}, {{ $PLACE }}.",
    "tags": ["{{ prefect.variables.team }}"],
    "version": "7.1",
    "concurrency_limit": {"limit": 2, "collision_strategy": "CANCEL_NEW"},
    "schedules": [
        {"rrule": "FREQ=WEEKLY;BYDAY=MO", "timezone": "Europe/Berlin", "slug": "mondays"},
        {"interval": "PT2H"},
    ],
    "triggers": [
        {
            "name": "on a login lost",
            "expect": ["linekeeper.connection.reauthorization_required"],
            "parameters": {"test_message": "{{ event.resource.id }}"},
        }
    ],
    "work_pool": {"name": "linekeeper", "work_queue_name": "urgent", "job_variables": {"env": {}}},
}


def written(tmp_path: Path, **changes: Any) -> Path:
    """A `prefect.yaml` with one deployment, beside the project's flows."""
    (tmp_path / "flows").symlink_to(project.root() / "flows")
    file = tmp_path / "prefect.yaml"
    pull = [{"linekeeper.cli.checkout.enter": {}}]
    file.write_text(yaml.safe_dump({"pull": pull, "deployments": [ENTRY | changes]}))
    return file


async def test_everything_prefect_reads_is_deployed_and_differences_are_shown(
    clean_prefect: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "at home")
    file = written(tmp_path)
    with prefect_at(Settings(prefect_port=clean_prefect.port)):
        async with PrefectClient(clean_prefect.api_url) as client:
            await client.create_variable(VariableCreate(name="team", value="blue"))
            await client.create_work_pool(WorkPoolCreate(name="linekeeper", type="process"))
            [wanted] = await project.wanted_deployments(file, client=client)
            made = await upsert(client, None, wanted, reset=False, schedules_active=True)
            assert made.made
            found = await client.read_deployment_by_name("doctor/doctor")
            assert found.description == "For blue, at home."
            assert (found.tags, found.version) == (["blue"], "7.1")
            assert found.global_concurrency_limit is not None
            assert found.global_concurrency_limit.limit == 2
            kinds = {schedule.slug: type(schedule.schedule) for schedule in found.schedules}
            assert kinds["mondays"] is RRuleSchedule
            owned = await client.read_resource_related_automations(f"prefect.deployment.{found.id}")
            assert [automation.name for automation in owned] == ["on a login lost"]
            assert "{{ event.resource.id }}" in owned[0].model_dump_json()

            again = await upsert(client, found, wanted, reset=False, schedules_active=True)
            assert (again.changed, again.different) == ([], [])
            await client.delete_automation(owned[0].id)
            gone = await upsert(client, found, wanted, reset=False, schedules_active=True)
            assert gone.different == ["trigger on a login lost: none (prefect.yaml: has it)"]
            await upsert(client, found, wanted, reset=True, schedules_active=True)
            found = await client.read_deployment_by_name("doctor/doctor")
            back = await upsert(client, found, wanted, reset=False, schedules_active=True)
            assert back.different == []


async def test_the_version_is_the_commit_of_the_checkout(tmp_path: Path) -> None:
    fields = {name: value for name, value in ENTRY.items() if name != "version"}
    file = written(tmp_path)
    file.write_text(yaml.safe_dump({"deployments": [fields | {"description": "Checks."}]}))
    [wanted] = await project.wanted_deployments(file)
    assert wanted.version == project.commit_of(tmp_path)
    assert project.commit_of(project.root()).strip("+") != ""


async def test_a_file_that_prefect_would_refuse_is_refused_and_says_where(tmp_path: Path) -> None:
    file = written(tmp_path, schedules=[{"cron": "* * * * *", "interval": 60}])
    with pytest.raises(UserError, match="schedules"):
        await project.wanted_deployments(file)
