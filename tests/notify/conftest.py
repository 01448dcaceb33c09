"""The sandbox's Slack as the peer, and incidents to tell of."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from slugify import slugify
from sqlalchemy import update

from linekeeper.clock import utcnow
from linekeeper.config import Configuration, SlackConfig
from linekeeper.incidents.announce import announce
from linekeeper.incidents.lifecycle import IncidentChange
from linekeeper.notify.slack_channel import Pacer
from linekeeper.outbox.senders.slack import Delivered, deliver_due
from linekeeper.store import Store
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Observation,
    Outbox,
)
from sandbox import Settings as SandboxSettings
from sandbox import serving
from sandbox.slack import Slack


class Desk:
    """An operator's channel on a real Slack peer, and a clock that can be moved."""

    def __init__(self, store: Store, slack: Slack, configuration: Configuration) -> None:
        self.store = store
        self.slack = slack
        self.configuration = configuration
        self.ahead = timedelta()

    def now(self) -> datetime:
        return utcnow() + self.ahead

    async def open(
        self,
        *,
        customer: str = "Acme",
        system: str = "SAP ECC",
        kind: str = "unreachable",
        owner: str | None = "Petra",
        others: int = 0,
        code: str | None = "AUTHENTICATION_FAILED",
        message: str | None = "Invalid credentials",
    ) -> str:
        """An incident on a connection of `customer` (and `others` more), announced."""
        now = self.now()
        async with self.store.write() as session:
            person = Customer(name=customer, slug=slugify(customer) or "x", owner=owner)
            connections = [
                Connection(
                    app="default",
                    makini_key=f"{person.id}-{n}",
                    customer_id=person.id,
                    name=system if n == 0 else f"{system} {n}",
                    slug=f"{person.id}-{n}",
                    provider="sap-ecc",
                    setup="live",
                    health=kind,
                )
                for n in range(others + 1)
            ]
            incident = Incident(
                kind=kind,
                scope="provider" if others else "connection",
                cause=f"test:{person.id}",
                app="default",
                provider="sap-ecc",
                title=f"{customer} · {system}",
                opened_at=now,
            )
            session.add(person)
            await session.flush()
            session.add_all([*connections, incident])
            await session.flush()
            session.add_all(
                IncidentConnection(
                    incident_id=incident.id, connection_id=c.id, kind=kind, joined_at=now
                )
                for c in connections
            )
            session.add(
                Observation(
                    connection_id=connections[0].id,
                    at=now,
                    source="probe",
                    outcome="miss",
                    code=code,
                    message=message,
                    request_id="req-77",
                )
            )
            change = IncidentChange(incident.id, "opened", "Opened: it failed 3 probes.")
            await announce(self.store, session, [change], now=now)
        return incident.id

    async def change(self, incident_id: str, what: Any, text: str = "", **values: Any) -> None:
        """Set columns of the incident and announce it."""
        async with self.store.write() as session:
            incident = await session.get_one(Incident, incident_id)
            for name, value in values.items():
                setattr(incident, name, value)
            await announce(
                self.store, session, [IncidentChange(incident_id, what, text)], now=self.now()
            )

    async def deliver(self, **options: Any) -> Delivered:
        options = {"owner": "tests", "clock": self.now, "pacer": Pacer(0), **options}
        return await deliver_due(self.store, self.configuration, **options)

    def messages(self) -> list[dict[str, Any]]:
        return self.slack.snapshot()


@pytest.fixture
async def desk(store: Store) -> AsyncIterator[Desk]:
    settings = SandboxSettings(port=0, connections=0, records_per_connection=0)
    async with serving(settings) as sandbox:
        slack = SlackConfig(
            bot_token=SecretStr(settings.slack_token),
            channel="#linekeeper",
            api_url=f"{sandbox.url}/slack/api/",
        )
        yield Desk(store, sandbox.world.slack, Configuration(slack=slack))


@pytest.fixture
def as_if_unsettled(store: Store) -> Callable[[], Awaitable[None]]:
    """Every row as a deliverer leaves it that dies between Slack's answer and its own commit."""

    async def rewind() -> None:
        async with store.write() as session:
            await session.execute(
                update(Outbox).values(
                    status="pending", attempts=1, settled_at=None, next_attempt_at=utcnow()
                )
            )

    return rewind
