"""What operators set in Prefect outlives Prefect's database, and a fresh machine."""

import io
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate, DeploymentUpdate, VariableUpdate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.events.schemas.automations import AutomationCore
from rich.console import Console

from blocks import MakiniApp
from linekeeper.backup import back_up, restore
from linekeeper.cli.deploy import deploy
from linekeeper.clock import utcnow
from linekeeper.consumer.settings import copy_blocks
from linekeeper.orchestrator import OrchestratorUnavailable
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.configuration import load_configuration
from linekeeper.store.engine import encryption_keys
from linekeeper.store.migrate import migrate
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.cli.few import few
from tests.cli.test_deploy import SWEEP, shape, state
from tests.cli.test_deploy_newer import every, shipping
from tests.databases import KEY
from tests.fixtures_prefect import PrefectServer, forget_everything

__all__ = ["few"]
pytestmark = pytest.mark.usefixtures("few")
HOOK = "https://hooks.slack.example/s3cret"


@pytest.fixture
def at_home(clean_prefect: PrefectServer, tmp_path: Path) -> Settings:
    """A home with a database of its own, and the server."""
    return _settings(clean_prefect, tmp_path / "one")


def _settings(server: PrefectServer, home: Path) -> Settings:
    return Settings(
        home=home,
        encryption_keys=(KEY,),
        prefect_port=server.port,
        makini_api_url="http://127.0.0.1:9",
    )


@pytest.fixture
async def store(at_home: Settings) -> AsyncIterator[Store]:
    """Its database."""
    async with Store.open(at_home) as opened:
        await migrate(opened)
        yield opened


async def deployed(settings: Settings, **options: Any) -> list[str]:
    said = io.StringIO()
    console = Console(file=said, soft_wrap=True, highlight=False)
    await deploy(settings, reset=options.pop("reset", False), console=console, **options)
    return said.getvalue().splitlines()


async def set_things(server: PrefectServer) -> None:
    """What an operator does in the UI over a year."""
    async with PrefectClient(server.api_url) as client:
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
                tags=["linekeeper", "mine"],
                description="Ask Petra before you run it.",
                concurrency_limit=1,
                concurrency_options=ConcurrencyOptions(
                    collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
                ),
            ),
        )
        adopt = await client.read_deployment_by_name("adopt/adopt")
        await client.update_deployment(adopt.id, DeploymentUpdate(paused=True))
        late = (await client.read_automations_by_name("Linekeeper: run late"))[0]
        await client.pause_automation(late.id)
        kind = await client.read_block_type_by_slug("slack-webhook")
        schema = await client.get_most_recent_block_schema_for_block_type(kind.id)
        assert schema is not None
        document = await client.create_block_document(
            BlockDocumentCreate(
                name="ops",
                data={"url": HOOK},
                block_type_id=kind.id,
                block_schema_id=schema.id,
            )
        )
        failed = (await client.read_automations_by_name("Linekeeper: run failed"))[0]
        changed = failed.model_dump(mode="json", exclude={"owner_resource"})
        changed["actions"] = [
            {
                "type": "send-notification",
                "block_document_id": str(document.id),
                "subject": "red",
                "body": "{{ flow_run.name }}",
            }
        ]
        await client.update_automation(failed.id, AutomationCore.model_validate(changed))
        await client.update_variable(VariableUpdate(name="linekeeper_paused", value=True))
        for queue in await client.read_work_queues(work_pool_name="linekeeper"):
            if queue.name == "bulk":
                await client.update_work_queue(queue.id, concurrency_limit=4, is_paused=True)
        await MakiniApp(mode="manage", api_url="https://eu.example", client_secret="t0p").save(
            "default", overwrite=True, client=client
        )
        await MakiniApp(api_url="https://us.example").save("second", client=client)


