"""reconcile and deletions, run as Prefect runs them."""

import base64
import itertools
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prefect.client.schemas.actions import VariableCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from sqlmodel import col, select

import sandbox
from flows.health_sweep import health_sweep
from flows.reconcile import reconcile
from linekeeper.clock import utcnow
from linekeeper.incidents import operate
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import (
    Connection,
    Drift,
    Incident,
)
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import edges
from tests.reconcile.conftest import Peer, adopt, index, parsed, pointed_at

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
TRUST_PAGE = "update webhook-trust page"


@pytest.fixture
async def peer(running: Running, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Peer]:
    """A sandbox whose fleet the flows read and in whose Slack they speak."""
    box = sandbox.Settings(port=0, connections=4, records_per_connection=60, per_minute=0)
    async with sandbox.serving(box) as served, httpx.AsyncClient() as http:
        for name, value in {
            "MAKINI_API_URL": served.url,
            "MAKINI_CLIENT_ID": "sandbox-client",
            "MAKINI_CLIENT_SECRET": box.client_secret,
            "MAKINI_MODE": "manage",
            "MAKINI_PER_MINUTE": "0",
            "PROBE_MINUTES": "0",
            "PUBLIC_URL": "https://linekeeper.example",
            "SLACK_BOT_TOKEN": box.slack_token,
            "SLACK_CHANNEL": "#linekeeper",
            "SLACK_API_URL": f"{served.url}/slack/api/",
        }.items():
            monkeypatch.setenv(f"LINEKEEPER_{name}", value)
        yield Peer(served.url, http)


@pytest.fixture
async def rt(settings: Settings, store: Store, peer: Peer) -> AsyncIterator[Runtime]:
    """A runtime beside the flows', to look with."""
    async with Runtime.open(pointed_at(settings, peer.url)) as opened:
        await adopt(opened)
        yield opened


def ended(state: State[Any]) -> tuple[str, str]:
    """A state's name and message."""
    return state.name or "", state.message or ""


async def slack(peer: Peer) -> list[str]:
    """What was said in Slack."""
    answer = await peer.http.get(f"{peer.url}/_control/slack")
    return [str(message) for message in answer.json()["messages"]]


