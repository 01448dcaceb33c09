"""What the tests of processing say and see: deliveries in, events, connections, records out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import orjson
from sqlalchemy import select
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.consumer.record_events import process_record_events
from linekeeper.inbox.identify import Receipt, identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.meaning import EventNames
from linekeeper.outbox.senders.forward import forwarding
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import Connection, Incident, Outbox, Record, WebhookEvent
from tests.inbox.process.product import Product

NO_HEADERS: Mapping[bytes, bytes] = {}


@dataclass
class Stage:
    """One runtime with its fleet and product."""

    rt: Runtime
    fleet: sandbox.Served
    product: Product
    connections: list[Connection]

    @classmethod
    async def set(cls, rt: Runtime, fleet: sandbox.Served, product: Product) -> "Stage":
        async with rt.store.read() as session:
            rows = await session.scalars(select(Connection).order_by(col(Connection.makini_key)))
            return cls(rt, fleet, product, list(rows))

    async def deliver(
        self,
        body: object,
        *,
        to: Connection | str | None = None,
        headers: Mapping[bytes, bytes] = NO_HEADERS,
    ) -> Receipt:
        """Store a delivery as the receiver does."""
        return (await self.deliver_all([(body, to)], headers=headers))[0]

    async def deliver_all(
        self, bodies: list[tuple[object, Any]], *, headers: Mapping[bytes, bytes] = NO_HEADERS
    ) -> list[Receipt]:
        app = await self.rt.app("default")
        names = EventNames(app.entities, app.event_kinds)
        receipts = []
        async with Intake.open(self.rt.store) as intake:
            for body, to in bodies:
                raw = body if isinstance(body, bytes) else orjson.dumps(body)
                ref = to.makini_key if isinstance(to, Connection) else to
                now = utcnow()
                identity = identify(app.name, names, headers, ref, raw, now=now)
                delivery = make_delivery(new_id(), app.name, identity, raw, received_at=now)
                receipts.append(await intake.store(delivery))
        return receipts

    async def process(self) -> None:
        """Apply whatever is due."""
        while await process_connection_events(self.rt) or await process_record_events(self.rt):
            pass

    async def forward(self) -> None:
        """Hand on whatever is due."""
        async with forwarding(self.rt) as forwarder:
            while await forwarder.deliver():
                pass

    async def events(self) -> list[WebhookEvent]:
        async with self.rt.store.read() as session:
            rows = await session.scalars(select(WebhookEvent).order_by(col(WebhookEvent.id)))
            return list(rows)

    async def event(self, identity: str) -> WebhookEvent:
        async with self.rt.store.read() as session:
            found = await session.get(WebhookEvent, identity)
        assert found is not None
        return found

    async def connection(self, which: Connection) -> Connection:
        async with self.rt.store.read() as session:
            found = await session.get(Connection, which.id)
        assert found is not None
        return found

    async def incidents(self) -> list[Incident]:
        async with self.rt.store.read() as session:
            return list(await session.scalars(select(Incident).order_by(col(Incident.id))))

    async def records(self) -> list[Record]:
        async with self.rt.store.read() as session:
            return list(await session.scalars(select(Record)))

    async def forwards(self) -> list[Outbox]:
        async with self.rt.store.read() as session:
            rows = select(Outbox).where(col(Outbox.channel) == "forward").order_by(col(Outbox.seq))
            return list(await session.scalars(rows))

    async def control(self, path: str, **body: Any) -> Any:
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{self.fleet.url}/_control/{path}", json=body)
            assert answer.status_code < 300, answer.text
            return answer.json()

    async def truth(self) -> Any:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{self.fleet.url}/_control/truth")).json()


def about(connection: Connection, kind: str, at: datetime, **details: Any) -> dict[str, Any]:
    """An event about a connection, as Makini is said to send it."""
    return {
        "id": f"evt_{new_id()}",
        "type": kind,
        "timestamp": at.isoformat(),
        "connection_id": connection.makini_id,
        "details": details,
    }
