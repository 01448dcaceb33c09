"""A run that two workers take, as after a crash: what it does to people is done once."""

from datetime import timedelta
from uuid import UUID

import pytest
from prefect.states import Pending
from sqlmodel import col

import flows.customer_update
import sandbox
from flows.customer_update import customer_update
from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Customer, Outbox
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import begin, work
from tests.flows.test_reconnect_flows import adopted, fleet, rows

__all__ = ["fleet"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    on_both,
]


async def test_the_link_to_a_customers_page_is_mailed_once(
    running: Running,
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "SMTP_URL": "smtp://127.0.0.1:9", "MAIL_FROM": "it@operator.example",
        "NOTIFY_CUSTOMERS": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"LINEKEEPER_{name}", value)
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
