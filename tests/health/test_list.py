"""What Makini's list says, and what is rather not concluded from it."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Observation, Outcome
from linekeeper.health.service import observe
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Incident, IncidentConnection
from linekeeper.sweep.app import through_circuit
from linekeeper.sweep.sweep import (
    OTHERS_SHARE,
    DueConnection,
    calls_of,
    choose,
    take_list,
)
from tests.health.test_sweep import adopt, connections, control, incidents, sweep


async def test_a_success_between_failures_of_the_app_starts_the_count_again(rt: Runtime) -> None:
    app = await rt.app("default")
    for _ in range(2):
        for _ in range(4):
            with pytest.raises(MakiniError, match="down"):
                async with through_circuit(rt.store, app):
                    raise MakiniError(ErrorKind.unavailable, "down", app=app.name)
        async with through_circuit(rt.store, app):
            pass


async def test_what_the_list_says_is_heard_in_the_end_though_a_probe_was_newer(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    [connection, *_] = await connections(rt)
    app, policy = await rt.app("default"), (await rt.configuration()).policy
    await control(fleet, f"connections/{connection.makini_key}/deactivate")
    started = utcnow()
    newer = Observation(started + timedelta(seconds=3), "probe", Outcome.answered)
    async with rt.store.write() as session:
        await observe(rt.store, session, [(connection.id, newer)], policy=policy, now=newer.at)
    await take_list(rt, app, now=started)
    [held, *_] = await connections(rt)
    assert (held.list_status, held.health) == ("Inactive", "healthy")
    await take_list(rt, app, now=started + timedelta(seconds=10))
    [held, *_] = await connections(rt)
    assert held.health == "inactive"
    assert [incident.kind for incident in await incidents(rt)] == ["inactive"]


async def test_what_makini_says_of_the_last_synchronization_is_kept(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    assert {connection.sync_status for connection in await connections(rt)} == {"done"}


async def test_who_is_judged_can_be_put_into_an_incident_by_another(rt: Runtime) -> None:
    """Else each would wait for the other: one for the row, one for its turn to conclude."""
    if rt.store.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    await sweep(rt)
    [connection, *_] = await connections(rt)
    policy, now = (await rt.configuration()).policy, utcnow()
    incident = Incident(kind="unreachable", scope="connection", cause="c", app="a", title="t")
    async with rt.store.write() as judging:
        seen = [(connection.id, Observation(now, "probe", Outcome.answered))]
        await observe(rt.store, judging, seen, policy=policy, now=now)
        async with asyncio.timeout(30), rt.store.write() as concluding:
            concluding.add(incident)
            await concluding.flush()
            concluding.add(
                IncidentConnection(
                    incident_id=incident.id, connection_id=connection.id, kind="unreachable"
                )
            )
    async with rt.store.read() as session:
        found = await session.scalar(
            select(col(Connection.id)).join(
                IncidentConnection, col(IncidentConnection.connection_id) == col(Connection.id)
            )
        )
    assert found == connection.id


fleets = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["SAP", "UpKeep"])), max_size=40
).map(lambda some: [DueConnection(f"{n}", *one) for n, one in enumerate(sorted(some))])


@given(fleets, st.integers(0, 50))
def test_as_many_are_asked_as_can_be_and_a_share_of_them_is_not_urgent(
    waiting: list[DueConnection], probe_budget: int
) -> None:
    chosen = choose(waiting, probe_budget)
    assert len(chosen.ids) == min(probe_budget, len(waiting))
    assert len(chosen.ids) + chosen.left_out == len(waiting)
    urgent = [one.id for one in waiting if one.rank == 0]
    others = [one.id for one in waiting if one.rank]
    kept = min(len(others), max(probe_budget - len(urgent), int(probe_budget * OTHERS_SHARE)))
    first, rest = chosen.ids[: len(chosen.ids) - kept], chosen.ids[len(chosen.ids) - kept :]
    assert set(first) == set(urgent[: len(first)])
    assert rest == others[:kept]


@given(fleets, st.integers(2, 50))
def test_a_connection_that_needs_a_new_token_first_costs_two_calls(
    waiting: list[DueConnection], probe_budget: int
) -> None:
    priced = [one._replace(calls=1 + n % 2) for n, one in enumerate(waiting)]
    chosen = choose(priced, probe_budget)
    spent = calls_of(one for one in priced if one.id in chosen.ids)
    assert spent <= probe_budget
    assert not chosen.left_out or spent >= probe_budget - 2
