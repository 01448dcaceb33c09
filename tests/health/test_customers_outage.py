"""The trouble of one customer's connections is one incident, and it is the customer's."""

from collections.abc import Sequence

import pytest
from sqlalchemy import update
from sqlmodel import col, select

import sandbox
from linekeeper.clock import utcnow
from linekeeper.config import HealthPolicy
from linekeeper.orchestrator import Blocks
from linekeeper.runtime import Runtime
from linekeeper.store.configuration import SharedConfiguration, save_blocks
from linekeeper.store.tables import Connection, Customer, Incident
from tests.health.test_sweep import adopt, connections, control, incidents, probe_all

THEIRS = 6


async def share_out(
    rt: Runtime, fleet: sandbox.Served, *, products: Sequence[str]
) -> list[Connection]:
    """Half of the fleet is one customer's, and `products` are those of the fleet."""
    await adopt(rt, fleet)
    found = await connections(rt)
    async with rt.store.write() as session:
        for number, (each, provider) in enumerate(zip(found, products, strict=True)):
            whose = found[0].customer_id if number < THEIRS else each.customer_id
            if number >= THEIRS and whose == found[0].customer_id:
                whose = found[-1].customer_id
            change = update(Connection).where(col(Connection.id) == each.id)
            await session.execute(change.values(provider=provider, customer_id=whose))
    return (await connections(rt))[:THEIRS]


@pytest.fixture
async def theirs(rt: Runtime, fleet: sandbox.Served) -> list[Connection]:
    """Of each of three products half is theirs."""
    return await share_out(rt, fleet, products=("SAP ECC", "Infor EAM", "Maximo") * 4)


async def lose(rt: Runtime, fleet: sandbox.Served, which: list[Connection]) -> None:
    for each in which:
        await control(fleet, f"connections/{each.makini_key}/change-credentials")
    await probe_all(rt)


async def allow_small_causes(rt: Runtime) -> None:
    """Two of a product, or of a customer, are enough for one incident."""
    policy = HealthPolicy(root_cause_members=2)
    await save_blocks(rt.store, Blocks(policy=policy), now=utcnow())
    rt.configuration = SharedConfiguration(rt.store, rt.settings).read


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


async def test_a_customer_with_products_that_nobody_else_has_is_one_incident(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    theirs = await share_out(rt, fleet, products=[*("SAP ECC", "Infor EAM") * 3, *["Maximo"] * 6])
    await lose(rt, fleet, theirs)
    [incident] = await opened(rt)
    assert incident.customer_id == theirs[0].customer_id


async def test_a_product_that_failed_first_is_a_part_of_its_customers_trouble(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """What was found of it is most of that product, and little of the customer."""
    theirs = await share_out(
        rt, fleet, products=[*["SAP ECC"] * 2, *["Maximo"] * 4, "SAP ECC", *["Infor EAM"] * 5]
    )
    await allow_small_causes(rt)
    await lose(rt, fleet, theirs[:2])
    [first] = await opened(rt)
    assert (first.scope, first.provider) == ("provider", "SAP ECC")
    await lose(rt, fleet, theirs[2:])
    [incident] = await opened(rt)
    assert (incident.id, incident.customer_id) == (first.id, theirs[0].customer_id)


async def test_a_product_that_others_lost_too_stays_an_incident_of_its_own(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """What they lost meanwhile works again; its message still names them."""
    theirs = await share_out(
        rt, fleet, products=[*["SAP ECC"] * 2, *["Maximo"] * 4, "SAP ECC", *["Infor EAM"] * 5]
    )
    other = (await connections(rt))[THEIRS]
    await allow_small_causes(rt)
    await lose(rt, fleet, [*theirs[:2], other])
    [first] = await opened(rt)
    await control(fleet, f"connections/{other.makini_key}/restore-credentials")
    await lose(rt, fleet, theirs[2:])
    found = {each.id: each.customer_id for each in await opened(rt)}
    assert found.pop(first.id) is None
    assert list(found.values()) == [theirs[0].customer_id]
