"""`linekeeper deploy` against a real Prefect server: seeds, compares, never tramples."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.events.schemas.automations import AutomationCore
from pydantic import SecretStr
from rich.console import Console

from linekeeper.cli.deploy import deploy
from linekeeper.cli.guards import alone_in, is_up
from linekeeper.refusal import UserError
from linekeeper.settings import Settings
from tasks.prefect_adapter import project
from tasks.prefect_adapter.deployed import RECORD
from tests.cli.few import FEW, few
from tests.fixtures_prefect import PrefectServer

__all__ = ["few"]
SWEEP, DIGEST = "health-sweep/health-sweep", "digest/digest"


@pytest.fixture
def seeds(clean_prefect: PrefectServer, tmp_path: Path) -> Settings:
    """Settings that lead to the server and seed every block."""
    return Settings(
        home=tmp_path,
        prefect_port=clean_prefect.port,
        makini_api_url="http://127.0.0.1:9",
        makini_client_id="client",
        makini_client_secret=SecretStr("s3cret"),
        slack_bot_token=SecretStr("xoxb-1"),
        slack_channel="#line",
    )


async def deployed(settings: Settings, *, reset: bool = False, **options: Any) -> list[str]:
    """Deploy, and return the lines it said."""
    said = io.StringIO()
    console = Console(file=said, soft_wrap=True, highlight=False)
    await deploy(settings, reset=reset, console=console, **options)
    return said.getvalue().splitlines()


async def state(server: PrefectServer) -> dict[str, Any]:
    """Everything of ours on the server, as the API tells it, apart from when it was asked."""
    async with PrefectClient(server.api_url) as client:
        pool = await client.read_work_pool("linekeeper")
        return {
            "pool": pool.model_dump(exclude={"status"}),
            "queues": [
                q.model_dump(exclude={"status", "last_polled"})
                for q in await client.read_work_queues(work_pool_name="linekeeper")
            ],
            "deployments": sorted(
                (
                    d.model_dump(exclude={"status", "last_polled"})
                    for d in await client.read_deployments()
                ),
                key=lambda one: str(one["name"]),
            ),
            "automations": sorted(
                (a.model_dump() for a in await client.read_automations()),
                key=lambda one: str(one["name"]),
            ),
            "documents": [d.model_dump() for d in await client.read_block_documents()],
            "variables": [v.model_dump() for v in await client.read_variables()],
        }


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Prefect is asked from now on."""
    asked: list[str] = []
    send = httpx.AsyncClient.send

    async def counted(self: httpx.AsyncClient, request: httpx.Request, **how: Any) -> Any:
        asked.append(f"{request.method} {request.url.path}")
        return await send(self, request, **how)

    monkeypatch.setattr(httpx.AsyncClient, "send", counted)
    return asked


async def test_deploying_makes_everything_and_deploying_again_changes_nothing_and_asks_little(
    seeds: Settings, clean_prefect: PrefectServer, calls: list[str]
) -> None:
    lines = await deployed(seeds)
    made = len(await project.wanted_deployments())
    assert len(calls) <= 2 * made + 60, calls  # a flow and a deployment each, and all the rest
    assert "made work pool linekeeper" in lines
    first = await state(clean_prefect)
    calls.clear()
    assert await deployed(seeds) == [
        f"deployed {len(first['deployments'])} deployments to {clean_prefect.api_url}"
    ]
    assert len(calls) <= 30, calls
    assert await state(clean_prefect) == first

    names = {one["name"] for one in first["deployments"]}
    assert names == {wanted.name for wanted in await project.wanted_deployments()}
    queues = {q["name"]: (q["priority"], q["concurrency_limit"]) for q in first["queues"]}
    assert queues["urgent"] < queues["routine"] < queues["bulk"]
    assert queues["bulk"][1] == 1
    assert len(first["automations"]) == 4
    assert [(v["name"], v["value"]) for v in first["variables"]] == [("linekeeper_paused", False)]
    assert {d["name"] for d in first["documents"]} == {"default", "linekeeper-alerts"}
    assert len(first["documents"]) == 5


