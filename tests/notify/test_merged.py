"""An outage that is over is called resolved, whatever became of one of its connections."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.config import HealthPolicy
from linekeeper.incidents.conclude import conclude
from linekeeper.notify.channels import remember_artifact
from linekeeper.notify.view import Links, load_views
from linekeeper.store.tables import Connection, Incident, IncidentConnection
from tests.notify.conftest import Desk


async def _members(desk: Desk, incident: str) -> list[str]:
    rows = select(col(IncidentConnection.connection_id)).where(
        col(IncidentConnection.incident_id) == incident
    )
    async with desk.store.read() as session:
        return list(await session.scalars(rows))


async def become(desk: Desk, ids: Sequence[str], health: str) -> None:
    """Their health is seen to be so, and what follows from it is concluded."""
    desk.ahead += timedelta(minutes=2)
    await _turn(desk, ids, health)
    await _conclude(desk)


async def _turn(desk: Desk, ids: Sequence[str], health: str) -> None:
    async with desk.store.write() as session:
        await session.execute(
            update(Connection)
            .where(col(Connection.id).in_(ids))
            .values(health=health, health_since=desk.now())
        )


async def _conclude(desk: Desk) -> None:
    async with desk.store.write() as session:
        await conclude(desk.store, session, policy=HealthPolicy(), now=desk.now())


@pytest.mark.parametrize("at_once", [False, True])
async def test_one_that_turns_out_to_have_another_problem_does_not_carry_the_outage_on(
    desk: Desk, at_once: bool
) -> None:
    outage = await desk.open(others=5)
    first, *rest = await _members(desk, outage)
    await become(desk, rest[:1], "healthy")
    if at_once:
        await _turn(desk, [first], "degraded")
    else:
        await become(desk, [first], "degraded")
    await become(desk, rest, "healthy")
    [view] = (await load_views(desk.store, [outage])).values()
    assert view.resolved_at is not None
    assert view.merged_into is None
    async with desk.store.read() as session:
        assert (await session.get_one(Connection, first)).health == "degraded"


async def test_an_outage_is_over_for_those_who_had_another_while_something_else_ended(
    desk: Desk,
) -> None:
    """The incident before it, and the end of a third one meanwhile, say nothing of this one."""
    before = await desk.open(others=5)
    first, *rest = members = await _members(desk, before)
    third = await desk.open(customer="Bolt")
    await become(desk, await _members(desk, third), "healthy")
    await become(desk, members, "healthy")
    desk.ahead += timedelta(days=8)
    await become(desk, members, "unreachable")
    async with desk.store.read() as session:
        is_open = select(Incident).where(col(Incident.resolved_at).is_(None))
        [outage] = await session.scalars(is_open)
    assert outage.id not in (before, third)
    await _turn(desk, [first], "degraded")
    await become(desk, rest, "healthy")
    [view] = (await load_views(desk.store, [outage.id])).values()
    assert view.resolved_at is not None
    assert view.merged_into is None


async def test_one_that_goes_on_alone_is_said_to(desk: Desk) -> None:
    """The only connection of an incident has another problem now: its story goes on there."""
    incident = await desk.open()
    await become(desk, await _members(desk, incident), "reauthorization_required")
    [view] = (await load_views(desk.store, [incident])).values()
    assert view.resolved_at is None or view.merged_into is not None


async def test_where_it_goes_on_is_named_without_a_count_that_ends_and_with_its_page(
    desk: Desk,
) -> None:
    """More connections join the outage after the last edit of what became part of it."""
    await remember_artifact(desk.store, "fleet", "0badcafe", now=desk.now())
    narrow = [await desk.open(customer=f"Acme {n}") for n in range(5)]
    await desk.deliver(links=Links(ui_url="http://ui"))
    await _conclude(desk)
    await desk.deliver(links=Links(ui_url="http://ui"))
    views = await load_views(desk.store, narrow)
    over = [view for view in views.values() if view.resolved_at is not None]
    assert len(over) == 4
    continued = [m for m in desk.messages() if "continued in another incident" in m["text"]]
    assert len(continued) == 4
    for message in continued:
        said = str(message["blocks"])
        assert "into the incident of sap-ecc (since" in said
        assert "5 connections" not in said
        assert "<http://ui/artifacts/artifact/0badcafe|Fleet> shows it too" in said
