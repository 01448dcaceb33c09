"""maintenance-window and digest, run as Prefect runs them."""

import pytest
from prefect.client.schemas.objects import State
from sqlalchemy import select

from flows.maintenance_window import maintenance_window
from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Connection, Customer, Silence
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


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
        assert said(begun).startswith("Completed: maintenance: Acme · SAP ECC (1 connections) from")
        assert (await running.last()).name.startswith("maintenance-window · Acme · SAP ECC until")
        muted = await maintenance_window(
            "provider", by="Petra", subject="sap ecc", action="mute", return_state=True
        )
        assert said(muted).startswith("Completed: muted: SAP ECC")
        wrong = await maintenance_window("customer", by="Petra", subject="Amce", return_state=True)
        assert said(wrong).endswith("The nearest: Acme")
        ended = await maintenance_window(
            "connection", by="Petra", subject=acme, action="end", return_state=True
        )
        assert said(ended) == "Completed: 1 ended for Acme · SAP ECC"
    async with store.read() as session:
        windows = list(await session.scalars(select(Silence).order_by(Silence.id)))
        audit = [row.action for row in await session.scalars(select(Audit).order_by(Audit.id))]
    assert [(one.kind, one.scope, one.ended_at is not None) for one in windows] == [
        ("maintenance", "connection", True),
        ("mute", "provider", False),
    ]
    assert windows[0].subject == acme
    assert windows[1].ends_at > utcnow()
    assert audit == ["maintenance.begun", "mute.begun", "maintenance.ended"]
