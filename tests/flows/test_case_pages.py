"""The page of a case has the link of each who waits: Slack names it for those who get no mail."""

from typing import Any

from linekeeper.access.links import make_link
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Reconnect,
)
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.flows.conftest import Running, on_both

pytestmark = on_both
LOST = "reauthorization_required"


async def test_whoever_joins_a_case_has_a_link_on_its_page_once_it_is_made(
    running: Running, store: Store, settings: Settings
) -> None:
    now = utcnow()
    incident = Incident(
        kind=LOST, scope="provider", cause="p:upkeep", app="default", title="upkeep",
        opened_at=now,
    )  # fmt: skip
    async with store.write() as session:
        session.add(incident)
        await session.flush()
        session.add(Reconnect(incident_id=incident.id, opened_at=now, deadline_at=now))
    orchestrator = PrefectOrchestrator(running.client)
    async with Runtime.open(settings) as rt:

        async def joins(number: int) -> Connection:
            customer = Customer(name=f"Acme {number}", slug=f"acme-{number}")
            lost = Connection(
                app="default", makini_key=f"k{number}", name="UpKeep", slug=f"acme-{number}-upkeep",
                provider="upkeep", customer_id=customer.id, setup="live", health=LOST,
                health_since=now,
            )  # fmt: skip
            member = IncidentConnection(incident_id=incident.id, connection_id=lost.id, kind=LOST)
            async with store.write() as session:
                for row in (customer, lost, member):
                    session.add(row)
                    await session.flush()
            return lost

        async def is_asked(lost: Connection) -> None:
            async with store.write() as session:
                await make_link(
                    session, app="default", connection_id=lost.id, customer_id=lost.customer_id,
                    system="upkeep", by="linekeeper", now=utcnow(), incident_id=incident.id,
                )  # fmt: skip

        async def written() -> dict[str, Any]:
            await orchestrator.keep_pages(rt)
            ours = {"artifacts": {"key": {"any_": [f"reconnect-{incident.id}"]}}}
            answer = await running.client.request("POST", "/artifacts/filter", json=ours)
            [page] = answer.json()
            return dict(page)

        await is_asked(await joins(1))
        for number in (2, 3):
            lost = await joins(number)
            assert (await written())["data"].count("/connect/") == number - 1
            await is_asked(lost)
            page = await written()
            assert page["data"].count("/connect/") == number
            assert await written() == page  # what did not change is not written