@pytest.mark.usefixtures("few")
async def test_what_an_operator_set_stays_is_shown_and_reset_puts_it_back(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    await deployed(seeds)
    first = await state(clean_prefect)
    async with PrefectClient(clean_prefect.api_url) as client:
        sweep = await client.read_deployment_by_name(SWEEP)
        await client.update_deployment_schedule(
            sweep.id,
            sweep.schedules[0].id,
            active=False,
            schedule=IntervalSchedule(interval=timedelta(minutes=7)),
        )
        house = await client.read_deployment_by_name("housekeeping/housekeeping")
        await client.update_deployment(
            house.id,
            DeploymentUpdate(
                parameters={"outbox_days": 3},
                tags=["mine"],
                concurrency_limit=2,
                paused=True,
                description="Ours: ask Petra before running it.",
            ),
        )
        adopt = await client.read_deployment_by_name("adopt/adopt")
        await client.update_deployment(
            adopt.id, DeploymentUpdate(work_pool_name="linekeeper", work_queue_name="urgent")
        )
        digest = await client.read_deployment_by_name(DIGEST)
        await client.delete_deployment_schedule(digest.id, digest.schedules[0].id)
        failed = (await client.read_automations_by_name("Linekeeper: run failed"))[0]
        await client.pause_automation(failed.id)
        late = (await client.read_automations_by_name("Linekeeper: run late"))[0]
        two = late.model_dump(mode="json", exclude={"owner_resource"})
        two["actions"] = [{"type": "do-nothing"}] * 2
        await client.update_automation(late.id, AutomationCore.model_validate(two))
    changed = await state(clean_prefect)
    seeds.makini_mode = "manage"

    lines = await deployed(seeds)
    assert await state(clean_prefect) == changed
    async with PrefectClient(clean_prefect.api_url) as client:
        assert await mode(client) == "observe"
    left = [line for line in lines if line.startswith("left ")]
    assert [line.partition(" (prefect.yaml: **Rem")[0] for line in left] == [
        "left block makini-app/default: mode (settings say otherwise)",
        "left deployment health-sweep: schedule every-5-minutes: every 7 min, paused "
        "(prefect.yaml: every 5 min)",
        "left deployment digest: schedule daily: none (prefect.yaml: cron 0 7 * * * (UTC))",
        "left deployment housekeeping: tags: ['mine'] "
        "(prefect.yaml: ['house', 'internal', 'linekeeper'])",
        "left deployment housekeeping: parameters: {'outbox_days': 3} (prefect.yaml: {})",
        "left deployment housekeeping: paused: True (prefect.yaml: False)",
        "left deployment housekeeping: concurrency_limit: 2 (prefect.yaml: none)",
        "left deployment housekeeping: description: Ours: ask Petra before running it.",
        "left deployment adopt: work_queue_name: urgent (prefect.yaml: routine)",
        "left automation Linekeeper: run failed: disabled",
        "left automation Linekeeper: run late: actions",
    ]
    assert "--reset" in lines[-1]

    lines += await deployed(seeds, reset=True)
    async with PrefectClient(clean_prefect.api_url) as client:
        assert await mode(client) == "manage"
    assert not any("s3cret" in line for line in lines)
    back = await state(clean_prefect)
    assert [shape(one) for one in back["deployments"]] == [
        shape(listed) for listed in first["deployments"]
    ]
    assert all(implementation["enabled"] for implementation in back["automations"])
    assert await deployed(seeds) == [
        f"deployed {len(first['deployments'])} deployments to {clean_prefect.api_url}"
    ]


def shape(deployment: dict[str, Any]) -> dict[str, Any]:
    """What a deployment is, apart from ids and times."""
    limit = deployment["global_concurrency_limit"]
    kept = ("name", "tags", "parameters", "paused", "work_queue_name", "entrypoint", "description")
    return {
        **{name: deployment[name] for name in kept},
        "limit": limit and limit["limit"],
        "options": deployment["concurrency_options"],
        "schedules": sorted(  # Prefect gives those of one moment in any order
            (schedule["slug"], schedule["active"], repr(schedule["schedule"]))
            for schedule in deployment["schedules"]
        ),
    }


@pytest.mark.usefixtures("few")
async def test_code_follows_the_checkout_and_what_is_gone_from_it_goes_but_for_an_operators_own(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    await deployed(seeds)
    async with PrefectClient(clean_prefect.api_url) as client:
        for name, entrypoint in (("first-report", "flows/first_report.py:first_report"),
                                 ("customer-link", "theirs/link.py:link")):  # fmt: skip
            flow = await client.create_flow_from_name(name)
            await client.create_deployment(flow, name, entrypoint=entrypoint)
        house = await client.read_deployment_by_name("housekeeping/housekeeping")
        await client.update_deployment(
            house.id,
            DeploymentUpdate(
                description="an older version's",
                version="0.0.1",
                parameter_openapi_schema={
                    name: value
                    for name, value in (house.parameter_openapi_schema or {}).items()
                    if name != RECORD
                },
            ),
        )
        lines = await deployed(seeds)
        now = await client.read_deployment_by_name("housekeeping/housekeeping")
        left = {deployment.name for deployment in await client.read_deployments()}
    assert [line for line in lines if "gone" in line] == [
        "deployment first-report: deleted, its flow is gone"
    ]
    assert "first-report" not in left
    assert {"customer-link", "health-sweep"} <= left
    assert (
        "deployment housekeeping: updated description, parameter_openapi_schema, version" in lines
    )
    assert "Removes expired data" in (now.description or "")
    assert [s.id for s in now.schedules] == [s.id for s in house.schedules]


async def mode(client: PrefectClient) -> str:
    """The mode of the app `default`, as its block has it."""
    document = (await client.read_block_documents_by_type("makini-app"))[0]
    return str(document.data["mode"])


@pytest.mark.usefixtures("few")
async def test_no_schedules_pauses_every_schedule(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    await deployed(seeds, schedules_active=False)
    async with PrefectClient(clean_prefect.api_url) as client:
        made = [s.active for d in await client.read_deployments() for s in d.schedules]
        assert made
        assert not any(made)
        sweep = await client.read_deployment_by_name(SWEEP)
        await client.update_deployment_schedule(sweep.id, sweep.schedules[0].id, active=True)
        lines = await deployed(seeds, schedules_active=False)
        assert "deployment health-sweep: paused schedule every-5-minutes" in lines
        assert not (await client.read_deployment_by_name(SWEEP)).schedules[0].active


@pytest.mark.usefixtures("few")
async def test_the_sandbox_schedules_go_with_the_sandbox(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    demo = project.Demo(30, "09:07")
    await deployed(seeds, demo=demo)
    async with PrefectClient(clean_prefect.api_url) as client:
        sweep = (await client.read_deployment_by_name(SWEEP)).schedules
        assert [(s.slug, s.schedule.interval) for s in sweep] == [("demo", timedelta(seconds=30))]
        digest = (await client.read_deployment_by_name(DIGEST)).schedules
        assert [(s.slug, s.schedule.cron) for s in digest] == [("demo", "7 9 * * *")]
        again = await deployed(seeds, demo=demo)
        assert not [line for line in again if line.startswith("left ")]
        with alone_in(seeds.home):  # `up` runs, and somebody else deploys
            await deployed(seeds, beside_up=is_up(seeds.home))
        kept = (await client.read_deployment_by_name(SWEEP)).schedules
        assert [(s.slug, s.schedule.interval) for s in kept] == [("demo", timedelta(seconds=30))]
        await deployed(seeds, beside_up=is_up(seeds.home))
        slugs = [
            [s.slug for s in (await client.read_deployment_by_name(name)).schedules]
            for name in (SWEEP, DIGEST)
        ]
        assert slugs == [["every-5-minutes"], ["daily"]]


async def test_no_server_is_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.cli.deploy.START_SECONDS", 0.0)
    console = Console(file=io.StringIO(), record=True, soft_wrap=True)
    with pytest.raises(UserError, match="can't be reached") as raised:
        await deploy(Settings(home=tmp_path, prefect_port=1), reset=False, console=console)
    assert "linekeeper up" in str(raised.value)
    [said] = console.export_text().splitlines()  # at once, and once
    assert said.startswith("waiting up to")
    assert "can't be reached" in said


@pytest.mark.usefixtures("few")
@pytest.mark.repeats(
    "tasks/prefect_adapter/test_project.py::test_everything_prefect_reads_is_deployed_and_differences_are_shown"
)
async def test_prefect_deploy_works_from_the_root_once_the_pool_is_there(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    names = [word for name in sorted(FEW) for word in ("--name", name)]
    await prefect_deploys(clean_prefect, seeds, *names)


@pytest.mark.soak
async def test_prefect_deploy_all_works_as_well(
    seeds: Settings, clean_prefect: PrefectServer
) -> None:
    await prefect_deploys(clean_prefect, seeds, "--all")


async def prefect_deploys(clean_prefect: PrefectServer, seeds: Settings, *which: str) -> None:
    async with PrefectClient(clean_prefect.api_url) as client:
        await client.create_work_pool(WorkPoolCreate(name="linekeeper", type="process"))
    code, said = await clean_prefect.run("prefect", "deploy", *which, cwd=project.root())
    assert code == 0, said
    wanted = await project.wanted_deployments()
    async with PrefectClient(clean_prefect.api_url) as client:
        found = {d.name: d for d in await client.read_deployments()}
    assert found.keys() == {one.name for one in wanted}
    lines = await deployed(seeds)
    assert not [line for line in lines if line.startswith("left deployment")]
    for one in wanted:
        assert found[one.name].entrypoint == one.entrypoint
        assert found[one.name].pull_steps == one.pull_steps


@pytest.mark.repeats("blocks/test_blocks.py::test_prefect_finds_each_block_in_the_module")
async def test_prefect_block_register_takes_the_module(clean_prefect: PrefectServer) -> None:
    code, said = await clean_prefect.run(
        "prefect", "block", "register", "--module", "blocks", cwd=project.root()
    )
    assert code == 0, said
    assert "Successfully registered 5 blocks" in said
