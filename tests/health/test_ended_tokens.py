"""What Linekeeper says of a connection once its token has ended and no other may be had."""

import pytest
from sqlalchemy import select, update
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Outcome
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Credential, Incident, Transition
from tests.health.test_contradictions import first, lose, said
from tests.health.test_sweep import adopt, connections, control, incidents, sweep


async def end_tokens(rt: Runtime) -> None:
    """The time of every token is over."""
    async with rt.store.write() as session:
        await session.execute(update(Credential).values(expires_at=utcnow()))


async def turned_unknown(rt: Runtime, connection_id: str) -> Transition:
    """The change by which the connection became unknown, with what Linekeeper knew of it."""
    async with rt.store.read() as session:
        became = await session.scalar(
            select(Transition).where(
                col(Transition.connection_id) == connection_id, col(Transition.after) == "unknown"
            )
        )
    assert became is not None
    return became


async def stays_unknown(watcher: Runtime) -> Transition:
    """However often the list says active; and what was known when it became unknown."""
    for _ in range(3):
        await sweep(watcher)
        assert (await first(watcher)).health == "unknown"
    [incident] = await incidents(watcher)
    assert incident.status == "open"
    return await turned_unknown(watcher, (await first(watcher)).id)


async def works_again(rt: Runtime) -> None:
    """A call says so, and the incident is over."""
    await sweep(rt)
    assert (await first(rt)).health == "healthy"
    assert {incident.status for incident in await incidents(rt)} == {"resolved"}


async def test_from_manage_back_to_observe_nothing_turns_red(
    rt: Runtime, watcher: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    await control(fleet, "settings", advance_seconds=600)
    await end_tokens(rt)
    for _ in range(3):
        await sweep(watcher)
        found = await connections(watcher)
        assert {connection.health for connection in found} == {"healthy"}
        assert {connection.evidence for connection in found} == {"listed"}
    async with rt.store.read() as session:
        assert list(await session.scalars(select(Incident))) == []


async def test_a_login_that_a_call_found_lost_is_not_found_again_by_the_list(
    rt: Runtime, watcher: Runtime, fleet: sandbox.Served
) -> None:
    """The list says active of a lost login too; that a token ended proves nothing."""
    await adopt(rt, fleet)
    connection = await lose(rt, fleet, lagging=False)
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"
    await control(fleet, "settings", advance_seconds=600)
    await end_tokens(rt)
    last = await stays_unknown(watcher)
    assert "a call was refused" in last.evidence["message"]
    assert "its list says active" in last.evidence["message"]
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await works_again(rt)


async def test_in_observe_a_token_that_is_refused_before_its_end_is_no_lost_login(
    rt: Runtime, watcher: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    connection = await first(rt)
    await control(fleet, f"connections/{connection.makini_key}/expire-token")
    await sweep(watcher)
    assert (await first(watcher)).health == "unknown"
    seen = await turned_unknown(rt, connection.id)
    assert "refuses the token" in seen.evidence["message"]
    await sweep(rt)
    assert (await first(rt)).health == "healthy"


async def test_a_connection_that_did_not_answer_is_not_found_well_by_the_list(
    rt: Runtime, watcher: Runtime, fleet: sandbox.Served
) -> None:
    """The list said active while its calls failed; that its token ended answers none of them."""
    await adopt(rt, fleet)
    connection = await first(rt)
    await control(fleet, f"connections/{connection.makini_key}/go-offline")
    for _ in range(3):
        await sweep(rt)
    assert (await first(rt)).health == "unreachable"
    await end_tokens(rt)
    last = await stays_unknown(watcher)
    assert "calls of the connection failed, the last at" in last.evidence["message"]
    await control(fleet, f"connections/{connection.makini_key}/come-online")
    await works_again(rt)


@pytest.mark.parametrize("news", ["event", "list", "connected"])
async def test_until_makini_says_something_new_of_it(
    rt: Runtime, watcher: Runtime, fleet: sandbox.Served, news: str
) -> None:
    await adopt(rt, fleet)
    connection = await first(rt)
    await control(fleet, f"connections/{connection.makini_key}/go-offline")
    for _ in range(3):
        await sweep(rt)
    await end_tokens(rt)
    await sweep(watcher)
    assert (await first(watcher)).health == "unknown"
    if news == "event":
        await said(watcher, connection, Outcome.answered)
    elif news == "list":
        for word in ("deactivate", "activate"):
            await control(fleet, f"connections/{connection.makini_key}/{word}")
            await sweep(watcher)
    else:
        fleet.world.connections[connection.makini_key].connected_at = utcnow()
        await sweep(watcher)
    await sweep(watcher)
    assert (await first(watcher)).health == "healthy"
