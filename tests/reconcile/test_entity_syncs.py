"""Makini's own sync of one entity failed: that is about this entity only."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlmodel import select

from linekeeper.clock import utcnow
from linekeeper.consumer.alive import DEAD_AFTER, beat
from linekeeper.consumer.clock_ahead import put_right
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.meaning import EventNames
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Connection, Incident, WebhookEvent
from tests.health.test_sweep import sweep
from tests.makini.peer import Peer
from tests.reconcile.answering import asset, server, with_one_connection
from tests.reconcile.conftest import ENTITIES, adopt, pointed_at, run
from tests.reconcile.test_clock_ahead import DAY, off

__all__ = ["server"]
ORDERS = ENTITIES[0]


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime of one healthy connection, whose entities were read."""
    with_one_connection(server)
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", {"data": [asset(entity)], "meta": {"last_page": 1}})
    status = {"data": {"id": "k1", "sync_status": "inprogress"}}
    server.answer("GET", "/api/integrations/current", status)
    async with Runtime.open(pointed_at(settings, server.url)) as opened:
        await adopt(opened)
        await run(opened)
        await sweep(opened)
        yield opened


async def says(rt: Runtime, event: str, *, minutes: float = 0, **details: Any) -> str:
    """A webhook about the connection, of so many minutes ago, comes in and is applied."""
    app, now = await rt.app("default"), utcnow()
    at = (now - timedelta(minutes=minutes)).isoformat()
    body = {"id": new_id(), "event": event, "connection_id": "k1", "timestamp": at}
    raw = orjson.dumps({**body, "details": details})
    names = EventNames(app.entities, app.event_kinds)
    identity = identify(app.name, names, {}, None, raw, now=now)
    delivery = make_delivery(new_id(), app.name, identity, raw, received_at=now)
    async with Intake.open(rt.store) as intake:
        await intake.store(delivery)
    while await process_connection_events(rt):
        pass
    async with rt.store.read() as session:
        return (await session.get_one(WebhookEvent, delivery.id)).status


async def seen(rt: Runtime) -> tuple[str, list[tuple[str, str]]]:
    """The connection's health, and each incident there is after a run of reconcile."""
    await run(rt)
    async with rt.store.read() as session:
        health = (await session.scalars(select(Connection))).one().health
        incidents = await session.scalars(select(Incident))
        return health, sorted((row.kind, row.status) for row in incidents)


async def test_a_sync_that_failed_for_one_entity_leaves_the_connection_healthy(
    rt: Runtime,
) -> None:
    words = "Work orders: field STATUS is unknown"
    assert await says(rt, "sync.failed", entity="work-orders", message=words) == "processed"
    assert await seen(rt) == ("healthy", [("entity_unsynced", "open")])
    async with rt.store.read() as session:
        [incident] = await session.scalars(select(Incident))
    assert incident.title.endswith(f"failed sync of {ORDERS} at Makini")

    await says(rt, "sync.completed", entity="assets")
    assert await seen(rt) == ("healthy", [("entity_unsynced", "open")])
    await says(rt, "sync.completed", entity="WorkOrders")
    assert await seen(rt) == ("healthy", [("entity_unsynced", "resolved")])


async def test_what_it_says_in_another_order_is_the_same(rt: Runtime) -> None:
    await says(rt, "sync.completed", minutes=1, entity_type="work_orders")
    await says(rt, "sync.failed", minutes=5, entity_type="work_orders")
    assert await seen(rt) == ("healthy", [])


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_what_was_said_by_a_clock_that_was_ahead_hides_no_failure_of_today(
    rt: Runtime,
) -> None:
    with off(DAY):
        await says(rt, "sync.completed", entity="work-orders")
        await beat(rt.store, "one")
    assert await put_right(rt.store, beat=DEAD_AFTER) is not None
    await says(rt, "sync.failed", entity="work-orders")
    assert await seen(rt) == ("healthy", [("entity_unsynced", "open")])


async def test_a_good_sync_of_the_whole_connection_ends_it(rt: Runtime) -> None:
    await says(rt, "sync.failed", minutes=5, entities=["work-orders", "assets"])
    assert await seen(rt) == ("healthy", [("entity_unsynced", "open")] * 2)
    await says(rt, "sync.completed", minutes=6)
    assert await seen(rt) == ("healthy", [("entity_unsynced", "open")] * 2)
    await says(rt, "sync.completed", minutes=4)
    assert await seen(rt) == ("healthy", [("entity_unsynced", "resolved")] * 2)


async def test_a_login_that_one_entity_speaks_of_is_checked_and_not_believed(rt: Runtime) -> None:
    await says(rt, "sync.failed", entity="assets", code="AUTHENTICATION_FAILED")
    async with rt.store.read() as session:
        connection = (await session.scalars(select(Connection))).one()
    assert (connection.health, connection.suspect) == ("healthy", True)


async def test_a_failed_sync_of_all_entities_or_of_none_by_name_is_about_the_connection(
    rt: Runtime,
) -> None:
    await says(rt, "sync.failed", entities=[entity.rpartition("/")[2] for entity in ENTITIES])
    assert (await seen(rt))[0] == "degraded"
