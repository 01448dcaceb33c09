"""A new operator has the docs and nothing else: from the installation to everything back after a
loss, in a checkout of their own, with the commands as the pages give them.

It installs the project anew and starts it three times: `make soak` runs it.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect
from prefect.client.schemas.actions import (
    BlockDocumentCreate,
    BlockDocumentUpdate,
    DeploymentUpdate,
)
from prefect.client.schemas.objects import FlowRun
from sqlalchemy import select
from sqlmodel import SQLModel, col

from linekeeper.store.tables import Connection, Customer, Gate, Incident
from tests.e2e.conftest import ROOT, House, free_ports, until
from tests.e2e.terminal import Operator, terminal

pytestmark = [pytest.mark.soak, pytest.mark.e2e]

LIVE = ".linekeeper-live"
BACKUP = "linekeeper.backup"
MOVES_ON = {"lease", "app_state", "app_setting", "open_process", "part_heartbeat"}
"""Tables that parts write by themselves while they run, whatever becomes of the fleet."""


@asynccontextmanager
async def running(operator: Operator, ports: dict[str, int]) -> AsyncIterator[House]:
    """`make up` until it says `ready`."""
    operator.reads("index.md", "make up")
    async with terminal(operator, "make up", "ready in") as process:
        home = operator.place / operator.environment["LINEKEEPER_HOME"]
        house = House(home, ports, operator.environment, process)
        async with httpx.AsyncClient(timeout=60) as house.http:
            yield house


def checkout(place: Path) -> None:
    """What somebody who clones the project has."""
    notified = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(notified, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)


async def set_block(house: House, kind: str, **fields: object) -> None:
    """Edit a block as its page in the Prefect UI does."""
    async with house.prefect() as client:
        found = await client.read_block_document_by_name("default", kind)
        await client.update_block_document(found.id, BlockDocumentUpdate(data=dict(fields)))


async def new_block(house: House, kind: str, **fields: object) -> None:
    """Fill in a block as its page in the Prefect UI does."""
    async with house.prefect() as client:
        block_type = await client.read_block_type_by_slug(kind)
        schema = await client.get_most_recent_block_schema_for_block_type(block_type.id)
        assert schema is not None
        await client.create_block_document(
            BlockDocumentCreate(
                name="default",
                data=dict(fields),
                block_schema_id=schema.id,
                block_type_id=block_type.id,
            )
        )


async def sends(house: House, deployment: str, **parameters: object) -> FlowRun:
    """Send a form; its run, ended."""
    async with house.prefect() as client:
        found = await client.read_deployment_by_name(f"{deployment}/{deployment}")
        run = await client.create_flow_run_from_deployment(found.id, parameters=parameters)
    return await house.ended(run.id, seconds=300)


async def ends(house: House, deployment: str, state: str, **parameters: object) -> None:
    """Send a form; its run ends in this state."""
    run = await sends(house, deployment, **parameters)
    assert run.state is not None
    assert run.state.name == state, (deployment, run.state.message)


async def everything(house: House) -> dict[str, list[dict[str, Any]]]:
    """Every row of the database, by table."""
    found: dict[str, list[dict[str, Any]]] = {}
    async with house.store() as store, store.read() as session:
        for table in SQLModel.metadata.sorted_tables:
            if table.name not in MOVES_ON:
                rows = await session.execute(select(table))
                found[table.name] = sorted((dict(row) for row in rows.mappings()), key=str)
    found["audit"] = [row for row in found["audit"] if not row["action"].startswith("backup.")]
    return found


async def backs_up(operator: Operator, house: House) -> dict[str, list[dict[str, Any]]]:
    """A backup of a moment in which nothing else happened; what was there then."""
    for _ in range(20):
        before = await everything(house)
        await operator.types("backup.md", f"linekeeper backup {BACKUP}")
        if await everything(house) == before:
            return before
    raise AssertionError("it was never quiet")


async def one(house: House, statement: Any) -> Any:
    async with house.store() as store, store.read() as session:
        return (await session.scalars(statement)).first()


async def waiting(house: House, **parameters: object) -> Any:
    """The suspended run with these parameters."""

    async def suspended() -> Any:
        return next(
            (
                run
                for run in await house.runs(state="Suspended")
                if parameters.items() <= run.parameters.items()
            ),
            None,
        )

    return await until(suspended, what=f"the run of {parameters} to wait", seconds=300)


async def test_from_the_docs_alone_to_everything_back_after_a_loss(
    tmp_path: Path, page: Page
) -> None:
    place = tmp_path / "linekeeper"
    checkout(place)
    ports = free_ports("prefect", "receiver", "sandbox")
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LINEKEEPER_"))
    }
    operator = Operator(
        place,
        {
            **inherited,
            "PATH": f"{place}/.venv/bin:{inherited['PATH']}",
            "DO_NOT_TRACK": "1",
            **{f"LINEKEEPER_{part.upper()}_PORT": str(port) for part, port in ports.items()},
        },
    )
    makini = f"http://127.0.0.1:{ports['sandbox']}"
    hooks = f"http://127.0.0.1:{ports['receiver']}/webhooks/default"

    await operator.does("make install")
    rehearsal = "linekeeper sandbox --scenario quiet --webhook-url "
    operator.reads("index.md", rehearsal + "http://127.0.0.1:8642/webhooks/default")
    async with terminal(operator, rehearsal + hooks, "sandbox"):
        operator.exports(
            "index.md",
            "export LINEKEEPER_MAKINI_API_URL=http://127.0.0.1:8643 "
            "LINEKEEPER_MAKINI_LINK_URL=http://127.0.0.1:8643",
            LINEKEEPER_MAKINI_API_URL=makini,
            LINEKEEPER_MAKINI_LINK_URL=makini,
        )
        for line in (
            "export LINEKEEPER_MAKINI_CLIENT_ID=sandbox-client "
            "LINEKEEPER_MAKINI_CLIENT_SECRET=sandbox-secret",
            "export LINEKEEPER_MAKINI_WEBHOOK_SECRETS=sandbox-webhook-secret",
            f"export LINEKEEPER_HOME={LIVE}",
        ):
            operator.exports("index.md", line)
        async with running(operator, ports) as house:
            await observes(operator, house)
            key = await manages(operator, house)
            connection, link = await has_an_incident(operator, house)
            gate = await starts_an_implementation(house)
            before = await operator.types("index.md", "linekeeper status")
            rows = await backs_up(operator, house)
            shutil.copy(place / LIVE / "encryption-keys", tmp_path / "keys")
        shutil.rmtree(place / LIVE)

        (place / LIVE).mkdir()
        shutil.copy(tmp_path / "keys", place / LIVE / "encryption-keys")
        said = await operator.types("backup.md", f"linekeeper restore {BACKUP}")
        assert "restored" in said
        back = await everything(House(place / LIVE, ports, operator.environment, None))  # type: ignore[arg-type]
        assert back == rows

        async with running(operator, ports) as house:
            after = await operator.types("index.md", "linekeeper status")
            assert _counts(after) == _counts(before)
            await finds_what_was_set(house, key)
            await ends(house, "advance-implementations", "Completed")
            await sends(house, "health-sweep")
            assert (await waiting(house, gate=gate)).name.endswith("requirements")
            await the_customer_logs_in(house, page, connection, link)


def _counts(said: str) -> list[str]:
    """The numbers of `linekeeper status` that don't move by themselves: its first line."""
    return re.findall(r"\d+ \w+", said.splitlines()[0])


