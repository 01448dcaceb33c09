"""What happens to each entity is told once, and as what it is, also where all have it together."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from sqlmodel import col, select
from starlette.responses import JSONResponse

from linekeeper.notify.view import load_views
from linekeeper.reconcile.entity_failures import EntityState, find_failures
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Incident, IncidentEntry
from tests.makini.peer import Peer
from tests.reconcile.answering import asset, server, with_one_connection
from tests.reconcile.conftest import ENTITIES, adopt, pointed_at, run

__all__ = ["server"]
ORDERS, ASSETS = ENTITIES[:2]


def listing(entity: str, total: int) -> dict[str, Any]:
    """Two records, whatever the total says."""
    records = [asset(f"{entity}-1"), asset(f"{entity}-2")]
    return {"data": records, "meta": {"current_page": 1, "last_page": 1, "total": total}}


def say(server: Peer, totals: dict[str, int]) -> None:
    for entity, total in totals.items():
        server.answer("GET", f"/api/{entity}", listing(entity, total))


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime of one connection whose two entities agree with their totals."""
    with_one_connection(server)
    say(server, {ORDERS: 2, ASSETS: 2})
    status = {"data": {"id": "k1", "sync_status": "done"}}
    server.answer("GET", "/api/integrations/current", status)
    managed = pointed_at(settings, server.url, makini_entities=(ORDERS, ASSETS))
    async with Runtime.open(managed) as opened:
        await adopt(opened)
        yield opened


async def incidents(rt: Runtime) -> Sequence[Incident]:
    async with rt.store.read() as session:
        return (await session.scalars(select(Incident).order_by(col(Incident.id)))).all()


async def said_of(rt: Runtime, incident: Incident) -> str:
    """Its summary, and all of its timeline."""
    statement = select(IncidentEntry).where(col(IncidentEntry.incident_id) == incident.id)
    async with rt.store.read() as session:
        entries = (await session.scalars(statement)).all()
    return "\n".join([incident.summary, *(entry.text for entry in entries)])


async def run_twice(rt: Runtime) -> None:
    for _ in range(2):
        assert not (await run(rt, full=True)).failures


async def test_what_is_read_with_another_total_is_not_said_to_be_unreadable(
    rt: Runtime, server: Peer
) -> None:
    say(server, {ORDERS: 9, ASSETS: 1})
    await run_twice(rt)
    [incident] = [found for found in await incidents(rt) if found.status == "open"]
    assert incident.kind == "entity_inconsistent"
    said = await said_of(rt, incident)
    assert "can be read" not in said
    assert f"{ORDERS}: the source says that it has 9 records and lists 2" in said
    assert f"{ASSETS}: the source says that it has 1 records and lists 2" in said


async def test_the_trouble_of_one_entity_goes_on_in_that_of_all_and_is_not_called_resolved(
    rt: Runtime, server: Peer
) -> None:
    say(server, {ORDERS: 9})
    await run_twice(rt)
    say(server, {ASSETS: 1})
    await run_twice(rt)
    first, every = await incidents(rt)
    views = await load_views(rt.store, [first.id, every.id])
    merged = views[first.id].merged_into
    assert merged is not None
    assert merged.title == every.title
    assert "read and synced again" not in await said_of(rt, first)

    say(server, {ORDERS: 2})
    await run_twice(rt)
    *_, left = await incidents(rt)
    assert left.title.endswith(f"another number of {ASSETS} than their total")
    merged = (await load_views(rt.store, [every.id]))[every.id].merged_into
    assert merged is not None
    assert merged.title == left.title

    say(server, {ASSETS: 2})
    await run_twice(rt)
    view = (await load_views(rt.store, [left.id]))[left.id]
    assert view.resolved_at is not None
    assert view.merged_into is None
    assert "read and synced again" in await said_of(rt, left)


async def test_an_entity_that_is_read_again_is_resolved_whatever_the_others_do(
    rt: Runtime, server: Peer
) -> None:
    say(server, {ORDERS: 9})
    await run_twice(rt)
    say(server, {ORDERS: 2, ASSETS: 1})
    await run_twice(rt)
    first, second = await incidents(rt)
    view = (await load_views(rt.store, [first.id]))[first.id]
    assert view.resolved_at is not None
    assert view.merged_into is None
    assert second.status == "open"


async def test_one_failed_read_does_not_resolve_what_was_wrong_with_the_entity_before(
    rt: Runtime, server: Peer
) -> None:
    say(server, {ORDERS: 9})
    await run_twice(rt)
    for kind in ("entity_inconsistent", "entity_failing"):
        server.answer("GET", f"/api/{ORDERS}", JSONResponse({"message": "oops"}, 500))
        await run(rt)
        [incident] = await incidents(rt)
        assert (incident.kind, incident.status) == (kind, "open")
    say(server, {ORDERS: 9})
    await run_twice(rt)
    [incident] = await incidents(rt)
    assert (incident.kind, incident.status) == ("entity_inconsistent", "open")


@pytest.mark.parametrize("total", [None, 3])
async def test_records_without_a_key_are_not_called_another_number_than_the_total(
    rt: Runtime, server: Peer, total: int | None
) -> None:
    """A source of cursors says no total at all."""
    meta = {"current_page": 1, "last_page": 1} | ({} if total is None else {"total": total})
    records = [asset("1"), asset("2"), {"name": "no key"}]
    server.answer("GET", f"/api/{ORDERS}", {"data": records, "meta": meta})
    await run_twice(rt)
    [incident] = await incidents(rt)
    assert incident.title.endswith(f": records of {ORDERS} without a key of their own")
    assert ("lists 3 records" if total is None else "has 3 records") in incident.summary
    assert total is not None or "says that it has" not in incident.summary


def test_what_many_cannot_read_is_told_by_why_it_cannot_be_read() -> None:
    """Makini's own sync of it may have failed as well, for another reason."""
    states = [
        EntityState(
            connection_id=f"c{number}", label=f"Acme {number} · SAP", app="default",
            entity=ORDERS, failure="unavailable", failures=3, since=None,
            error="Makini is not available.", unsynced="field STATUS is unknown",
        )
        for number in range(5)
    ]  # fmt: skip
    [finding] = find_failures(states)
    assert finding.title == f"app default: {ORDERS} unreadable at 5 connections"
    assert finding.text == "5 connections fail in the same way. Makini is not available."
