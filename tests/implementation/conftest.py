"""An office that starts implementations on each database, with a clock that can be moved."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.implementation.advance import advance
from linekeeper.implementation.answer import AnswerOutcome, GateAnswer, answer, ask
from linekeeper.implementation.change import EditedImplementation, Update, change
from linekeeper.implementation.order import Form
from linekeeper.implementation.progress import Progress
from linekeeper.implementation.start import Started, start
from linekeeper.store import Store
from linekeeper.store.tables import (
    Connection,
    Credential,
    Customer,
    Gate,
    Outbox,
    Watermark,
    WebhookEvent,
)

MONDAY = datetime(2027, 3, 1, 9, tzinfo=UTC)


@dataclass(slots=True)
class Office:
    """What an operator, a customer and Makini do to one implementation."""

    store: Store
    now: datetime = MONDAY
    numbers: dict[str, int] = field(default_factory=dict)

    def later(self, **passed: float) -> None:
        self.now += timedelta(**passed)

    async def start(self, **changed: Any) -> Started:
        given: dict[str, Any] = {
            "customer": "Acme",
            "systems": ["SAP ECC"],
            "complexity": "standard",
            "kickoff": self.now.date(),
            "owner": "Petra",
            "by": "Olaf",
        }
        return await start(self.store, Form(**given | changed), now=self.now)

    async def advance(self, progress: Progress) -> Progress:
        return await advance(self.store, progress.standing.implementation.id, now=self.now)

    async def gate(self, progress: Progress, name: str) -> Gate:
        async with self.store.read() as session:
            found = await session.scalar(
                select(Gate).where(
                    col(Gate.implementation_id) == progress.standing.implementation.id,
                    col(Gate.gate) == name,
                )
            )
        assert found is not None
        return found

    async def says(self, progress: Progress, name: str, **changed: Any) -> AnswerOutcome:
        """Somebody fills in the form of the gate's run."""
        row = await self.gate(progress, name)
        run = f"run-{row.id}-{row.attempt}"
        asked = await ask(self.store, row.id, run_id=run)
        given: dict[str, Any] = {"outcome": "done", "evidence": "it is in the wiki", "by": "Petra"}
        return await answer(
            self.store,
            row.id,
            GateAnswer(**given | changed),
            number=asked.row.answers,
            run_id=run,
            now=self.now,
        )

    async def update(self, progress: Progress, action: str, **changed: Any) -> EditedImplementation:
        wanted = Update(progress.standing.implementation.slug, action, by="Olaf", **changed)
        return await change(self.store, wanted, now=self.now)

    async def connects(self, customer: str, system: str, **changed: Any) -> str:
        """The customer logs in; Makini lists the connection, and a sweep finds it well."""
        values: dict[str, Any] = {
            "makini_key": f"key-{system}",
            "setup": "live",
            "health": "healthy",
            "sync_status": "fulldone",
            "last_good_at": self.now,
            "last_sync_at": self.now,
        }
        async with self.store.write() as session:
            owner = await session.scalar(select(Customer).where(col(Customer.name) == customer))
            assert owner is not None
            values["slug"] = f"{owner.slug}-{system}".lower().replace(" ", "-")
            connection = Connection(
                app="default",
                customer_id=owner.id,
                name=f"{customer} · {system}",
                provider=system,
                list_status="Active",
                created_at=self.now,
                **values | changed,
            )
            session.add(connection)
            await session.flush()
            session.add(Credential(connection_id=connection.id, access_token="sealed"))
        return connection.id

    async def delivers(self, connection_id: str) -> None:
        async with self.store.write() as session:
            session.add(
                WebhookEvent(
                    app="default",
                    delivery_key=f"delivery-{connection_id}",
                    status="processed",
                    connection_id=connection_id,
                    kind="records.updated",
                    ordering_key=connection_id,
                    received_at=self.now,
                    processed_at=self.now,
                )
            )

    async def reconciles(self, connection_id: str) -> None:
        async with self.store.write() as session:
            session.add(
                Watermark(
                    connection_id=connection_id,
                    entity="eam/assets",
                    polled_at=self.now,
                    run_at=self.now,
                    full_at=self.now,
                )
            )

    async def outbox(self, channel: str) -> list[Outbox]:
        async with self.store.read() as session:
            return list(
                await session.scalars(
                    select(Outbox).where(col(Outbox.channel) == channel).order_by(col(Outbox.seq))
                )
            )

    async def delivers_messages(self) -> None:
        """Slack takes what is due."""
        async with self.store.write() as session:
            await session.execute(
                update(Outbox)
                .where(col(Outbox.channel) == "slack", col(Outbox.next_attempt_at) <= self.now)
                .values(status="sent", settled_at=self.now)
            )

    async def gate_runs(self) -> list[Outbox]:
        """The runs that ask people, started or resumed."""
        rows = await self.outbox("run")
        return [row for row in rows if row.payload.get("deployment") in (None, "gate")]

    async def work_runs(self) -> list[Outbox]:
        """The runs that do the work of gates, started."""
        works = ("authentication-setup", "workflow-configuration")
        return [row for row in await self.outbox("run") if row.payload.get("deployment") in works]


@pytest.fixture
def office(store: Store) -> Office:
    return Office(store)
