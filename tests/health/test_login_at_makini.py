"""A customer connects again at Makini itself, whose event is lost, and no token can be minted."""

from sqlalchemy import delete

import sandbox
from linekeeper.health.evidence import Outcome
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Credential
from sandbox.fleet import Connection
from tests.health.test_contradictions import first, said
from tests.health.test_sweep import adopt, control, incidents, sweep

LOST = "reauthorization_required"


async def lost_without_token(rt: Runtime, fleet: sandbox.Served) -> Connection:
    """A connection whose login is lost, as Makini's event said; its status is in the list alone."""
    await adopt(rt, fleet)
    await control(fleet, "settings", mint_shape="refused")
    async with rt.store.write() as session:
        await session.execute(delete(Credential))
    connection = await first(rt)
    await said(rt, connection, Outcome.login_lost)
    await sweep(rt)
    assert (await first(rt)).health == LOST
    return fleet.world.connections[connection.makini_key]


async def test_the_list_says_so(rt: Runtime, fleet: sandbox.Served) -> None:
    connection = await lost_without_token(rt, fleet)
    fleet.world.log_in(connection)
    for _ in range(2):
        await sweep(rt)
        assert (await first(rt)).health == "healthy"
    assert {incident.status for incident in await incidents(rt)} == {"resolved"}


async def test_a_list_that_has_no_time_of_it_proves_nothing(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    connection = await lost_without_token(rt, fleet)
    fleet.world.log_in(connection)
    connection.connected_at = None
    await sweep(rt)
    assert (await first(rt)).health == LOST


async def test_a_connecting_before_the_loss_is_no_news(rt: Runtime, fleet: sandbox.Served) -> None:
    connection = await lost_without_token(rt, fleet)
    await sweep(rt)
    assert connection.connected_at is not None
    assert (await first(rt)).health == LOST
