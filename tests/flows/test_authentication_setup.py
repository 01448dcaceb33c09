"""Setting up a login: one run that asks, waits for the customer, verifies the token by a read.

A worker's part is played here: the run is executed as a worker's process executes it.
"""

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from pydantic import SecretStr
from sqlmodel import col, select

import sandbox
from flows.authentication_setup import authentication_setup
from linekeeper.access.callback import finish
from linekeeper.access.links import make_state, redirect_uri
from linekeeper.access.signing import load_signer
from linekeeper.authentication_setup.watch import watch
from linekeeper.clock import utcnow
from linekeeper.implementation.answer import GateAnswer, answer
from linekeeper.implementation.order import Form
from linekeeper.implementation.start import start
from linekeeper.implementation.successor import restart_lost
from linekeeper.preflight.evidence import keep
from linekeeper.preflight.run import PreflightVerdicts
from linekeeper.preflight.verdict import Verdict
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import (
    Audit,
    AuthenticationSetup,
    Connection,
    ConnectLink,
    Gate,
    Outbox,
)
from linekeeper.sweep.sweep import take_list
from linekeeper.text import health_name
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.delivering import deliver_runs
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import begin, edges, work
from tests.newest_runs import newest_runs

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    on_both,
]
CHAIN = [
    "technical requirements",
    "link made",
    "customer asked",
    "login",
    "token verified",
    "first status",
]
PUBLIC_URL = "http://127.0.0.1:18099"
"""Makini Link sends the browser back there; nobody has to listen."""
TARGET = "erp.acme.example:44300"


