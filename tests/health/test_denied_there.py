"""Most of a small fleet leaves Makini at once: its list lacks them, and it says so of each."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlmodel import col

import sandbox
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Credential
from tests.health.test_absence import open_ones
from tests.health.test_sweep import connections, control, sweep


async def three_of_four_leave(rt: Runtime, fleet: sandbox.Served) -> set[str]:
    """One of the four has just come; returns the ids of the others."""
    for key in sorted(fleet.world.connections)[3:]:
        del fleet.world.connections[key]
    await sweep(rt)
    gone = {connection.id for connection in await connections(rt)}
    assert len(gone) == 3
    for connection in list(fleet.world.connections.values()):
        fleet.world.remove(connection)
    fleet.world.create(name="Newly · UpKeep", email="it@newly.example", provider="upkeep")
    return gone


async def minutes_pass(rt: Runtime, gone: set[str]) -> None:
    """The list before, and what was last heard of `gone`, was five minutes earlier."""
    passed = timedelta(minutes=5)
    async with rt.store.write() as session:
        for row in await session.scalars(select(Connection).where(col(Connection.id).in_(gone))):
            if row.missing_since is not None:
                row.missing_since -= passed
            if row.last_answered_at is not None:
                row.last_answered_at -= passed
        theirs = col(Credential.connection_id).in_(gone)
        for pair in await session.scalars(select(Credential).where(theirs)):
            pair.updated_at -= passed


@pytest.mark.parametrize("mints", [True, False])
async def test_they_are_gone_where_makini_says_that_it_does_not_know_them(
    rt: Runtime, fleet: sandbox.Served, mints: bool
) -> None:
    gone = await three_of_four_leave(rt, fleet)
    if not mints:  # whatever is asked for
        await control(fleet, "settings", mint_shape="refused")
    await sweep(rt)
    assert "list_truncated" in {incident.kind for incident in await open_ones(rt)}
    for _ in range(2):
        await minutes_pass(rt, gone)
        await sweep(rt)
    setups = {each.id: each.setup for each in await connections(rt)}
    assert {setups[each] for each in gone} == {"disconnected" if mints else "live"}
    assert ("list_truncated" in {each.kind for each in await open_ones(rt)}) is not mints
