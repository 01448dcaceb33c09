"""A customer with an implementation under way and a lost login, and a receiver that serves."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.access.links import make_link
from linekeeper.access.page_links import page_link, page_url
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.implementation.advance import look
from linekeeper.implementation.order import Form
from linekeeper.implementation.report import implementation_markdown
from linekeeper.implementation.start import start
from linekeeper.notify.view import Links
from linekeeper.settings import Settings
from linekeeper.store.tables import Connection, Customer, CustomerLink, Gate, Implementation
from tests.receiver.conftest import Here, receiving

GERMAN = "de-CH"


@dataclass
class Portal:
    """A running receiver and the page of one customer."""

    here: Here
    customer: Customer
    path: str
    now: datetime

    async def get(self, extra: str = "") -> httpx.Response:
        return await self.here.http.get(f"{self.path}{extra}")

    async def post(self, **form: str) -> httpx.Response:
        return await self.here.http.post(self.path, data=form)

    async def json(self) -> Any:
        answered = await self.get(".json")
        assert answered.status_code == 200, answered.text
        return answered.json()

    async def call_it(self, name: str) -> None:
        """Give the customer another name, as for a picture."""
        async with self.here.rt.store.write() as session:
            found = await session.get(Customer, self.customer.id)
            assert found is not None
            found.name = name

    async def link(self) -> CustomerLink:
        async with self.here.rt.store.read() as session:
            [link] = await session.scalars(select(CustomerLink))
            return link

    async def gate(self, identifier: str) -> Gate:
        async with self.here.rt.store.read() as session:
            found = await session.get(Gate, identifier)
        assert found is not None
        return found

    async def operators(self) -> str:
        """The page of the implementation that the operator sees."""
        store = self.here.rt.store
        async with store.read() as session:
            identifier = await session.scalar(
                select(Implementation.id).where(col(Implementation.customer_id) == self.customer.id)
            )
        assert identifier is not None
        return implementation_markdown(
            await look(store, identifier, now=self.now), self.now, Links()
        )

    async def speak(self, locale: str) -> None:
        async with self.here.rt.store.write() as session:
            found = await session.get(Customer, self.customer.id)
            assert found is not None
            found.locale = locale


async def _fill(here: Here, now: datetime) -> tuple[Customer, str]:
    store = here.rt.store
    for name in ("Acme <GmbH>", "Other Secret Ltd"):
        form: dict[str, Any] = {
            "customer": name,
            "systems": ["SAP ECC"],
            "targets": ["sap.acme.example:443"],
            "complexity": "standard",
            "hosting": "on-premises",
            "kickoff": now.date(),
            "owner": "Petra",
            "by": "Olaf",
        }
        await start(store, Form(**form), now=now)
    async with store.write() as session:
        customer = await session.scalar(select(Customer).where(col(Customer.name) == "Acme <GmbH>"))
        other = await session.scalar(select(Customer).where(col(Customer.name) != "Acme <GmbH>"))
        assert customer is not None
        assert other is not None
        connections = [
            Connection(
                app="default",
                makini_key=f"internal-key-{number}",
                name=f"internal name {number}",
                slug=f"c{number}",
                provider=provider,
                customer_id=owner.id,
                setup="live",
                health=health,
                health_since=now - timedelta(days=number),
            )
            for number, (owner, provider, health) in enumerate(
                [
                    (customer, "Maximo", "reauthorization_required"),
                    (customer, "UpKeep", "healthy"),
                    (customer, "SAP S/4HANA", "unreachable"),
                    (other, "Infor", "reauthorization_required"),
                ]
            )
        ]
        session.add_all(connections)
        await session.flush()
        await make_link(
            session,
            app="default",
            connection_id=connections[0].id,
            customer_id=customer.id,
            system="Maximo",
            by="tests",
            now=now,
        )
        gates = await session.scalars(
            select(Gate).where(col(Gate.owner) == "customer", col(Gate.check_name).is_(None))
        )
        for gate in gates:
            if gate.gate.startswith("network"):
                gate.status, gate.opened_at = "open", now
        link = await page_link(session, customer.id, by="tests", now=now)
    signer = await load_signer(store)
    return customer, urlsplit(page_url(signer, here.url, link.id)).path


@pytest.fixture
async def portal(settings: Settings) -> AsyncIterator[Portal]:
    """The page of Acme, on each database."""
    async with receiving(settings) as here:
        now = utcnow()
        customer, path = await _fill(here, now)
        yield Portal(here, customer, path, now)