async def test_a_run_recovers_what_was_missed_and_says_so_in_name_table_chart_and_one_line(
    rt: Runtime, peer: Peer, running: Running, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        first = await reconcile(return_state=True)
        assert ended(first)[0] == "Completed"
        async with rt.store.write() as session:
            connection = (
                await session.scalars(select(Connection).order_by(col(Connection.id)))
            ).first()
            assert connection is not None
            session.add(
                Drift(
                    connection_id=connection.id,
                    entity="eam/assets",
                    run_at=utcnow(),
                    webhooks_seen=70,
                )
            )
        await peer.set(
            "records",
            connection=connection.makini_key,
            entity="eam/assets",
            change=20,
            announce=False,
        )
        await peer.set(
            "records",
            connection=connection.makini_key,
            entity="eam/work-orders",
            make=10,
            announce=False,
        )
        again = await reconcile(return_state=True)
        labels, lines = await edges(running, (await running.last()).id, 5)
    assert labels == [
        "measure the webhooks",
        "notify",
        "plan",
        "read default, routine",
        TRUST_PAGE,
    ]
    chain = ["plan", "read default, routine", "measure the webhooks", TRUST_PAGE, "notify"]
    assert lines == set(itertools.pairwise(chain))
    assert await index(rt) == parsed(await peer.truth())
    assert ended(again) == (
        "Completed",
        "4 read, 30 backfilled; in 7 days webhooks missed 30.0%",
    )
    assert (await running.last()).name == "reconcile · 4 read, 30 backfilled"
    table = await running.artifact("webhook-trust")
    assert "| Miss rate | **30.0%** |\n|---|--:|\n| Lost | 30 |\n| Announced | 70 |" in table
    [picture] = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", table)
    drawing = base64.b64decode(picture).decode()
    assert drawing.startswith("<svg")
    assert drawing.count('<rect class="c3"') == 2  # its legend and one bar
    said = [text for text in await slack(peer) if "can't be trusted" in text]
    assert len(said) == 1
    assert "missed 30% (30 of 100 changes)" in said[0]
    with on(clean_prefect):
        await reconcile()
    assert len([text for text in await slack(peer) if "can't be trusted" in text]) == 1


@pytest.mark.repeats(
    "reconcile/test_together.py::test_what_a_run_of_some_connections_finds_is_no_find_of_the_one_beside_it"
)
async def test_what_another_run_found_meanwhile_is_not_in_this_ones_name(
    rt: Runtime, running: Running, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        await reconcile()
        async with rt.store.write() as session:
            found = (await session.scalars(select(Connection))).first()
            assert found is not None
            beside = utcnow() + timedelta(minutes=5)  # a run of some connections, begun later
            row = Drift(connection_id=found.id, entity="eam/assets", run_at=beside, missed=35)
            session.add(row)
        await reconcile()
        assert (await running.last()).name == "reconcile · 4 read"


async def first_connection(rt: Runtime) -> Connection:
    async with rt.store.read() as session:
        found = await session.scalars(select(Connection).order_by(col(Connection.id)))
        return found.first() or pytest.fail("there is none")


@on_both
async def test_each_connection_that_newly_cant_be_read_is_one_failed_task_run_and_red_once(
    rt: Runtime, peer: Peer, running: Running, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        await reconcile()
        async with rt.store.read() as session:
            connection, resting, *_ = await session.scalars(
                select(Connection).order_by(col(Connection.id))
            )
        await operate.begin(
            rt.store,
            "connection",
            resting.id,
            kind="maintenance",
            starts_at=utcnow(),
            lasts=timedelta(hours=1),
            by="Petra",
            reason="",
            now=utcnow(),
        )
        for each in (connection, resting):
            await peer.set(f"connections/{each.makini_key}/change-credentials")
        red = await reconcile(return_state=True)
        run = await running.last()
        assert ended(red)[0] == "Failed"
        assert "1 newly not readable, 1 newly not readable and not announced" in ended(red)[1]
        await peer.set("records", change=20, announce=False)
        again = await reconcile(return_state=True)
        assert ended(again)[0] == "Completed"
    tasks = await running.client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    )
    failed = [task for task in tasks if task.state_name == "Failed"]
    assert len(failed) == 1
    assert connection.provider in failed[0].name


@on_both
async def test_webhooks_that_never_come_are_an_incident_with_the_url_and_the_sweep_bears_it(
    rt: Runtime, peer: Peer, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        await reconcile()
        async with rt.store.read() as session:
            connection = (
                await session.scalars(select(Connection).order_by(col(Connection.id)))
            ).first()
        assert connection is not None
        await peer.set("records", connection=connection.makini_key, change=10, announce=False)
        await reconcile()
        async with rt.store.read() as session:
            [incident] = await session.scalars(
                select(Incident).where(col(Incident.kind) == "webhooks_unconfigured")
            )
        url = f"https://linekeeper.example/webhooks/default/{connection.makini_key}"
        assert incident.detail["url"] == url
        assert any(url in text for text in await slack(peer))
        first = await health_sweep(return_state=True)
        assert ended(first)[0] == "Failed"  # new to the sweep
        second = await health_sweep(return_state=True)
        assert ended(second)[0] == "Completed"


@on_both
@pytest.mark.repeats("flows/test_sweep_flow.py::test_one_connection_is_checked_by_any_of_its_names")
async def test_one_connection_is_read_by_name_and_a_wrong_name_offers_the_nearest(
    rt: Runtime, peer: Peer, running: Running, clean_prefect: PrefectServer
) -> None:
    connection = await first_connection(rt)
    with on(clean_prefect):
        state = await reconcile([connection.makini_key], return_state=True)
        assert ended(state)[0] == "Completed"
        found = await index(rt)
        truth = parsed(await peer.truth())
        assert found == {connection.makini_key: truth[connection.makini_key]}
        await peer.set("records", connection=connection.makini_key, change=6, announce=False)
        state = await reconcile(
            [connection.makini_key],
            entities=["assets", "eam/work-orders"],
            full=True,
            return_state=True,
        )
        assert "6 that no webhook announced" in ended(state)[1]
        wrong = await reconcile([f"{connection.name} typo"], return_state=True)
        assert ended(wrong)[0] == "Refused"
        assert "The nearest" in ended(wrong)[1]
        for again in range(2):  # what is not offered is not asked for again at once
            nobody = await reconcile(
                [connection.makini_key], entities=["eam/pumps"], return_state=True
            )
            assert nobody.name == "Refused", (again, nobody)
            assert "no system that was asked offers eam/pumps" in (nobody.message or "")
        some = await reconcile(
            [connection.makini_key], entities=["eam/pumps", "assets"], return_state=True
        )
        assert some.name == "Completed"
        assert (some.message or "").endswith("; no system that was asked offers eam/pumps")
        none = await reconcile([connection.makini_key], entities=["pumps"], return_state=True)
        assert "no entity is called 'pumps'" in ended(none)[1]


@on_both
async def test_the_pause_stops_it(
    rt: Runtime, peer: Peer, running: Running, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        await running.client.create_variable(VariableCreate(name="linekeeper_paused", value=True))
        state = await reconcile(return_state=True)
        await running.client.delete_variable_by_name("linekeeper_paused")
    assert ended(state)[0] == "Skipped"
    assert await index(rt) == {}
