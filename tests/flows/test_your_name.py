"""*Your name* is that of whoever started the run, where Prefect knows people."""

import sqlite3
from contextlib import closing, suppress
from typing import Annotated, Any

import pytest
from prefect import flow
from prefect._internal.schemas.fields import CreatedBy
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_async
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on

CLOUD = "https://api.prefect.cloud/api/accounts/a/workspaces/w"
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def asking() -> Any:
    """A flow whose form has to name somebody."""

    @flow(name="asks")
    @form
    async def asks(
        what: Annotated[str, Field(title="What")],
        by: Annotated[str, Field(title="Your name", description="Who", min_length=1)],
        how: Annotated[str, Field(title="How")] = "well",
    ) -> State[None]:
        """Do something."""
        return Completed(message=f"{what} {how} by {by}")

    return asks


def test_the_name_is_required_where_prefect_knows_nobody() -> None:
    schema = asking().parameters
    assert schema.required == ["what", "by"]
    assert schema.properties["by"]["minLength"] == 1


def test_the_name_may_be_left_out_in_cloud() -> None:
    with temporary_settings({PREFECT_API_URL: CLOUD}):
        schema = asking().parameters
    assert schema.required == ["what"]
    shown = schema.properties["by"]
    assert (shown["title"], shown["description"], shown["default"]) == ("Your name", "Who", "")
    assert "minLength" not in shown


async def started(running: Running, asks: Any, made: CreatedBy | None, **given: Any) -> State[Any]:
    """What becomes of a run that `made` started: Cloud says who, here it is written down for it."""
    flow_id = await running.client.create_flow_from_name(asks.name)
    deployment = await running.client.create_deployment(flow_id, asks.name)
    run = await running.client.create_flow_run_from_deployment(deployment, parameters=given)
    if made is not None:
        database = running.server.database
        with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            changed = connection.execute(
                "UPDATE flow_run SET created_by = ? WHERE replace(id, '-', '') = ?",
                (made.model_dump_json(), run.id.hex),
            )
            assert changed.rowcount == 1
    with suppress(Pause):
        await run_flow_async(asks, flow_run=run, parameters=given, return_type="state")
    state = (await running.client.read_flow_run(run.id)).state
    assert state is not None
    return state


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")
async def test_the_creator_of_the_run_is_who_did_it(
    running: Running, clean_prefect: PrefectServer
) -> None:
    with temporary_settings({PREFECT_API_URL: CLOUD}):
        asks = asking()
    olaf = CreatedBy(type="USER", display_value="Olaf")
    with on(clean_prefect):
        assert (await started(running, asks, olaf, what="sewn")).message == "sewn well by Olaf"
        said = await started(running, asks, olaf, what="sewn", by="Petra")
        assert said.message == "sewn well by Petra"
        robot = CreatedBy(type="AUTOMATION", display_value="nightly")
        for nobody in (robot, None):
            state = await started(running, asks, nobody, what="sewn")
            assert state.name == "Refused", state
            assert "Your name:" in (state.message or "")
