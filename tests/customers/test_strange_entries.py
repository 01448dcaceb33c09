"""Entries of Makini's list as no connection is: they hold up no other."""

import secrets
from typing import Any

import pytest
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.config import HealthPolicy
from linekeeper.customers.adopt import adopt
from linekeeper.incidents.conclude import conclude
from linekeeper.makini.models import parse_connections
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer, Incident

NOISE = "".join(chr(0x4E00 + secrets.randbelow(20_000)) for _ in range(3_000))
"""What no database compresses."""


@pytest.mark.parametrize("name", ["key", "id", "provider", "name", "email", "tags"])
async def test_an_entry_of_any_length_holds_up_no_other(store: Store, name: str) -> None:
    """PostgreSQL's indexes take a third of it: then no entry of the list was adopted."""
    strange: dict[str, Any] = {"key": "strange", "id": "1", "name": "Beta - UpKeep"}
    strange[name] = [NOISE] if name == "tags" else NOISE
    plain = {"key": "plain", "name": "Acme - UpKeep", "provider": "UpKeep", "status": "Active"}
    async with store.write() as session:
        await adopt(store, session, "default", parse_connections([strange, plain]), now=utcnow())
    async with store.read() as session:
        keys = set(await session.scalars(select(col(Connection.makini_key))))
    assert keys == {"plain", "1" if name == "key" else "strange"}


async def test_an_outage_of_a_system_with_a_name_of_any_length_is_an_incident(store: Store) -> None:
    now = utcnow()
    [listed] = parse_connections([{"key": "k", "integration_name": NOISE}])
    async with store.write() as session:
        for number in range(60):
            customer = Customer(name=f"C{number}", slug=f"c{number}", created_at=now)
            session.add(customer)
            await session.flush()
            session.add(
                Connection(
                    app="default",
                    makini_key=f"k{number}",
                    customer_id=customer.id,
                    name=f"System {number}",
                    slug=f"k{number}",
                    provider=listed.provider if number < 20 else "UpKeep",
                    setup="live",
                    health="unreachable" if number < 20 else "healthy",
                    health_since=now,
                    last_answered_at=now,
                )
            )
    async with store.write() as session:
        await conclude(store, session, policy=HealthPolicy(), now=now)
    async with store.read() as session:
        assert list(await session.scalars(select(col(Incident.scope)))) == ["provider"]
