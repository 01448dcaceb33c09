"""What follows from connections that Makini's list lacks, and when nothing does."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlmodel import col

import sandbox
from linekeeper.access.issue import IssuedToken, Withheld, issue_access_token
from linekeeper.clock import utcnow
from linekeeper.health.absence import Absence
from linekeeper.incidents.news import find_news
from linekeeper.notify import compose
from linekeeper.notify.view import load_views
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Credential, Incident, Outbox
from linekeeper.sweep.sweep import preview_list, take_list
from sandbox.fleet import Connection as Listed
from tests.health.test_sweep import adopt, connections, control, incidents, sweep


async def lists(rt: Runtime, times: int, *, accept: bool = False) -> None:
    for _ in range(times):
        await take_list(rt, await rt.app("default"), now=utcnow(), accept_missing=accept)


async def open_ones(rt: Runtime) -> list[Incident]:
    return [incident for incident in await incidents(rt) if incident.resolved_at is None]


async def texts(rt: Runtime, incident: str) -> str:
    """What the thread of an incident says."""
    async with rt.store.read() as session:
        rows = await session.scalars(
            select(col(Outbox.payload))
            .where(col(Outbox.ordering_key) == f"slack:incident:{incident}")
            .order_by(col(Outbox.seq))
        )
        return "\n".join(row.get("text", "") for row in rows)


def unlist(fleet: sandbox.Served, *victims: Connection) -> dict[str, Listed]:
    """Makini's list lacks these connections, which live; returns them, to bring them back."""
    return {
        connection.makini_key: fleet.world.connections.pop(connection.makini_key)
        for connection in victims
    }


async def minutes_pass(rt: Runtime) -> None:
    """The list before, and what was answered and minted by then, was five minutes earlier."""
    passed = timedelta(minutes=5)
    async with rt.store.write() as session:
        for row in await session.scalars(select(Connection)):
            if row.missing_since is not None:
                row.missing_since -= passed
            if row.last_answered_at is not None:
                row.last_answered_at -= passed
        for pair in await session.scalars(select(Credential)):
            pair.updated_at -= passed


def forget(fleet: sandbox.Served, *victims: Connection) -> dict[str, Listed]:
    """Makini forgets these connections and their tokens; returns them, to bring them back."""
    gone = {each.makini_key: fleet.world.connections[each.makini_key] for each in victims}
    for connection in gone.values():
        fleet.world.remove(connection)
    return gone


def bring_back(fleet: sandbox.Served, gone: dict[str, Listed]) -> None:
    for connection in gone.values():
        fleet.world.connections[connection.key] = connection
        fleet.world._by_id[connection.id] = connection


async def issued(rt: Runtime, connection: Connection) -> IssuedToken | Withheld:
    async with rt.store.read() as session:
        current = await session.get_one(Connection, connection.id)
    return await issue_access_token(rt, current, by="product", now=utcnow())


