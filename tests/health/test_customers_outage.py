"""The trouble of one customer's connections is one incident, and it is the customer's."""

import pytest
from sqlalchemy import update
from sqlmodel import col, select

import sandbox
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Customer, Incident
from tests.health.test_sweep import adopt, connections, control, incidents, probe_all

THEIRS = 6


@pytest.fixture
async def theirs(rt: Runtime, fleet: sandbox.Served) -> list[Connection]:
    """Half of the fleet is one customer's, and of each of three products half is theirs."""
    await adopt(rt, fleet)
    found = await connections(rt)
    async with rt.store.write() as session:
        for number, each in enumerate(found):
            provider = ("SAP ECC", "Infor EAM", "Maximo")[number % 3]
            whose = found[0].customer_id if number < THEIRS else each.customer_id
            if number >= THEIRS and whose == found[0].customer_id:
                whose = found[-1].customer_id
            change = update(Connection).where(col(Connection.id) == each.id)
            await session.execute(change.values(provider=provider, customer_id=whose))
    return (await connections(rt))[:THEIRS]


async def lose(rt: Runtime, fleet: sandbox.Served, which: list[Connection]) -> None:
    for each in which:
        await control(fleet, f"connections/{each.makini_key}/change-credentials")
    await probe_all(rt)


async def opened(rt: Runtime) -> list[Incident]:
    return [each for each in await incidents(rt) if each.resolved_at is None]


async def test_a_customer_whose_connections_fail_while_others_work_is_one_incident(
    rt: Runtime, fleet: sandbox.Served, theirs: list[Connection]
) -> None:
    await lose(rt, fleet, theirs[:5])
    [incident] = await opened(rt)
    async with rt.store.read() as session:
        name = await session.scalar(
            select(Customer.name).where(col(Customer.id) == theirs[0].customer_id)
        )
    # A version before reads the scope, and knows none of a customer.
    assert (incident.customer_id, incident.scope) == (theirs[0].customer_id, "app")
    assert incident.title == f"{name} · 5 connections"
    await lose(rt, fleet, theirs[5:])
    [incident] = await opened(rt)
    assert incident.title == f"{name} · 6 connections"
    for each in theirs:
        await control(fleet, f"connections/{each.makini_key}/restore-credentials")
    await probe_all(rt)
    assert await opened(rt) == []


async def test_another_customers_connection_is_an_incident_of_its_own(
    rt: Runtime, fleet: sandbox.Served, theirs: list[Connection]
) -> None:
    await lose(rt, fleet, theirs)
    other = (await connections(rt))[THEIRS]
    await lose(rt, fleet, [other])
    found = await opened(rt)
    assert [each.scope for each in found] == ["app", "connection"]
    assert [each.customer_id for each in found] == [theirs[0].customer_id, None]


async def test_what_reaches_the_others_too_becomes_the_apps(
    rt: Runtime, fleet: sandbox.Served, theirs: list[Connection]
) -> None:
    await lose(rt, fleet, theirs)
    await lose(rt, fleet, (await connections(rt))[THEIRS:])
    [incident] = await opened(rt)
    assert (incident.scope, incident.customer_id) == ("app", None)
    assert incident.title.startswith("app default · 12 connections")