@pytest.fixture
async def box(running: Running, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[sandbox.Served]:
    """A Makini whose customers can log in."""
    settings = sandbox.Settings(
        port=0, connections=1, records_per_connection=10, per_minute=0, scenario="quiet"
    )
    async with sandbox.serving(settings) as served:
        for name, value in {
            "MAKINI_API_URL": served.url,
            "MAKINI_LINK_URL": served.url,
            "MAKINI_CLIENT_ID": settings.client_id,
            "MAKINI_CLIENT_SECRET": settings.client_secret,
            "MAKINI_MODE": "manage",
            "MAKINI_PER_MINUTE": "0",
            "PUBLIC_URL": PUBLIC_URL,
        }.items():
            monkeypatch.setenv(f"LINEKEEPER_{name}", value)
        yield served


@pytest.fixture
async def rt(settings: Settings, store: Store, box: sandbox.Served) -> AsyncIterator[Runtime]:
    """A runtime beside the flow's, to look with."""
    managed = settings.model_copy(
        update={
            "makini_api_url": box.url,
            "makini_link_url": box.url,
            "makini_client_id": box.world.settings.client_id,
            "makini_client_secret": SecretStr(box.world.settings.client_secret),
            "makini_mode": "manage",
            "makini_per_minute": 0,
            "public_url": PUBLIC_URL,
        }
    )
    async with Runtime.open(managed) as opened:
        yield opened


async def woken(running: Running, rt: Runtime, settings: Settings, run: FlowRun) -> FlowRun:
    """The consumer looks, finds that the run has something to do, and a worker takes it."""
    assert await watch(rt, now=utcnow()) == 1
    async with PrefectOrchestrator.open(settings) as orchestrator:
        await deliver_runs(rt.store, orchestrator, "test")
    return await work(running, authentication_setup, run.id)


async def answered(running: Running, run: FlowRun, **given: str) -> FlowRun:
    await running.client.resume_flow_run(run.id, run_input={"by": "Olaf", **given})
    return await work(running, authentication_setup, run.id)


async def rows(rt: Runtime, table: Any, *where: Any) -> list[Any]:
    async with rt.store.read() as session:
        return list(await session.scalars(select(table).where(*where).order_by(col(table.id))))


async def arriving(rt: Runtime, box: sandbox.Served) -> Connection:
    """A connection of Makini's list to which nobody has logged in yet."""
    made = box.world.create(
        name="Acme Metals", email="it@acme.example", provider="upkeep", pending=True
    )
    await take_list(rt, await rt.app("default"), now=utcnow())
    found: Connection
    [found] = await rows(rt, Connection, col(Connection.makini_key) == made.key)
    return found


async def asked(running: Running, connection: Connection) -> FlowRun:
    """A run that has asked the customer of `connection`, and waits for the login."""
    run = await begin(
        running,
        authentication_setup,
        connection=connection.makini_key,
        requirements_confirmed=True,
        by="Olaf",
    )
    assert run.name.endswith("waits for the customer's login"), run.state
    return run


async def log_in(rt: Runtime, box: sandbox.Served, link: ConnectLink, choice: str) -> str:
    """The customer goes through Makini Link by the link's page; how it ended."""
    state = make_state(await load_signer(rt.store), link.id, now=utcnow())
    form = {
        "response_type": "code",
        "client_id": box.world.settings.client_id,
        "redirect_uri": redirect_uri(PUBLIC_URL),
        "state": state,
        "connection": choice,
        "username": "pat",
        "password": "new",
        "answer": "approve",
    }
    async with httpx.AsyncClient(base_url=box.url) as http:
        sent = await http.post("/oauth/authorize", data=form)
    assert sent.status_code == 302, sent.text
    back = parse_qs(urlsplit(sent.headers["location"]).query)
    ended = await finish(
        rt, code=back["code"][0], state=back["state"][0], denied=False, now=utcnow()
    )
    return ended.how


async def test_a_login_is_set_up_in_one_graph_across_its_suspensions(
    rt: Runtime,
    box: sandbox.Served,
    running: Running,
    settings: Settings,
    clean_prefect: PrefectServer,
) -> None:
    one = await arriving(rt, box)
    with on(clean_prefect):
        run = await begin(running, authentication_setup, connection=one.makini_key, by="Olaf")
        assert run.state is not None
        assert run.state.is_paused(), run.state
        assert run.name.endswith("waits for the technical requirements")
        assert not await rows(rt, ConnectLink)

        run = await answered(running, run, decision="confirmed", note="they have a user")
        assert run.name.endswith("waits for the customer's login"), run.state
        [setup] = await rows(rt, AuthenticationSetup)
        assert setup.confirmed_by == "Olaf"
        [link] = await rows(rt, ConnectLink)
        assert link.connection_id == one.id
        shown = await running.artifact(f"connect-link-{setup.id}")
        assert f"{PUBLIC_URL}/connect/" in shown
        assert "pass it on" in shown
        await edges(running, run.id, 3)  # the server records task runs a little later
        assert await watch(rt, now=utcnow()) == 0  # nothing has happened

        assert await log_in(rt, box, link, one.makini_key) == "done"
        run = await woken(running, rt, settings, run)
    assert run.state is not None
    assert run.state.name == "Completed", run.state
    [connection] = await rows(rt, Connection, col(Connection.id) == one.id)
    assert health_name(connection.health) in str(run.state.message)
    assert connection.last_read_at is not None
    [setup] = await rows(rt, AuthenticationSetup)
    assert setup.outcome == "connected"
    assert setup.verified_at == connection.last_read_at
    labels, lines = await edges(running, run.id, len(CHAIN))
    assert labels == sorted(CHAIN)
    assert lines == set(itertools.pairwise(CHAIN))


@pytest.mark.repeats(
    "flows/test_work_of_gates.py::test_an_implementation_sets_up_its_login_and_configures_its_connection",
    "implementation/test_evaluate.py::test_at_the_kickoff_only_the_kickoff_opens",
)
async def test_a_system_of_an_implementation_waits_for_kickoff_and_preflight(
    rt: Runtime,
    box: sandbox.Served,
    running: Running,
    settings: Settings,
    clean_prefect: PrefectServer,
) -> None:
    form = Form(
        customer="Acme",
        systems=["SAP ECC"],
        complexity="standard",
        kickoff=utcnow().date(),
        hosting="on-premises",
        targets=[TARGET],
        owner="Petra",
        by="Petra",
    )
    started = await start(rt.store, form, now=utcnow())
    title = started.progress.standing.implementation.title
    with on(clean_prefect):
        run = await begin(running, authentication_setup, implementation=title, by="Olaf")
        assert run.name.endswith("waits for the technical requirements"), run.state
        [kickoff] = await rows(rt, Gate, col(Gate.gate) == "kickoff")
        said = GateAnswer("done", evidence="list signed", by="Petra")
        await answer(rt.store, kickoff.id, said, number=kickoff.answers, run_id=None, now=utcnow())
        run = await woken(running, rt, settings, run)
        assert run.name.endswith("waits for preflight"), run.state
        await edges(running, run.id, 1)
        assert not await rows(rt, ConnectLink)

        seen = (Verdict(TARGET, "inside", "tcp", "finding", "closed"),)
        await kept(rt, seen, minutes_ago=2)
        assert await watch(rt, now=utcnow()) == 0  # a finding proves nothing
        await kept(rt, (Verdict(TARGET, "inside", "tcp", "ok", "open"),), minutes_ago=1)
        run = await woken(running, rt, settings, run)
        assert run.name.endswith("waits for the customer's login"), run.state
        await edges(running, run.id, 4)  # before it is resumed
        [setup] = await rows(rt, AuthenticationSetup)
        assert setup.confirmed_by == "Petra"
        [link] = await rows(rt, ConnectLink)
        assert (link.connection_id, link.system) == (None, "SAP ECC")
        assert await log_in(rt, box, link, "new:sap-ecc") == "done"
        run = await woken(running, rt, settings, run)
    assert run.state is not None
    assert run.state.name == "Completed", run.state
    chain = [CHAIN[0], "preflight", *CHAIN[1:]]
    labels, lines = await edges(running, run.id, len(chain))
    assert labels == sorted(chain)
    assert lines == set(itertools.pairwise(chain))


async def kept(rt: Runtime, verdicts: tuple[Verdict, ...], *, minutes_ago: int) -> None:
    at = utcnow() - timedelta(minutes=minutes_ago)
    report = PreflightVerdicts("inside", at, (TARGET,), verdicts)
    await keep(rt.store, report, source="import", by="Acme", now=utcnow())


async def test_a_person_sends_again_or_ends_it_and_a_later_run_replaces(
    rt: Runtime,
    box: sandbox.Served,
    running: Running,
    settings: Settings,
    clean_prefect: PrefectServer,
) -> None:
    connection = await arriving(rt, box)
    with on(clean_prefect):
        first = await asked(running, connection)
        await edges(running, first.id, 3)
        first = await answered(running, first, decision="send again", note="mail got lost")
        old, new = await rows(rt, ConnectLink)
        assert old.expires_at <= utcnow() < new.expires_at
        labels, lines = await edges(running, first.id, 5)
        again = ["customer asked", "link made again 1", "customer asked again 1"]
        assert labels == sorted([*CHAIN[:3], *again[1:]])
        assert set(itertools.pairwise(again)) <= lines

        second = await asked(running, connection)
        async with PrefectOrchestrator.open(settings) as orchestrator:
            await deliver_runs(rt.store, orchestrator, "test")
        first = await work(running, authentication_setup, first.id)
        assert first.state is not None
        assert first.state.name == "Replaced"
        second = await answered(running, second, decision="not needed")
        assert second.state is not None
        assert second.state.name == "Not needed"
        third = await answered(running, await asked(running, connection), decision="give up")
        assert third.state is not None
        assert third.state.is_failed()
    assert all(link.expires_at <= utcnow() for link in await rows(rt, ConnectLink))
    decisions = [
        audit.detail["decision"]
        for audit in await rows(rt, Audit, col(Audit.action) == "setup.answered")
    ]
    assert decisions == ["send again", "not needed", "give up"]


async def test_a_lost_set_up_that_no_gate_asks_for_goes_on_in_another_run(
    rt: Runtime,
    box: sandbox.Served,
    running: Running,
    settings: Settings,
    clean_prefect: PrefectServer,
) -> None:
    connection = await arriving(rt, box)
    with on(clean_prefect):
        first = await asked(running, connection)
        [link] = await rows(rt, ConnectLink)
        [setup] = await rows(rt, AuthenticationSetup)
        [said] = await rows(rt, Outbox, col(Outbox.dedupe_key).like("slack:say:setup:%"))
        assert said.payload["page"] == f"connect-link-{setup.id}", "who reads it needs the link"
        await edges(running, first.id, 3)
        await running.client.delete_flow_run(first.id)
        lost_at = utcnow()
        alive: set[str] = set()
        assert await restart_lost(rt.store, {str(first.id)}, before=lost_at, now=lost_at) == 0
        assert await restart_lost(rt.store, alive, before=lost_at, now=lost_at) == 1
        assert await restart_lost(rt.store, alive, before=lost_at, now=lost_at) == 0
        async with PrefectOrchestrator.open(settings) as orchestrator:
            await deliver_runs(rt.store, orchestrator, "test")
        [run] = [
            found
            for found in await newest_runs(running.client)
            if (found.idempotency_key or "").startswith(f"after:{first.id}:")
        ]
        run = await work(running, authentication_setup, run.id)
        assert run.name.endswith("waits for the customer's login"), run.state
        [same] = await rows(rt, ConnectLink)
        assert same.id == link.id, "the link that was passed on still works"
        assert await log_in(rt, box, link, connection.makini_key) == "done"
        run = await woken(running, rt, settings, run)
    assert run.state is not None
    assert run.state.is_completed(), run.state
    labels, lines = await edges(running, run.id, len(CHAIN))
    assert labels == sorted(CHAIN)
    assert lines == set(itertools.pairwise(CHAIN))
