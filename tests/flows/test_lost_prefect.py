"""Prefect's database is lost, ours is not: what waits for people waits again, once."""

import io
from pathlib import Path

import pytest
from prefect.client.orchestration import PrefectClient
from rich.console import Console
from sqlmodel import col, select

from linekeeper.backup import back_up, restore
from linekeeper.cli.deploy import deploy
from linekeeper.clock import utcnow
from linekeeper.reconnect.ask import advance_case
from linekeeper.reconnect.process import take_up
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.engine import encryption_keys
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Reconnect,
)
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tasks.reconnect_runs import watch_runs
from tasks.run import open_runtime
from tests.cli.few import few
from tests.databases import Engine
from tests.delivering import deliver_runs
from tests.fixtures_prefect import PrefectServer, forget_everything
from tests.flows.conftest import Running, on, on_both
from tests.newest_runs import newest_runs

__all__ = ["few"]
pytestmark = [
    on_both,
    pytest.mark.usefixtures("few"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


async def lost_logins(rt: Runtime, count: int) -> list[str]:
    """Open incidents of lost logins, each with its case."""
    incidents = []
    async with rt.store.write() as session:
        for number in range(count):
            customer = Customer(name=f"C{number}", slug=f"c{number}")
            session.add(customer)
            await session.flush()
            connection = Connection(
                app="default",
                makini_key=f"k{number}",
                customer_id=customer.id,
                name="SAP",
                slug=f"c{number}-sap",
                provider="sap",
                setup="live",
                health="reauthorization_required",
            )
            incident = Incident(
                kind=connection.health,
                scope="connection",
                cause=f"c:{number}",
                app="default",
                title=f"C{number} · SAP must log in",
            )
            session.add_all([connection, incident])
            await session.flush()
            session.add(
                IncidentConnection(
                    incident_id=incident.id, connection_id=connection.id, kind=incident.kind
                )
            )
            incidents.append(incident.id)
    for one in incidents:
        await advance_case(rt, one, now=utcnow())
    return incidents


async def waiting(server: PrefectServer) -> list[str]:
    """The incidents of the unfinished reconnect runs on the server."""
    async with PrefectClient(server.api_url) as client:
        runs = await newest_runs(client)
    return sorted(
        str(run.parameters["incident"])
        for run in runs
        if "incident" in run.parameters and not (run.state and run.state.is_final())
    )


async def lose(server: PrefectServer) -> None:
    """What a new, empty server of Prefect amounts to: what is over there, nobody asks for."""
    async with PrefectClient(server.api_url) as client:
        for run in await newest_runs(client):
            if run.state is None or not run.state.is_final():
                await client.delete_flow_run(run.id)
    await forget_everything(server)


async def test_after_a_restore_beside_an_empty_prefect_every_waiting_run_is_there_again_once(
    settings: Settings,
    store: Store,
    running: Running,
    clean_prefect: PrefectServer,
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await lose(clean_prefect)
    settings = settings.model_copy(update={"prefect_port": clean_prefect.port})
    await deploy(settings, reset=False, console=Console(file=io.StringIO()))
    async with (
        Runtime.open(settings) as rt,
        PrefectOrchestrator.open(settings) as orchestrator,
    ):
        begun, not_begun = await lost_logins(rt, 2)
        while await deliver_runs(store, orchestrator, rt.owner):
            pass
        assert await waiting(clean_prefect) == sorted([begun, not_begun])
        # One of the two has begun and waits, as far as our database knows.
        await take_up(rt, begun, new_id(), now=utcnow())
    await back_up(store, tmp_path / "b", encryption_keys(settings), now=utcnow())

    await lose(clean_prefect)
    monkeypatch.delenv("LINEKEEPER_DATABASE_URL")
    fresh = await engine.make(tmp_path / "fresh")
    fresh = fresh.model_copy(update={"prefect_port": clean_prefect.port})
    monkeypatch.setenv("LINEKEEPER_HOME", str(fresh.home))
    monkeypatch.setenv("LINEKEEPER_DATABASE_URL", fresh.resolved_database_url)
    async with Store.open(fresh) as restored:
        await restore(restored, tmp_path / "b", by="me", now=utcnow())
        await deploy(fresh, reset=False, console=Console(file=io.StringIO()))
        with on(clean_prefect):
            async with open_runtime() as rt, PrefectOrchestrator.open(fresh) as orchestrator:
                assert await watch_runs() == 2
                while await deliver_runs(rt.store, orchestrator, rt.owner):
                    pass
                assert await waiting(clean_prefect) == sorted([begun, not_begun])
                assert await watch_runs() == 0
        async with restored.read() as session:
            cases = await session.scalars(select(Reconnect).where(col(Reconnect.run_id).is_(None)))
            assert [case.run_generation for case in cases] == [2, 2]
    await engine.drop(fresh)
