"""One state, shown once, with one name everywhere (GLOSSARY): what each screen says of it."""

import asyncio
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from sqlalchemy import select
from sqlmodel import col

import sandbox
from flows.check_connection import check_connection
from flows.health_sweep import health_sweep
from linekeeper.access.page_links import page_link, page_url
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import take_list
from linekeeper.views.health_chart import LOOKS
from tests.cli.commands import CommandLine
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_sweep_flow import Control, box, connections, control
from tests.receiver.conftest import receiving

__all__ = ["box", "control"]  # fixtures
pytestmark = [
    on_both,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]

NAMES = {
    "reauthorization_required": "Reauthorization required",
    "unreachable": "Unreachable",
    "degraded": "Degraded",
    "inactive": "Inactive",
    "unknown": "Unknown",
}
FOR_CUSTOMERS = {
    "reauthorization_required": "login needed",
    "unreachable": "your system can't be reached",
    "degraded": "connected, with delays",
    "inactive": "paused",
    "unknown": "being checked",
    "healthy": "connected",
}
"""The customer reads what it means for them; one name each as well."""
OTHER_NAMES = re.compile(
    "reauthorization_required|login lost|must log in|sign in again|does not answer|switched off"
    "|status unknown|offline"
)
"""Names that a state was once called besides."""


async def sweep_without_prefect(rt: Runtime) -> None:
    app, started = await rt.app("default"), utcnow()
    await take_list(rt, app, now=started)
    async with rt.store.read() as session:
        ids = list(await session.scalars(select(col(Connection.id))))
    await probe_batch(rt, app, ids, started=started, last_try=True)


@pytest.fixture
async def troubled(
    running: Running,
    clean_prefect: PrefectServer,
    store: Store,
    box: sandbox.Served,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
) -> Mapping[str, Connection]:
    """A connection in each state, by its health, swept by the flow; the healthy one is suspect."""
    monkeypatch.setenv("LINEKEEPER_SLACK_BOT_TOKEN", sandbox.Settings().slack_token)
    monkeypatch.setenv("LINEKEEPER_SLACK_CHANNEL", "#linekeeper")
    monkeypatch.setenv("LINEKEEPER_SLACK_API_URL", f"{box.url}/slack/api/")
    async with Runtime.open() as rt:
        await sweep_without_prefect(rt)
        keys = [one.makini_key for one in await connections(store)]
        lost, away, slow, off, odd, suspect = keys
        await control(f"connections/{lost}/change-credentials")
        await control(f"connections/{away}/go-offline")
        await control(f"connections/{slow}/fail-sync")
        await control(f"connections/{off}/deactivate")
        await control(f"connections/{odd}/status", status="enlightened")
        for _ in range(3):
            await sweep_without_prefect(rt)
    await control(f"connections/{suspect}/go-offline")
    with on(clean_prefect):
        await health_sweep(return_state=True)
    async with Runtime.open() as rt:  # as the consumer does
        await deliver_due(rt.store, await rt.configuration(), rt.owner)
    found = {one.health: one for one in await connections(store)}
    assert set(found) == {*NAMES, "healthy"}
    assert found["healthy"].suspect
    return found


def says(screen: str, name: str, *, of: str) -> None:
    """The screen calls the state by its one name, and by none of the others."""
    plain = screen.replace("\\", "")
    assert name in plain, f"{of}: not called {name}: {plain[:2000]}"
    other = OTHER_NAMES.search(plain)
    assert other is None, f"{of}: called {other[0]}: {plain[:2000]}"


async def test_every_screen_page_and_run_calls_a_state_by_its_one_name(
    running: Running,
    clean_prefect: PrefectServer,
    troubled: Mapping[str, Connection],
    settings: Settings,
    box: sandbox.Served,
    line: CommandLine,
) -> None:
    """One fleet for all three: it takes half a minute to be found in so many states."""
    await every_screen_says_it(running, troubled, box, line)
    await the_customer_reads_one_name_and_programs_another(troubled, settings)
    await a_run_about_one_connection_is_named_by_it(running, clean_prefect, troubled)


@pytest.fixture
def line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> CommandLine:
    monkeypatch.setenv("COLUMNS", "200")
    return CommandLine(tmp_path, monkeypatch, capsys)


async def every_screen_says_it(
    running: Running,
    troubled: Mapping[str, Connection],
    box: sandbox.Served,
    line: CommandLine,
) -> None:
    sweep = await running.last()
    assert sweep.name == "sweep · 5 new problems"
    tasks = await running.client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[sweep.id]))
    )
    red = {task.name: task for task in tasks if task.state is not None and task.state.is_failed()}
    assert len(red) == 5
    fleet, everything = await running.artifact("fleet"), await running.artifact("connections")
    messages = [message["text"] for message in box.world.slack.snapshot()]
    status = (await asyncio.to_thread(line, "status")).out
    counted = json.loads((await asyncio.to_thread(line, "status", "--json")).out)
    listed = (await asyncio.to_thread(line, "connection", "list")).out
    assert counted["health"] == dict.fromkeys(troubled, 1)  # names for programs, as in the tables
    assert {one["kind"] for one in counted["incidents"]} == set(NAMES)
    for health, name in NAMES.items():
        connection = troubled[health]
        # Prefect's tags are for programs, too.
        [label] = [one for one in red if f"health:{health}" in red[one].tags]
        state = red[label].state
        assert state is not None
        says(str(state.message).partition(" since ")[0], f"{label}: {name}", of="Prefect's task")
        page = await running.artifact(f"connection-{connection.slug}")
        says(page.partition("\n\n")[0], name, of="the heading of its page")
        [changed] = [row for row in page.splitlines() if f"→ {LOOKS[health].sign}" in row]
        says(changed.partition("→")[2].partition(" (")[0], name, of="the history on its page")
        assert "login lost" not in page
        [message] = [one for one in messages if label in one]
        says(message.splitlines()[0], name, of="Slack")
        [row] = [one for one in fleet.splitlines() if label in one and one.startswith("- ")][:1]
        says(row.partition(" since ")[0], name, of="the page fleet")
        assert name in everything
        says(status, name, of="linekeeper status")
        says(listed, name, of="linekeeper connection list")
        shown = (await asyncio.to_thread(line, "connection", "show", connection.makini_key)).out
        says(shown.partition("history")[0], name, of="linekeeper connection show")


async def the_customer_reads_one_name_and_programs_another(
    troubled: Mapping[str, Connection], settings: Settings
) -> None:
    async with receiving(settings) as here:
        metrics = (await here.http.get("/metrics")).text
        signer = await load_signer(here.rt.store)
        for health, connection in troubled.items():
            assert f'linekeeper_connections{{app="default",health="{health}"}} 1' in metrics
            async with here.rt.store.write() as session:
                assert connection.customer_id is not None
                link = await page_link(session, connection.customer_id, by="tests", now=utcnow())
            path = page_url(signer, "", link.id)
            page = (await here.http.get(path)).text
            assert FOR_CUSTOMERS[health] in html.unescape(page)
            [system] = (await here.http.get(f"{path}.json")).json()["connections"]
            assert (system["state"], system["state_text"]) == (health, FOR_CUSTOMERS[health])


async def a_run_about_one_connection_is_named_by_it(
    running: Running, clean_prefect: PrefectServer, troubled: Mapping[str, Connection]
) -> None:
    for health in ("reauthorization_required", "inactive"):
        with on(clean_prefect):
            state = await check_connection(troubled[health].makini_key, return_state=True)
        assert (await running.last()).name.endswith(f" · {NAMES[health]}")
        assert f" is {NAMES[health]} since " in str(state.message)
