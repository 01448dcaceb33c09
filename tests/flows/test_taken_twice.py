"""A run that two workers take, as after a crash: what it does to people is done once."""

import asyncio
import sys
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.states import Pending
from sqlmodel import col, select

import flows.customer_update
import sandbox
from flows.authentication_setup import authentication_setup
from flows.customer_update import customer_update
from linekeeper.authentication_setup import service
from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Connection, Contact, Customer, Outbox
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import begin, work
from tests.flows.test_reconnect_flows import adopted, fleet, rows

__all__ = ["fleet"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    on_both,
]


def mailing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Customers are written to; the mails stay in the outbox."""
    for name, value in {
        "SMTP_URL": "smtp://127.0.0.1:9", "MAIL_FROM": "it@operator.example",
        "NOTIFY_CUSTOMERS": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"LINEKEEPER_{name}", value)


async def test_the_link_to_a_customers_page_is_mailed_once(
    running: Running,
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mailing(monkeypatch)
    await adopted()
    [customer, *_] = await rows(store, Customer)
    with on(clean_prefect):
        run = await begin(
            running, customer_update, customer=customer.name, by="Petra",
            contacts="a@b.example", page="mail",
        )  # fmt: skip
        assert run.state is not None
        assert run.state.name == "Completed", run.state.message
        await running.client.set_flow_run_state(run.id, Pending(), force=True)
        monkeypatch.setattr(
            flows.customer_update, "utcnow", lambda: utcnow() + timedelta(minutes=7)
        )
        again = await work(running, customer_update, UUID(str(run.id)))
        assert again.state is not None
        assert again.state.name == "Completed", again.state.message
    mails = [row.dedupe_key for row in await rows(store, Outbox, col(Outbox.channel) == "email")]
    assert len(mails) == 1, mails
    said = [row for row in await rows(store, Audit) if row.action == "customer_link.mailed"]
    assert len(said) == 1


async def test_a_customer_is_asked_once_to_set_up_a_login(
    running: Running,
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mailing(monkeypatch)
    await adopted()
    async with store.write() as session:
        [connection, *_] = await session.scalars(select(Connection))
        held = await session.scalar(
            select(Contact).where(col(Contact.customer_id) == connection.customer_id)
        )
        assert held is not None  # adoption proposes who logged in
        held.confirmed = True
    both, load = asyncio.Barrier(2), service.load_standing

    async def load_together(*args: Any, **options: Any) -> Any:
        """What both bodies know before either makes a link; then one is slower than the other."""
        standing = await load(*args, **options)
        if sys._getframe(1).f_code.co_name == "make_link" and standing.link is None:
            is_slower = await both.wait() == 1
            while is_slower and not await rows(store, Outbox, col(Outbox.channel) == "email"):
                await asyncio.sleep(0.1)
        return standing

    monkeypatch.setattr(service, "load_standing", load_together)
    with on(clean_prefect):
        client, flow = running.client, authentication_setup
        deployment = await client.create_deployment(
            await client.create_flow_from_name(flow.name), flow.name
        )
        run = await client.create_flow_run_from_deployment(
            deployment,
            parameters={"connection": connection.makini_key, "requirements_confirmed": True},
        )
        await asyncio.gather(*(work(running, flow, UUID(str(run.id))) for _ in range(2)))
    mails = [row.dedupe_key for row in await rows(store, Outbox, col(Outbox.channel) == "email")]
    assert len(mails) == 1, mails
