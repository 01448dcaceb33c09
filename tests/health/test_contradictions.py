"""Evidence about a login that contradicts itself: settled by a read, or said to be unknown."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Observation, Outcome, load
from linekeeper.health.scope import count_reads
from linekeeper.health.service import observe
from linekeeper.incidents.conclude import conclude
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Transition, Watermark
from tests.health.test_sweep import adopt, connections, control, incidents, sweep


async def said(
    rt: Runtime,
    connection: Connection,
    outcome: Outcome,
    *,
    at: datetime | None = None,
    **more: Any,
) -> None:
    """An event of Makini's, applied as the consumer applies it."""
    now, policy = utcnow(), (await rt.configuration()).policy
    seen = Observation(at=at or now, source="webhook", outcome=outcome, **more)
    async with rt.store.write() as session:
        await observe(rt.store, session, [(connection.id, seen)], policy=policy, now=now)
        await conclude(rt.store, session, policy=policy, now=now)


async def first(rt: Runtime) -> Connection:
    [connection, *_] = await connections(rt)
    return connection


async def lose(rt: Runtime, fleet: sandbox.Served, *, lagging: bool = True) -> Connection:
    """A login is lost, which Makini's status doesn't know yet."""
    connection = await first(rt)
    if lagging:
        await control(fleet, f"connections/{connection.makini_key}/lag-status")
    await control(fleet, f"connections/{connection.makini_key}/change-credentials")
    return connection


def reads(fleet: sandbox.Served) -> int:
    """How many calls for records there were so far."""
    calls = fleet.world.calls.items()
    return sum(n for (method, route), n in calls if method == "GET" and route[:9] == "/api/eam/")


def changes(fleet: sandbox.Served) -> dict[tuple[str, str], int]:
    """How often something was changed at Makini so far, by method and route."""
    return {call: n for call, n in fleet.world.calls.items() if call[0] != "GET"}


