"""The step *Reconciliation clean* is proven by a comparison, and a first listing is none."""

from typing import Any

from linekeeper.implementation.connection_facts import connection_facts
from linekeeper.implementation.facts import ConnectionFacts
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import Connection, Customer
from tests.reconcile.conftest import run


async def facts_of(rt: Runtime, one: Connection) -> ConnectionFacts:
    customer: dict[str, Any] = {"id": new_id(), "name": "Acme", "slug": "acme"}
    async with rt.store.write() as session:
        found = await session.get_one(Connection, one.id)
        if found.customer_id is None:
            session.add(Customer(**customer))
            await session.flush()
            found.customer_id = customer["id"]
        whose = found.customer_id
    async with rt.store.read() as session:
        return (await connection_facts(session, [whose]))[one.id]


async def test_what_was_only_listed_for_the_first_time_was_not_reconciled(
    rt: Runtime, one: Connection
) -> None:
    await run(rt)
    facts = await facts_of(rt, one)
    assert facts.polled_at is None
    assert facts.poll_trouble is not None
    assert "for the first time" in facts.poll_trouble
    await run(rt, connections=[one.id])
    facts = await facts_of(rt, one)
    assert (facts.polled_at is None, facts.poll_trouble, facts.drift) == (False, None, 0)