async def test_a_connection_that_disappears_at_makini_is_an_incident_of_its_own(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """C5: what we did not do ourselves is reported."""
    await adopt(rt, fleet)
    victim, *_ = await connections(rt)
    await control(fleet, f"connections/{victim.makini_key}/change-credentials")
    await sweep(rt)
    [before] = await open_ones(rt)
    assert before.kind == "reauthorization_required"
    gone = forget(fleet, victim)
    await sweep(rt)
    assert [one.id for one in await open_ones(rt)] == [before.id]  # one list is no evidence
    await sweep(rt)
    [incident] = await open_ones(rt)
    assert (incident.kind, incident.scope) == ("disconnected", "connection")
    assert "Open before" in await texts(rt, incident.id)
    assert "Reauthorization required since" in await texts(rt, incident.id)
    assert "Resolved after" not in await texts(rt, before.id)
    assert "disappeared at Makini" in await texts(rt, before.id)
    views = await load_views(rt.store, [incident.id, before.id])
    shown = compose.plain(views[incident.id], now=utcnow())
    assert "disappeared at Makini" in shown
    assert "Before that: Reauthorization required" in shown
    assert "continued in another incident" in compose.plain(views[before.id], now=utcnow())
    policy = (await rt.configuration()).policy
    findings = await find_news(rt.store, policy=policy, now=utcnow())
    assert [(news.reason, news.kind) for news in findings.news] == [("new", "disconnected")]
    withheld = await issued(rt, victim)
    assert isinstance(withheld, Withheld)
    assert withheld.incident == incident.id
    await sweep(rt)
    await sweep(rt)
    assert [one.id for one in await open_ones(rt)] == [incident.id]

    bring_back(fleet, gone)
    await control(fleet, f"connections/{victim.makini_key}/restore-credentials")
    await sweep(rt)
    assert await open_ones(rt) == []
    assert (await connections(rt))[0].setup == "live"
    assert isinstance(await issued(rt, victim), IssuedToken)


async def test_a_disconnect_ordered_here_is_no_incident(rt: Runtime, fleet: sandbox.Served) -> None:
    await adopt(rt, fleet)
    ordered, vanished, *_ = await connections(rt)
    await disconnect(rt, ordered.makini_key, confirm=ordered.makini_key, by="Petra")
    for _ in range(3):
        await sweep(rt)
    assert await incidents(rt) == []
    forget(fleet, vanished)
    await sweep(rt)
    await sweep(rt)
    assert [incident.kind for incident in await open_ones(rt)] == ["disconnected"]
    await disconnect(rt, vanished.makini_key, confirm=vanished.makini_key, by="Petra")
    assert await open_ones(rt) == []


async def test_what_is_accepted_as_gone_is_no_incident_any_more(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    vanished, accepted, *_ = await connections(rt)
    forget(fleet, vanished)
    await sweep(rt)
    await sweep(rt)
    assert [incident.kind for incident in await open_ones(rt)] == ["disconnected"]
    forget(fleet, accepted)
    preview = await preview_list(rt, await rt.app("default"), now=utcnow())
    assert sorted(preview.missing) == sorted([vanished.name, accepted.name])
    await lists(rt, 1, accept=True)
    assert await open_ones(rt) == []
    setups = {connection.id: connection.setup for connection in await connections(rt)}
    assert (setups[vanished.id], setups[accepted.id]) == ("disconnected", "disconnected")


async def test_many_that_disappear_together_are_one_incident(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    victims = (await connections(rt))[:6]
    forget(fleet, *victims)
    await sweep(rt)
    await sweep(rt)
    assert {connection.setup for connection in (await connections(rt))[:6]} == {"disconnected"}
    assert len(await open_ones(rt)) < 6


@pytest.mark.parametrize("kept", [0, 1])
async def test_of_a_small_fleet_a_list_that_lacks_most_concludes_nothing(
    rt: Runtime, fleet: sandbox.Served, kept: int
) -> None:
    for key in sorted(fleet.world.connections)[4:]:
        del fleet.world.connections[key]
    await sweep(rt)
    known = await connections(rt)
    assert len(known) == 4
    gone = forget(fleet, *known[kept:])
    await lists(rt, 3)
    assert {one.setup for one in await connections(rt)} == {"live"}
    for connection in known:
        assert isinstance(await issued(rt, connection), IssuedToken)
    [incident] = await open_ones(rt)
    assert incident.kind == "list_truncated"
    sentence = (
        f"The connection list looks truncated: {4 - kept} of 4 known connections are missing. "
        "Nothing was changed."
    )
    assert sentence in await texts(rt, incident.id)
    assert f"{4 - kept} of 4 known connections are missing" in incident.title
    shown = compose.plain((await load_views(rt.store, [incident.id]))[incident.id], now=utcnow())
    assert "run adopt with Accept what is missing" in shown

    fleet.world.connections |= gone
    await lists(rt, 1)
    assert await open_ones(rt) == []
    forget(fleet, *known[kept:])
    await lists(rt, 1)
    [again] = await open_ones(rt)
    await lists(rt, 1, accept=True)
    assert [one.setup for one in await connections(rt)] == ["live"] * kept + ["disconnected"] * (
        4 - kept
    )
    assert await open_ones(rt) == []
    assert again.id


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_an_empty_list_never_proves_anything_gone(known: int, listed: int, total: int) -> None:
    empty = Absence(known=known, missing=known, listed=0)
    assert empty.looks_truncated == (known > 0)
    counted = Absence(known=known, missing=0, listed=listed, total=total)
    assert counted.looks_truncated == (listed < total)


@pytest.mark.parametrize(
    ("missing", "known", "truncated"),
    [(0, 0, False), (1, 1, True), (1, 2, False), (2, 3, True), (5, 10, False), (6, 10, True)],
)
def test_a_list_that_lacks_more_than_half_looks_truncated(
    missing: int, known: int, truncated: bool
) -> None:
    absence = Absence(known=known, missing=missing, listed=known - missing)
    assert absence.looks_truncated == truncated
