"""Runs in which Makini, Slack or the database is away for longer than a step tries.

They wait, or end by their own words; none ends by an exception.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from prefect.client.schemas.objects import State
from sqlalchemy import select

import sandbox
from flows.adopt import adopt
from flows.check_connection import check_connection
from flows.digest import digest
from flows.disconnect import disconnect
from flows.doctor import doctor
from flows.health_sweep import health_sweep
from flows.refresh_tokens import refresh_tokens
from flows.verify_account import verify_account
from flows.workflow_configuration import workflow_configuration
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import (
    AuthenticationSetup,
    Connection,
    ConnectLink,
    EndedRun,
    WorkflowConfiguration,
)
from tasks.health import list_connections
from tasks.workflow_configuration import first_read
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import asks, begin, work
from tests.flows.test_authentication_setup import arriving, asked, box, log_in, rows, rt, woken
from tests.flows.test_reconnect_flows import adopted, fleet
from tests.flows.test_reconnect_flows import rows as all_of
from tests.flows.test_refresh_tokens import ending
from tests.reconcile.conftest import adopt as adopt_all

__all__ = ["box", "fleet", "rt"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    on_both,
    pytest.mark.usefixtures("impatient"),
]
Ending = State[None]
FLOWS: dict[str, Callable[[str], Awaitable[Ending]]] = {
    "adopt": lambda _: adopt(dry_run=False, return_state=True),
    "check-connection": lambda key: check_connection(key, return_state=True),
    "disconnect": lambda key: disconnect(key, key, "Olaf", return_state=True),
    "health-sweep": lambda _: health_sweep(return_state=True),
    "refresh-tokens": lambda _: refresh_tokens(return_state=True),
    "verify-account": lambda _: verify_account(return_state=True),
}


def away(box: sandbox.Served, how: str = "500") -> None:
    """Have Makini answer nothing but errors; empty: as it should again."""
    for name in ("admin_list", "data_list", "token", "status"):
        setattr(box.world.faults, name, how)


async def is_noted(store: Store, state: Ending) -> bool:
    """Whether the run is known to be red by what it found, so that nobody calls it broken."""
    run_id = str(state.state_details.flow_run_id)
    return run_id in {row.run_id for row in await all_of(store, EndedRun)}


@pytest.mark.parametrize(
    "which",
    [
        "check-connection",
        "health-sweep",
        *(
            pytest.param(
                other,
                marks=pytest.mark.repeats(
                    "flows/test_away.py::test_a_run_ends_by_its_own_words_where_makini_is_away"
                ),
            )
            for other in sorted(FLOWS.keys() - {"check-connection", "health-sweep"})
        ),
    ],
)
async def test_a_run_ends_by_its_own_words_where_makini_is_away(
    which: str,
    running: Running,
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
) -> None:
    await adopted()
    [connection, *_] = await all_of(store, Connection)
    await ending(store, fleet, connection, days=3)
    away(fleet)
    with on(clean_prefect):
        state = await FLOWS[which](connection.makini_key)
    assert state.is_failed()
    assert "exception" not in str(state.message)
    assert await is_noted(store, state)


async def test_a_login_whose_system_is_away_is_waited_for_and_not_given_up(
    rt: Runtime,
    box: sandbox.Served,
    running: Running,
    settings: Settings,
    clean_prefect: PrefectServer,
) -> None:
    one = await arriving(rt, box)
    with on(clean_prefect):
        run = await asked(running, one)
        [link] = await rows(rt, ConnectLink)
        assert await log_in(rt, box, link, one.makini_key) == "done"
        away(box)
        run = await woken(running, rt, settings, run)
        assert run.state is not None
        assert run.state.is_paused(), run.state
        assert run.name.endswith("waits for a read with the new token")
        assert "tried again every 15 minutes" in await asks(running, run.id)
        away(box, "")
        async with rt.store.write() as session:
            [setup] = await session.scalars(select(AuthenticationSetup))
            setup.look_at = utcnow() - timedelta(minutes=1)
        run = await woken(running, rt, settings, run)
    assert run.state is not None
    assert run.state.name == "Completed", run.state


async def test_a_first_read_that_fails_is_waited_for(
    rt: Runtime,
    box: sandbox.Served,
    running: Running,
    clean_prefect: PrefectServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(first_read, "retries", 0)  # each try has those of the reading in it
    await adopt_all(rt)
    [connection] = await rows(rt, Connection)
    box.world.faults.data_list = "500"
    with on(clean_prefect):
        run = await begin(
            running, workflow_configuration, connection=connection.makini_key, entities=["sites"]
        )
        assert run.state is not None
        assert run.state.is_paused(), run.state
        assert run.name.endswith("waits for the first full read")
        [configuration] = await all_of(rt.store, WorkflowConfiguration)
        assert configuration.look_at is not None  # the consumer has it tried again
        box.world.faults.data_list = ""
        await running.client.resume_flow_run(run.id, run_input={"by": "linekeeper"})
        run = await work(running, workflow_configuration, run.id)
    assert run.name.endswith("waits for webhooks"), run.state


async def test_a_message_that_slack_does_not_take_fails_the_run_by_its_words(
    running: Running,
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LINEKEEPER_SLACK_BOT_TOKEN", "xoxb-not-it")
    monkeypatch.setenv("LINEKEEPER_SLACK_CHANNEL", "#linekeeper")
    monkeypatch.setenv("LINEKEEPER_SLACK_API_URL", f"{fleet.url}/slack/api/")
    with on(clean_prefect):
        state = await doctor("This is a test.", return_state=True)
    assert state.is_failed()
    assert str(state.message).startswith("1 still to be sent: "), state.message
    assert "Run it again once that is over." in str(state.message)
    assert await is_noted(store, state)


async def test_a_database_that_is_away_is_what_the_run_says(
    running: Running, clean_prefect: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEKEEPER_DATABASE_URL", "postgresql+asyncpg://me:it@127.0.0.1:9/none")
    with on(clean_prefect):
        state = await digest(return_state=True)
    assert state.is_failed()
    assert str(state.message).startswith("The database does not answer"), state.message


async def test_a_step_that_takes_too_long_is_what_the_run_says(
    running: Running,
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(list_connections, "timeout_seconds", 0.001)
    with on(clean_prefect):
        state = await adopt(dry_run=False, return_state=True)
    assert state.is_failed()
    assert str(state.message).startswith("A step took longer than it may"), state.message
    assert not await is_noted(store, state)  # nobody else tells of it