async def test_a_lagging_status_does_not_undo_makinis_own_event(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """C2: Makini's own event counts at once, and no cached word undoes it."""
    await adopt(rt, fleet)
    connection = await lose(rt, fleet)
    await said(rt, connection, Outcome.login_lost)
    for _ in range(3):
        await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"
    [incident] = await incidents(rt)
    assert (incident.kind, incident.status) == ("reauthorization_required", "open")
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await sweep(rt)
    assert (await first(rt)).health == "healthy"
    assert (await first(rt)).evidence == "read"
    [incident] = await incidents(rt)
    assert incident.status == "resolved"


async def test_an_event_from_before_the_last_cached_word_raises_a_doubt_that_a_read_settles(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    connection = await lose(rt, fleet)
    before = utcnow()
    await sweep(rt)  # the status lags behind, and is dated later than the event
    assert (await first(rt)).health == "healthy"
    await said(rt, connection, Outcome.login_lost, at=before)
    doubted = await first(rt)
    assert (doubted.health, doubted.suspect) == ("healthy", True)
    assert await incidents(rt) == []
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await sweep(rt)
    assert (await first(rt)).health == "healthy"
    await said(rt, connection, Outcome.login_lost, at=before)  # again: a read has outranked it
    assert not (await first(rt)).suspect


async def test_no_call_without_an_answer_makes_an_event_older_that_the_login_works(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    connection = await lose(rt, fleet, lagging=False)
    await sweep(rt)
    restored_at = utcnow()
    await control(fleet, f"connections/{connection.makini_key}/go-offline")
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"
    await said(rt, connection, Outcome.login_restored, at=restored_at)
    assert (await first(rt)).health == "healthy"
    [incident] = await incidents(rt)
    assert incident.status == "resolved"


@pytest.mark.parametrize("unit", ["minute", "hour", "day"])
async def test_an_event_whose_time_is_cut_is_not_taken_for_older_than_what_was_read_since(
    rt: Runtime, fleet: sandbox.Served, unit: str
) -> None:
    """A sender that gives whole days dates every event before whatever we did that day."""
    await adopt(rt, fleet)
    connection = await lose(rt, fleet)
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await said(rt, connection, Outcome.login_lost)
    await sweep(rt)
    assert load((await first(rt)).judged).read_at is not None
    cut = {"minute": 60, "hour": 3600, "day": 86400}[unit]
    await lose(rt, fleet)
    happened = utcnow()  # in the next minute, perhaps: what was read may be of the one before
    at = happened - timedelta(seconds=happened.timestamp() % cut)
    await said(rt, connection, Outcome.login_lost, at=at)
    assert (await first(rt)).suspect
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"


async def test_a_good_status_alone_does_not_find_a_lost_login_again(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """Makini's own word said *fail*; what it says after that may be of a connection it put away."""
    await adopt(rt, fleet)
    connection = await lose(rt, fleet)
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await said(rt, connection, Outcome.login_lost)
    await sweep(rt)
    assert (await first(rt)).evidence == "read"  # so that its login check is not due soon
    await control(fleet, f"connections/{connection.makini_key}/lag-status", lags=False)
    await lose(rt, fleet, lagging=False)
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await lose(rt, fleet)  # lost as before, and its status says that it is well
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await sweep(rt)
    assert (await first(rt)).health == "healthy"


async def test_in_observe_an_event_from_before_the_last_list_makes_the_health_unknown(
    rt: Runtime, watcher: Runtime, fleet: sandbox.Served
) -> None:
    await sweep(watcher)
    connection = await first(watcher)
    before = utcnow()
    await sweep(watcher)
    await said(watcher, connection, Outcome.login_lost, at=before)
    await sweep(watcher)
    assert (await first(watcher)).health == "unknown"
    await said(watcher, connection, Outcome.login_restored)
    await sweep(watcher)
    assert (await first(watcher)).health == "healthy"


async def test_an_event_from_before_a_stronger_word_than_a_cached_one_changes_nothing(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    connection = await first(rt)
    before = utcnow()
    await said(rt, connection, Outcome.answered)
    await said(rt, connection, Outcome.login_lost, at=before)
    assert not (await first(rt)).suspect


async def test_an_event_that_was_wrong_is_cleared_by_a_read(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    connection = await first(rt)
    await said(rt, connection, Outcome.login_lost)
    await sweep(rt)
    after = await first(rt)
    assert (after.health, after.evidence) == ("healthy", "read")
    assert after.last_read_at is not None
    async with rt.store.read() as session:
        last = await session.scalar(
            select(Transition)
            .where(col(Transition.connection_id) == connection.id, col(Transition.axis) == "health")
            .order_by(col(Transition.at).desc())
            .limit(1)
        )
    assert last is not None
    assert last.source == "read"


@pytest.mark.parametrize("which", range(3))
async def test_an_entity_that_is_away_keeps_no_login_lost_that_works(
    rt: Runtime, fleet: sandbox.Served, which: int
) -> None:
    """Another one is read; whichever of them is asked first."""
    entities = (await rt.app("default")).entities
    await sweep(rt)
    connection = await lose(rt, fleet)
    await said(rt, connection, Outcome.login_lost)
    await control(fleet, "settings", refused=f"{entities[which]}=500")
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await sweep(rt)
    after = await first(rt)
    assert (after.health, after.evidence) == ("healthy", "read")


async def test_where_nothing_can_be_read_an_event_stands(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    connection = await lose(rt, fleet)
    await said(rt, connection, Outcome.login_lost)
    await control(fleet, "settings", data_list="500")
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"


async def test_once_the_status_agreed_its_next_word_counts(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    connection = await lose(rt, fleet, lagging=False)
    await said(rt, connection, Outcome.login_lost)
    await sweep(rt)
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await control(fleet, "settings", data_list="500")
    await sweep(rt)
    assert (await first(rt)).health == "healthy"


async def test_in_observe_a_contradiction_is_unknown_and_says_so(
    rt: Runtime, watcher: Runtime, fleet: sandbox.Served
) -> None:
    await sweep(watcher)
    connection = await first(watcher)
    assert (connection.health, connection.evidence) == ("healthy", "listed")
    await said(watcher, connection, Outcome.login_lost)
    assert (await first(watcher)).health == "reauthorization_required"
    for _ in range(2):
        await sweep(watcher)
        assert (await first(watcher)).health == "unknown"
    [incident] = await incidents(watcher)
    assert incident.status == "open"
    async with rt.store.read() as session:
        last = await session.scalar(
            select(Transition)
            .where(
                col(Transition.connection_id) == connection.id, col(Transition.after) == "unknown"
            )
            .order_by(col(Transition.at).desc())
            .limit(1)
        )
    assert last is not None
    assert "contradicts itself" in last.evidence["message"]
    assert "its list says active" in last.evidence["message"]
    assert reads(fleet) == 0
    await said(watcher, connection, Outcome.login_restored)
    await sweep(watcher)
    assert (await first(watcher)).health == "healthy"
    [incident] = await incidents(watcher)
    assert incident.status == "resolved"


@pytest.mark.parametrize("truth", ["healthy", "reauthorization_required"])
async def test_in_observe_a_contradiction_is_settled_by_a_read_with_a_lent_token(
    rt: Runtime, watcher: Runtime, fleet: sandbox.Served, truth: str
) -> None:
    await adopt(rt, fleet)
    async with rt.store.write() as session:
        await session.execute(update(Connection).values(custody="borrowed"))
    await sweep(watcher)
    connection = await first(watcher)
    if truth != "healthy":
        await lose(watcher, fleet)
    await said(watcher, connection, Outcome.login_lost)
    before = changes(fleet)
    await sweep(watcher)
    after = await first(watcher)
    assert (after.health, after.evidence) == (truth, "read")
    assert changes(fleet) == before


async def test_a_fail_from_before_a_login_does_not_undo_it(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    connection = await lose(rt, fleet, lagging=False)
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"
    await control(fleet, f"connections/{connection.makini_key}/lag-status")
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await said(rt, connection, Outcome.login_restored)
    for _ in range(2):
        await sweep(rt)
        assert (await first(rt)).health == "healthy"
    await control(fleet, f"connections/{connection.makini_key}/lag-status", lags=False)
    await control(fleet, f"connections/{connection.makini_key}/change-credentials")
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"


async def test_a_late_fail_does_not_undo_what_makini_has_said_of_the_connection_since(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """The login was lost and works again; the status tells of the loss only after the event."""
    await adopt(rt, fleet)
    connection = await lose(rt, fleet, lagging=False)
    await control(fleet, f"connections/{connection.makini_key}/lag-status")
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    await said(rt, connection, Outcome.answered)
    await sweep(rt)
    assert (await first(rt)).health == "healthy"
    assert await incidents(rt) == []
    await control(fleet, f"connections/{connection.makini_key}/lag-status", lags=False)
    await control(fleet, f"connections/{connection.makini_key}/change-credentials")
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"


async def test_what_a_poll_has_read_counts_as_read_from_the_next_sweep_on(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    assert {connection.evidence for connection in await connections(rt)} == {"probed"}
    started = utcnow()
    async with rt.store.write() as session:
        for connection in await connections(rt):
            session.add(
                Watermark(connection_id=connection.id, entity="eam/assets", polled_at=started)
            )
        later = started + timedelta(minutes=9)
        await session.execute(update(Connection).values(next_probe_at=later))
    now = utcnow()
    await count_reads(rt.store, started, now=now)
    assert all(row.next_probe_at == now for row in await connections(rt))
    await sweep(rt)
    assert {connection.evidence for connection in await connections(rt)} == {"read"}