async def test_a_new_prefect_gets_back_what_operators_had_set_or_with_reset_what_the_files_say(
    at_home: Settings, store: Store, clean_prefect: PrefectServer, tmp_path: Path
) -> None:
    await deployed(at_home)
    await set_things(clean_prefect)
    async with PrefectOrchestrator.open(at_home) as orchestrator:
        await copy_blocks(store, at_home, orchestrator, now=utcnow())
        await orchestrator.remember(store)
        before = await state(clean_prefect)

        await forget_everything(clean_prefect)
        with pytest.raises(OrchestratorUnavailable, match="linekeeper deploy"):
            await copy_blocks(store, at_home, orchestrator, now=utcnow())
        await orchestrator.remember(store)  # an empty Prefect is nothing to remember
    file = tmp_path / "backup"
    await back_up(store, file, encryption_keys(at_home), now=utcnow())
    assert b"s3cret" not in file.read_bytes()

    fresh = _settings(clean_prefect, tmp_path / "two")
    async with Store.open(fresh) as other:
        await restore(other, file, by="me", now=utcnow())
        assert (await load_configuration(other, fresh)).apps.keys() == {"default", "second"}
    lines = await deployed(fresh)
    assert lines[0] == "this Prefect is new: what operators had set before is restored"

    after = await state(clean_prefect)
    assert [shape(one) for one in after["deployments"]] == [
        shape(one) for one in before["deployments"]
    ]
    for kind, kept in (
        ("queues", ("name", "priority", "concurrency_limit", "is_paused")),
        ("variables", ("name", "value", "tags")),
        ("automations", ("name", "enabled", "description", "trigger")),
    ):
        assert [{k: one[k] for k in kept} for one in after[kind]] == [
            {k: one[k] for k in kept} for one in before[kind]
        ]
    async with PrefectClient(clean_prefect.api_url) as client:
        apps = await client.read_block_documents_by_type("makini-app", include_secrets=True)
        assert {
            block_document.name: (block_document.data["mode"], block_document.data["api_url"])
            for block_document in apps
        } == {
            "default": ("manage", "https://eu.example"),
            "second": ("observe", "https://us.example"),
        }
        failed = (await client.read_automations_by_name("Linekeeper: run failed"))[0]
        [action] = failed.actions
        document = await client.read_block_document(action.block_document_id)
        assert (document.name, document.data["url"]) == ("ops", HOOK)

    again = await deployed(fresh)
    assert not [line for line in again if line.startswith("made ")]
    assert await state(clean_prefect) == after

    await forget_everything(clean_prefect)
    await deployed(fresh, reset=True)
    assert [one["value"] for one in (await state(clean_prefect))["variables"]] == [False]


@pytest.mark.repeats(
    "cli/test_deploy_newer.py::test_a_new_tag_parameter_and_schedule_arrive_where_nobody_changed_anything"
)
async def test_a_new_prefect_follows_a_newer_version_where_nobody_had_set_anything(
    at_home: Settings, store: Store, clean_prefect: PrefectServer
) -> None:
    first = [every(5, "kept"), every(9, "paused"), every(7, "deleted"), every(8, "gone")]
    with shipping("health-sweep", schedules=first, tags=["linekeeper"], description="Old."):
        await deployed(at_home)
    async with PrefectClient(clean_prefect.api_url) as client:
        sweep = await client.read_deployment_by_name(SWEEP)
        of = {one.slug: one.id for one in sweep.schedules}
        await client.update_deployment_schedule(sweep.id, of["paused"], active=False)
        await client.delete_deployment_schedule(sweep.id, of["deleted"])
        house = await client.read_deployment_by_name("housekeeping/housekeeping")
        await client.update_deployment(house.id, DeploymentUpdate(parameters={"run_days": 7}))
    async with PrefectOrchestrator.open(at_home) as orchestrator:
        await orchestrator.remember(store)
    await forget_everything(clean_prefect)

    second = [every(6, "kept"), every(4, "paused"), every(3, "deleted"), every(2, "new")]
    newer = {"schedules": second, "tags": ["linekeeper", "new"], "description": "New."}
    with shipping("health-sweep", **newer):
        await deployed(at_home)
    async with PrefectClient(clean_prefect.api_url) as client:
        sweep = await client.read_deployment_by_name(SWEEP)
        house = await client.read_deployment_by_name("housekeeping/housekeeping")
    assert (sorted(sweep.tags), sweep.description) == (["linekeeper", "new"], "New.")
    assert house.parameters == {"run_days": 7}
    assert {(one.slug, one.active, one.schedule.interval) for one in sweep.schedules} == {
        ("kept", True, timedelta(minutes=6)),
        ("paused", False, timedelta(minutes=9)),
        ("new", True, timedelta(minutes=2)),
    }
