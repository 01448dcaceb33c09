"""A connection that was there before an implementation began is not taken for what came with it.

When Linekeeper first saw it says nothing of that: the first sweep may come after the start.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.customers.adopt import adopt
from linekeeper.implementation.advance import advance, look
from linekeeper.implementation.order import Form
from linekeeper.implementation.progress import Progress
from linekeeper.implementation.start import start
from linekeeper.incidents.suppressed import implemented
from linekeeper.makini import ListedConnection
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection
from linekeeper.sweep.sweep import take_list


@pytest.fixture
async def box() -> AsyncIterator[sandbox.Served]:
    settings = sandbox.Settings(port=0, connections=0, per_minute=0, scenario="quiet")
    async with sandbox.serving(settings) as served:
        yield served


@pytest.fixture
async def rt(store: Store, settings: Settings, box: sandbox.Served) -> AsyncIterator[Runtime]:
    makini = {
        "makini_api_url": box.url,
        "makini_link_url": box.url,
        "makini_client_id": box.world.settings.client_id,
        "makini_client_secret": box.world.settings.client_secret,
        "makini_per_minute": 0,
    }
    async with Runtime.open(Settings(**settings.model_dump() | makini)) as opened:
        yield opened


async def begun(rt: Runtime, system: str, now: datetime) -> Progress:
    form = Form(
        customer="Acme", systems=[system], complexity="standard", kickoff=now.date(),
        owner="Petra", by="Petra",
    )  # fmt: skip
    return (await start(rt.store, form, now=now)).progress


async def bound(rt: Runtime, progress: Progress, now: datetime) -> Connection | None:
    """The connection that is the implementation's system, after it was moved on."""
    identifier = progress.standing.implementation.id
    await advance(rt.store, identifier, now=now)
    system = (await look(rt.store, identifier, now=now)).standing.systems[0]
    if system.connection_id is None:
        return None
    async with rt.store.read() as session:
        return await session.get(Connection, system.connection_id)


async def listed(rt: Runtime, now: datetime, *entries: ListedConnection) -> None:
    async with rt.store.write() as session:
        await adopt(rt.store, session, "default", entries, now=now)


async def test_what_makini_made_before_the_start_is_not_the_new_one_whenever_it_is_first_seen(
    rt: Runtime, box: sandbox.Served
) -> None:
    now = utcnow()
    old = box.world.create(name="Acme · Works", email="it@acme.example", provider="upkeep")
    old.created_at = now - timedelta(days=300)
    old.connected_at = now + timedelta(minutes=1)  # its customer logged in again
    progress = await begun(rt, "Plant system", now)
    await take_list(rt, await rt.app("default"), now=now + timedelta(minutes=5))
    assert await bound(rt, progress, now + timedelta(minutes=5)) is None

    new = box.world.create(name="Acme · Second", email="it@acme.example", provider="upkeep")
    new.created_at = new.connected_at = now + timedelta(minutes=7)
    await take_list(rt, await rt.app("default"), now=now + timedelta(minutes=10))
    taken = await bound(rt, progress, now + timedelta(minutes=10))
    assert taken is not None
    assert taken.makini_key == new.key


async def test_an_older_connection_that_is_the_system_by_its_name_keeps_its_alerts(
    rt: Runtime, box: sandbox.Served
) -> None:
    now = utcnow()
    old = box.world.create(name="Acme · UpKeep", email="it@acme.example", provider="upkeep")
    old.created_at = old.connected_at = now - timedelta(days=300)
    progress = await begun(rt, "UpKeep", now)
    await take_list(rt, await rt.app("default"), now=now + timedelta(minutes=5))
    taken = await bound(rt, progress, now + timedelta(minutes=5))
    assert taken is not None
    async with rt.store.read() as session:
        assert not await implemented(session, [taken.id])


async def test_where_the_list_says_no_date_the_step_says_so_unless_a_list_of_before_lacked_it(
    rt: Runtime,
) -> None:
    now = utcnow()
    progress = await begun(rt, "Plant system", now)
    first = now + timedelta(minutes=5)
    silent = ListedConnection(key="k1", name="Acme · Works", status="Active", provider="upkeep")
    await listed(rt, first, silent)
    assert await bound(rt, progress, first) is None
    progress = await look(rt.store, progress.standing.implementation.id, now=first)
    said = progress.lacks["authentication-1"].text
    assert "Acme · Works" in said
    assert "does not say whether it was connected before" in said

    later = await begun(rt, "Another", first + timedelta(hours=1))
    after = first + timedelta(hours=2)
    await listed(
        rt, after, ListedConnection(key="k2", name="Acme · 2", status="Active", provider="infor")
    )
    taken = await bound(rt, later, after)
    assert taken is not None
    assert taken.makini_key == "k2"


async def test_what_only_says_since_when_it_is_connected_keeps_the_first_that_was_said(
    rt: Runtime,
) -> None:
    now = utcnow()
    for days in (300, 2):
        connected = now - timedelta(days=days)
        entry = ListedConnection(
            key="k1", name="Acme · Works", status="Active", connected_at=connected
        )
        await listed(rt, now, entry)
    async with rt.store.read() as session:
        made = await session.scalar(
            select(col(Connection.made_at)).where(col(Connection.makini_key) == "k1")
        )
    assert made == now - timedelta(days=300)
