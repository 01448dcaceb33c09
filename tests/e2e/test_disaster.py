"""The machine is gone: with a backup and the keys a fresh one goes on, beside an empty Prefect.
Or Prefect's database alone is gone: what waits for people comes back from ours.

A whole `linekeeper up` twice over: `make soak` runs it.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.actions import DeploymentUpdate, VariableUpdate
from prefect.client.schemas.objects import FlowRun
from sqlmodel import col, select

import sandbox
from linekeeper.store.tables import Audit, Connection, Customer, Gate, Incident
from tests.e2e.conftest import House, free_ports, started, until

pytestmark = pytest.mark.soak
HOUSEKEEPING = "housekeeping/housekeeping"
TIDY = {"outbox_days": 3}


@asynccontextmanager
async def _up(home: Path, ports: dict[str, int], makini: str) -> AsyncIterator[House]:
    async with started(
        home,
        ports,
        *("--no-sandbox", "--no-schedules"),
        LINEKEEPER_MAKINI_API_URL=makini,
        LINEKEEPER_MAKINI_LINK_URL=makini,
        LINEKEEPER_MAKINI_CLIENT_ID="sandbox-client",
        LINEKEEPER_MAKINI_CLIENT_SECRET="sandbox-secret",
        LINEKEEPER_MAKINI_MODE="manage",
        LINEKEEPER_MAKINI_PER_MINUTE="0",
        LINEKEEPER_PROBE_MINUTES="0",
    ) as house:
        yield house


async def _waiting(house: House, of: str = "incident") -> list[FlowRun]:
    return [
        run
        for run in await house.runs()
        if of in run.parameters and run.state is not None and run.state.is_paused()
    ]


async def _one(house: House, table: Any, **where: object) -> Any:
    async with house.store() as store, store.read() as session:
        conditions = [col(getattr(table, name)) == value for name, value in where.items()]
        return (await session.scalars(select(table).where(*conditions))).first()


async def test_a_fresh_machine_goes_on_where_the_old_one_stopped(tmp_path: Path) -> None:
    ports = free_ports("prefect", "receiver")
    backup, keys = tmp_path / "backup", tmp_path / "keys"
    box = sandbox.Settings(port=0, connections=8, records_per_connection=10)
    async with sandbox.serving(box) as fleet:
        ports["sandbox"] = int(fleet.url.rsplit(":", 1)[1])
        async with _up(tmp_path / "old", ports, fleet.url) as old:
            await old.trigger("health-sweep")
            csv = "name,contacts,owner\n"
            customer = await _one(old, Customer)
            csv += f"{customer.name},Ann <ann@acme.example>,Petra\n"
            await old.trigger("import-customers", csv=csv, by="Petra", dry_run=False)
            connection = await _one(old, Connection, health="healthy", setup="live")
            await old.control(f"connections/{connection.makini_key}/change-credentials")
            await old.trigger("health-sweep")
            [run] = await until(lambda: _waiting(old), seconds=400, what="the run that waits")
            incident = run.parameters["incident"]
            await old.trigger("acknowledge", incident=incident, by="Petra")
            async with old.prefect() as client:
                house = await client.read_deployment_by_name(HOUSEKEEPING)
                await client.update_deployment(house.id, DeploymentUpdate(parameters=TIDY))
                await client.update_variable(VariableUpdate(name="linekeeper_paused", value=False))
            code, said = await old.linekeeper("backup", str(backup))
            assert code == 0, said
            assert "as of now" in said
            shutil.copy(tmp_path / "old" / "encryption-keys", keys)
        shutil.rmtree(tmp_path / "old")

        (tmp_path / "new").mkdir()
        shutil.copy(keys, tmp_path / "new" / "encryption-keys")
        said = await _command(tmp_path / "new", "restore", str(backup))
        assert "restored" in said
        async with _up(tmp_path / "new", ports, fleet.url) as new:
            async with new.prefect() as client:
                house = await client.read_deployment_by_name(HOUSEKEEPING)
                assert house.parameters == TIDY
            found = await _one(new, Incident, id=incident)
            assert (found.status, found.acknowledged_by) == ("acknowledged", "Petra")
            assert (await _one(new, Customer, id=customer.id)).owner == "Petra"
            assert await _one(new, Audit, action="backup.restored") is not None

            await new.trigger("health-sweep")
            [again] = await until(lambda: _waiting(new), seconds=400, what="the run to wait again")
            assert again.parameters["incident"] == incident

            await new.control(f"connections/{connection.makini_key}/restore-credentials")
            await new.trigger("health-sweep")
            over = await new.ended(again.id, seconds=400)
            assert over.state is not None
            assert over.state.name == "Reconnected", over.state.message
            assert (await _one(new, Incident, id=incident)).resolved_at is not None


async def test_prefects_database_is_lost_and_all_that_waits_for_people_waits_again_once(
    tmp_path: Path,
) -> None:
    ports = free_ports("prefect", "receiver")
    home = tmp_path / "home"
    box = sandbox.Settings(port=0, connections=8, records_per_connection=10)
    async with sandbox.serving(box) as fleet:
        ports["sandbox"] = int(fleet.url.rsplit(":", 1)[1])
        async with _up(home, ports, fleet.url) as house:
            await house.trigger("health-sweep")
            connection = await _one(house, Connection, health="healthy", setup="live")
            await house.control(f"connections/{connection.makini_key}/change-credentials")
            await house.trigger("health-sweep")
            [login] = await until(lambda: _waiting(house), seconds=400, what="the login's run")
            started = await house.trigger(
                "implementation",
                customer="Zenith Tools",
                systems=[{"name": "UpKeep"}],
                kickoff=date.today().isoformat(),  # noqa: DTZ011  the form's own idea of a day
                owner="Petra",
                by="Petra",
            )
            assert started.state is not None
            assert started.state.is_paused(), started.state.message
            [gate] = await until(lambda: _waiting(house, "gate"), seconds=400, what="the gate")
            async with house.prefect() as client:
                tidy = await client.read_deployment_by_name(HOUSEKEEPING)
                await client.update_deployment(tidy.id, DeploymentUpdate(parameters=TIDY))
            code, said = await house.linekeeper("deploy")  # it keeps in mind what was set
            assert code == 0, said
        shutil.rmtree(home / "prefect")

        async with _up(home, ports, fleet.url) as house:
            assert await house.runs() == []
            async with house.prefect() as client:
                tidy = await client.read_deployment_by_name(HOUSEKEEPING)
                assert tidy.parameters == TIDY
            for _ in range(2):  # the second finds nothing left to start
                await house.trigger("health-sweep")
                await house.trigger("advance-implementations")
                [again] = await until(lambda: _waiting(house), seconds=400, what="the login's run")
                [asks] = await until(lambda: _waiting(house, "gate"), seconds=400, what="the gate")
            assert again.parameters["incident"] == login.parameters["incident"]
            assert asks.parameters["gate"] == gate.parameters["gate"]
            assert (again.name, asks.name) == (login.name, gate.name)

            answer = {"outcome": "done", "evidence": "minutes", "by": "Petra"}
            async with house.prefect() as client:
                await client.resume_flow_run(asks.id, run_input=answer)
            over = await house.ended(asks.id, seconds=400)
            assert over.state is not None
            assert over.state.is_completed(), over.state.message
            assert (await _one(house, Gate, id=gate.parameters["gate"])).evidence == "minutes"
            await house.control(f"connections/{connection.makini_key}/restore-credentials")
            await house.trigger("health-sweep")
            over = await house.ended(again.id, seconds=400)
            assert over.state is not None
            assert over.state.name == "Reconnected", over.state.message


async def _command(home: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "linekeeper.cli", *arguments),
        env={**os.environ, "LINEKEEPER_HOME": str(home)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode()