async def observes(operator: Operator, house: House) -> None:
    """The fleet is adopted; nothing is written at Makini."""
    await ends(house, "health-sweep", "Completed")
    code = await one(house, select(Connection).where(col(Connection.setup) == "live"))
    assert code is not None
    async with house.store() as store, store.read() as session:
        names = sorted(await session.scalars(select(col(Customer.name))))
    rows = [f'"{name}",Ann <ann{n}@customer.example>,Petra' for n, name in enumerate(names)]
    (operator.place / "customers.csv").write_text("\n".join(["name,contacts,owner", *rows]) + "\n")
    said = await operator.types("index.md", "linekeeper customer import customers.csv")
    assert f"{len(names)} changed" in said
    calls = (await house.http.get(f"{house.url('sandbox')}/_control/calls")).json()
    assert calls["calls"]
    assert calls["writes"] == 0, calls
    await operator.types("index.md", "linekeeper audit")


async def manages(operator: Operator, house: House) -> str:
    """Slack is told, `manage` is on, the product has a key, housekeeping is as they like it."""
    slack = f"{house.url('sandbox')}/slack/api/"
    await new_block(
        house, "slack-channel", bot_token="xoxb-sandbox", channel="linekeeper", api_url=slack
    )
    await set_block(house, "makini-app", mode="manage")
    async with house.prefect() as client:
        tidy = await client.read_deployment_by_name("housekeeping/housekeeping")
        await client.update_deployment(tidy.id, DeploymentUpdate(parameters={"outbox_days": 3}))

    async def managed() -> bool:
        await sends(house, "health-sweep")
        calls = (await house.http.get(f"{house.url('sandbox')}/_control/calls")).json()
        return bool(calls["writes"])

    await until(managed, what="the first token to be minted", seconds=400)
    await ends(house, "doctor", "Completed", test_message="Hello")
    said = await operator.types("product.md", "linekeeper key add product")
    return said.split()[-1]


