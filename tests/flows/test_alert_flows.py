"""maintenance-window and digest, run as Prefect runs them."""

import pytest
from prefect.client.schemas.objects import State
from pydantic import SecretStr
from sqlalchemy import select

from flows.digest import digest
from flows.maintenance_window import maintenance_window
from linekeeper.clock import utcnow
from linekeeper.config import SlackConfig
from linekeeper.incidents.announce import announce
from linekeeper.incidents.lifecycle import IncidentChange
from linekeeper.orchestrator import Blocks
from linekeeper.store import Store, new_id
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import (
    Audit,
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Silence,
)
from sandbox import Settings as SandboxSettings
from sandbox import serving
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import edges

pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]


@pytest.fixture
async def acme(store: Store) -> str:
    """A connection of Acme; its id."""
    customer = Customer(name="Acme", slug="acme", owner="Petra")
    connection = Connection(
        app="default",
        makini_key="k1",
        customer_id=customer.id,
        name="SAP ECC",
        slug="acme-sap-ecc",
        provider="SAP ECC",
        setup="live",
    )
    async with store.write() as session:
        session.add(customer)
        await session.flush()
        session.add(connection)
    return connection.id


def said(state: State[object]) -> str:
    return f"{state.name}: {state.message}"


async def test_a_window_is_begun_and_ended_by_the_form(
    running: Running, store: Store, clean_prefect: PrefectServer, acme: str
) -> None:
    with on(clean_prefect):
        begun = await maintenance_window(
            "connection",
            by="Petra",
            subject="acme · sap ecc",
            hours=3,
            reason="patch day",
            return_state=True,
        )
        assert said(begun).startswith("Completed: maintenance: Acme · SAP ECC (1 connection) from")
        assert (await running.last()).name.startswith("maintenance-window · Acme · SAP ECC until")
        muted = await maintenance_window(
            "provider", by="Petra", subject="sap ecc", action="mute", return_state=True
        )
        assert said(muted).startswith("Completed: muted: SAP ECC")
        wrong = await maintenance_window("customer", by="Petra", subject="Amce", return_state=True)
        assert said(wrong).startswith("Refused: ")
        assert "The nearest: Acme" in said(wrong)
        both = await maintenance_window("all", by="Petra", subject="Acme", return_state=True)
        assert said(both).startswith("Refused: ")  # which of the two was meant?
        ended = await maintenance_window(
            "connection", by="Petra", subject=acme, action="end", return_state=True
        )
        assert said(ended) == "Completed: 1 window ended for Acme · SAP ECC"
    async with store.read() as session:
        windows = list(await session.scalars(select(Silence).order_by(Silence.id)))
        audit = [row.action for row in await session.scalars(select(Audit).order_by(Audit.id))]
    assert [(silence.kind, silence.scope, silence.ended_at is not None) for silence in windows] == [
        ("maintenance", "connection", True),
        ("mute", "provider", False),
    ]
    assert windows[0].subject == acme
    assert windows[1].ends_at > utcnow()
    assert audit == ["maintenance.begun", "mute.begun", "maintenance.ended"]


async def test_the_digest_is_said_once_a_day_and_kept_as_an_artifact(
    running: Running, store: Store, clean_prefect: PrefectServer, acme: str
) -> None:
    now = utcnow()
    async with store.write() as session:
        incident = Incident(
            id=new_id(),
            kind="unreachable",
            scope="connection",
            cause="test",
            app="default",
            title="Acme · SAP ECC",
            opened_at=now,
        )
        session.add(incident)
        await session.flush()
        session.add(
            IncidentConnection(incident_id=incident.id, connection_id=acme, kind="unreachable")
        )
        await announce(store, session, [IncidentChange(incident.id, "opened", "Gone.")], now=now)
    box = SandboxSettings(port=0, connections=0, records_per_connection=0)
    async with serving(box) as sandbox:
        slack = SlackConfig(
            bot_token=SecretStr(box.slack_token),
            channel="#linekeeper",
            api_url=f"{sandbox.url}/slack/api/",
        )
        await save_blocks(store, Blocks(slack=slack), now=now)
        with on(clean_prefect):
            for _ in range(2):
                state = await digest(return_state=True)
                assert said(state) == "Completed: Digest: 1 new incident, 0 resolved, 1 open"
            _, lines = await edges(running, (await running.last()).id, 3)
        texts = [m["text"] for m in sandbox.world.slack.snapshot()]
    assert lines == {
        ("update availability page", "update digest page"),
        ("update digest page", "notify"),
    }
    assert (await running.last()).name == "digest · 1 new incident, 0 resolved, 1 open"
    [message] = [text for text in texts if "Digest" in text]
    assert "• Acme · SAP ECC — Unreachable: open since" in message
    artifact = await running.artifact("digest")
    assert "| First messages | 1 | 1 |" in artifact
