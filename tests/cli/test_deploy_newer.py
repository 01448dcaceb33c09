"""`linekeeper deploy` of a newer version: what nobody changed follows it, an operator's stays."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import PrefectHTTPStatusError

from linekeeper.settings import Settings
from tasks.prefect_adapter import project
from tasks.prefect_adapter.deployed import RECORD
from tests.cli.few import few
from tests.cli.test_deploy import SWEEP, deployed, seeds
from tests.fixtures_prefect import PrefectServer

__all__ = ["few", "seeds"]
pytestmark = pytest.mark.usefixtures("few")
HOUSE, RECONCILE = "housekeeping/housekeeping", "reconcile/reconcile"


def every(minutes: int, slug: str) -> DeploymentScheduleCreate:
    interval = IntervalSchedule(interval=timedelta(minutes=minutes))
    return DeploymentScheduleCreate(schedule=interval, slug=slug)


@contextmanager
def shipping(name: str, **changes: Any) -> Iterator[None]:
    """A version whose `prefect.yaml` says `changes` of the deployment `name`."""
    read = project.wanted_deployments

    async def wanted(*given: Any, **more: Any) -> list[project.Wanted]:
        return [
            replace(one, **changes) if one.name == name else one
            for one in await read(*given, **more)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project, "wanted_deployments", wanted)
        yield


async def test_a_new_tag_parameter_and_schedule_arrive_where_nobody_changed_anything(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    schedules = [every(4, "every-5-minutes"), every(60, "hourly")]
    with shipping("health-sweep", schedules=[every(5, "every-5-minutes"), every(9, "old")]):
        await deployed(seeds)
    new = {"tags": ["linekeeper", "new"], "description": "New.", "schedules": schedules}
    with shipping("health-sweep", **new):
        lines = await deployed(seeds)
        assert "deployment health-sweep: updated schedules" in lines
        assert not [line for line in lines if line.startswith("left ")]
        again = await deployed(seeds)
    assert len(again) == 1, again
    async with PrefectClient(clean_prefect.api_url) as client:
        sweep = await client.read_deployment_by_name(SWEEP)
    assert (sorted(sweep.tags), sweep.description) == (["linekeeper", "new"], "New.")
    assert {one.slug: one.schedule.interval for one in sweep.schedules} == {
        "every-5-minutes": timedelta(minutes=4),
        "hourly": timedelta(minutes=60),
    }


@pytest.mark.repeats(
    "cli/test_deploy.py::test_what_an_operator_set_stays_is_shown_and_reset_puts_it_back",
    "cli/test_deploy_newer.py::test_a_new_tag_parameter_and_schedule_arrive_where_nobody_changed_anything",
)
async def test_what_an_operator_changed_or_deleted_stays_over_a_newer_version(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    first = [every(5, "kept"), every(9, "deleted"), every(7, "gone")]
    with shipping("health-sweep", schedules=first):
        await deployed(seeds)
    async with PrefectClient(clean_prefect.api_url) as client:
        sweep = await client.read_deployment_by_name(SWEEP)
        of = {one.slug: one.id for one in sweep.schedules}
        await client.update_deployment_schedule(sweep.id, of["kept"], active=False)
        await client.update_deployment_schedule(sweep.id, of["gone"], active=False)
        await client.delete_deployment_schedule(sweep.id, of["deleted"])
        await client.update_deployment(sweep.id, DeploymentUpdate(tags=["mine"]))
        second = [every(6, "kept"), every(8, "deleted")]
        with shipping("health-sweep", schedules=second, tags=["linekeeper", "new"]):
            for _ in range(2):
                lines = await deployed(seeds)
                assert [line for line in lines if line.startswith("left ")] == [
                    "left deployment health-sweep: tags: ['mine'] "
                    "(prefect.yaml: ['linekeeper', 'new'])",
                    "left deployment health-sweep: schedule kept: every 5 min, paused "
                    "(prefect.yaml: every 6 min)",
                    "left deployment health-sweep: schedule gone: every 7 min, paused "
                    "(prefect.yaml: none)",
                    "left deployment health-sweep: schedule deleted: none "
                    "(prefect.yaml: every 8 min)",
                ]
            await deployed(seeds, reset=True)
        sweep = await client.read_deployment_by_name(SWEEP)
        assert {one.slug: one.schedule.interval for one in sweep.schedules} == {
            "kept": timedelta(minutes=6),
            "deleted": timedelta(minutes=8),
        }
        assert sorted(sweep.tags) == ["linekeeper", "new"]


@pytest.mark.repeats(
    "cli/test_deploy_newer.py::test_a_new_tag_parameter_and_schedule_arrive_where_nobody_changed_anything",
    "cli/test_deploy.py::test_what_an_operator_set_stays_is_shown_and_reset_puts_it_back",
    "cli/test_deploy.py::test_code_follows_the_checkout_and_what_is_gone_from_it_goes_but_for_an_operators_own",
)
async def test_what_0_1_deployed_gets_what_is_new_and_keeps_what_an_operator_set(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    """0.1 noted nothing: what it shipped is known."""
    await deployed(seeds)
    async with PrefectClient(clean_prefect.api_url) as client:
        for name in (HOUSE, RECONCILE, SWEEP):
            one = await client.read_deployment_by_name(name)
            schema = dict(one.parameter_openapi_schema or {})
            del schema[RECORD]
            tags = [tag for tag in one.tags if tag != "internal"]
            if name == SWEEP:
                tags = ["linekeeper", "theirs"]
            await client.update_deployment(
                one.id,
                DeploymentUpdate(
                    tags=tags,
                    parameter_openapi_schema=schema,
                    version="0.1.0",
                    description="What 0.1 said.",
                ),
            )
            for schedule in one.schedules:
                if schedule.slug == "in-between":
                    await client.delete_deployment_schedule(one.id, schedule.id)
        for name in ("reconcile-connection", "implementation-update", "test-alert"):
            flow = await client.create_flow_from_name(name)
            await client.create_deployment(flow, name, entrypoint=f"flows/{name}.py:{name}")
        lines = await deployed(seeds)
        assert [line for line in lines if line.startswith("left ")] == [
            "left deployment health-sweep: tags: ['linekeeper', 'theirs'] "
            "(prefect.yaml: ['health', 'linekeeper'])"
        ]
        assert "internal" in (await client.read_deployment_by_name(HOUSE)).tags
        reconcile = await client.read_deployment_by_name(RECONCILE)
        assert {one.slug for one in reconcile.schedules} == {"every-15-minutes", "in-between"}
        assert reconcile.description != "What 0.1 said."
        left = {one.name for one in await client.read_deployments()}
        assert not left & {"reconcile-connection", "implementation-update", "test-alert"}


@pytest.mark.repeats(
    "cli/test_deploy.py::test_what_an_operator_set_stays_is_shown_and_reset_puts_it_back"
)
async def test_what_an_operator_took_away_after_prefect_deploy_stays_away(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    """`prefect deploy --all` notes nothing, and says the commit in eight characters."""
    await deployed(seeds)
    async with PrefectClient(clean_prefect.api_url) as client:
        reconcile = await client.read_deployment_by_name(RECONCILE)
        house = await client.read_deployment_by_name(HOUSE)

        async def noted_nothing() -> None:
            for one in (reconcile, house):
                schema = dict(one.parameter_openapi_schema or {})
                del schema[RECORD]
                said = f"{one.description}\n"
                update = DeploymentUpdate(
                    parameter_openapi_schema=schema, version="583524f2", description=said
                )
                await client.update_deployment(one.id, update)

        await noted_nothing()
        assert not [line for line in await deployed(seeds) if line.startswith("left ")]
        await noted_nothing()
        in_between = next(one for one in reconcile.schedules if one.slug == "in-between")
        await client.delete_deployment_schedule(reconcile.id, in_between.id)
        await client.update_deployment(
            house.id, DeploymentUpdate(tags=["linekeeper", "house"], description="Ours.")
        )
        lines = [line.partition(" (")[0] for line in await deployed(seeds)]
        assert [line for line in lines if line.startswith("left ")] == [
            "left deployment housekeeping: tags: ['house', 'linekeeper']",
            "left deployment housekeeping: description: Ours.",
            "left deployment reconcile: schedule in-between: none",
        ]
        house = await client.read_deployment_by_name(HOUSE)
        assert (sorted(house.tags), house.description) == (["house", "linekeeper"], "Ours.")


async def test_a_form_takes_no_parameter_it_does_not_have(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    await deployed(seeds)
    async with PrefectClient(clean_prefect.api_url) as client:
        house = await client.read_deployment_by_name(HOUSE)
        with pytest.raises(PrefectHTTPStatusError, match="'run_dais' was unexpected") as refused:
            await client.create_flow_run_from_deployment(house.id, parameters={"run_dais": 3})
        assert refused.value.response.status_code == 409
        made = FlowRunFilterDeploymentId(any_=[house.id])
        assert await client.read_flow_runs(flow_run_filter=FlowRunFilter(deployment_id=made)) == []


async def test_a_default_that_a_newer_form_does_not_take_goes_and_the_others_stay(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    [wanted] = [one for one in await project.wanted_deployments() if one.name == "housekeeping"]
    schema = wanted.parameter_schema
    older = {**schema["properties"], "old_days": {"type": "integer"}, "run_days": {}}
    with shipping("housekeeping", parameter_schema={**schema, "properties": older}):
        await deployed(seeds)
    async with PrefectClient(clean_prefect.api_url) as client:
        house = await client.read_deployment_by_name(HOUSE)
        theirs = {"old_days": 3, "run_days": 0, "outbox_days": 3}
        await client.update_deployment(house.id, DeploymentUpdate(parameters=theirs))
        lines = await deployed(seeds)
        assert (await client.read_deployment(house.id)).parameters == {"outbox_days": 3}
    assert [line for line in lines if "dropped" in line] == [
        "deployment housekeeping: dropped the default old_days: "
        "Additional properties are not allowed ('old_days' was unexpected)",
        "deployment housekeeping: dropped the default run_days: 0 is less than the minimum of 1",
    ]