async def has_an_incident(operator: Operator, house: House) -> tuple[Connection, str]:
    """A login is lost and somebody has it; the connection, and the customer's link."""
    connection = await one(
        house,
        select(Connection).where(
            col(Connection.setup) == "live", col(Connection.health) == "healthy"
        ),
    )
    await house.control(f"connections/{connection.makini_key}/change-credentials")
    incident = await until(
        lambda: one(house, select(Incident).where(col(Incident.cause).contains(connection.id))),
        what="the incident",
        seconds=90,
    )
    await sends(house, "health-sweep")
    assert await house.runs(state="Failed")
    await waiting(house, incident=incident.id)
    await ends(house, "acknowledge", "Completed", incident=incident.id, by="Petra")

    async def notified() -> Any:
        return re.search(r"http://[^\s|>\"]+/connect/[\w.-]+", json.dumps(await house.slack()))

    return connection, (await until(notified, what="the link in Slack", seconds=90))[0]


async def starts_an_implementation(house: House) -> str:
    """One begins, and its first gate waits for a person; the gate's id."""
    today = date.today()  # noqa: DTZ011  the form's own idea of a day
    run = await house.trigger(
        "implementation",
        customer="Zenith Tools",
        systems=[{"name": "UpKeep"}],
        kickoff=today.isoformat(),
        committed=(today + timedelta(days=30)).isoformat(),
        owner="Petra",
        by="Petra",
    )
    assert run.state is not None
    assert run.state.name == "Suspended", run.state.message
    gate = await one(house, select(Gate).where(col(Gate.gate) == "kickoff"))
    await waiting(house, gate=gate.id)
    return str(gate.id)


async def finds_what_was_set(house: House, key: str) -> None:
    """What was set in the Prefect UI, and the product's key."""
    async with house.prefect() as client:
        app = await client.read_block_document_by_name("default", "makini-app")
        slack = await client.read_block_document_by_name("default", "slack-channel")
        tidy = await client.read_deployment_by_name("housekeeping/housekeeping")
    assert app.data["mode"] == "manage"
    assert slack.data["channel"] == "linekeeper"
    assert tidy.parameters == {"outbox_days": 3}
    answer = await house.http.get(
        f"{house.url('receiver')}/api/connections", headers={"Authorization": f"Bearer {key}"}
    )
    assert answer.status_code == 200
    assert len(answer.json()["data"]) == 24


async def the_customer_logs_in(house: House, page: Page, connection: Connection, link: str) -> None:
    """The link sent before the loss works; the run that waits again closes the incident."""
    incident = await one(house, select(Incident).where(col(Incident.cause).contains(connection.id)))
    assert (incident.status, incident.acknowledged_by) == ("acknowledged", "Petra")
    run = await waiting(house, incident=incident.id)
    await page.goto(link)
    await page.get_by_role("link", name=re.compile("Log in to")).click()
    await page.get_by_label("System").select_option(connection.makini_key)
    await page.get_by_label("User name").fill("pat")
    await page.get_by_label("Password").fill("the new one")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Done, thank you")
    over = await house.ended(run.id, seconds=300)
    assert over.state is not None
    assert over.state.name == "Reconnected", over.state.message
    closed = await one(house, select(Incident).where(col(Incident.id) == incident.id))
    assert closed.resolved_at is not None
