"""An app that the settings lack, or whose settings can't be read: what is open of it stays so."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.consumer.record_events import process_record_events
from linekeeper.orchestrator import Blocks
from linekeeper.reconcile.entity_incidents import settle_entities
from linekeeper.runtime import Runtime
from linekeeper.store import configuration
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import AppSetting, Incident, Watermark, WebhookEvent
from linekeeper.sweep.app import close_removed
from linekeeper.sweep.webhooks import watch_stream
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_forward import online
from tests.inbox.process.test_process_records import changed, event_of

LATER = timedelta(minutes=20)


async def without_the_app(stage: Stage, other: AppConfig, *, unreadable: bool) -> None:
    """From now on no process knows the app's settings."""
    if unreadable:
        async with stage.rt.store.write() as session:
            row = await session.get_one(AppSetting, "block:app:default")
            row.value = stage.rt.store.cipher.encrypt("not JSON")
    else:
        await save_blocks(stage.rt.store, Blocks(apps=[other]), now=utcnow())


async def look(rt: Runtime) -> None:
    """What the consumer and the polls do again and again."""
    await watch_stream(rt, utcnow() + LATER)
    await settle_entities(rt, now=utcnow() + LATER)


async def opened(stage: Stage) -> dict[str, str]:
    """Topics of open incidents, by id."""
    async with stage.rt.store.read() as session:
        rows = await session.scalars(select(Incident).where(col(Incident.resolved_at).is_(None)))
        return {row.id: row.topic for row in rows}


@pytest.mark.parametrize("unreadable", [True, False])
async def test_what_is_open_of_it_is_not_said_to_be_over(stage: Stage, unreadable: bool) -> None:
    app = await stage.rt.app("default")
    other = app.model_copy(update={"name": "other"})
    await save_blocks(stage.rt.store, Blocks(apps=[app, other]), now=utcnow())
    [connection, *_] = stage.connections
    await online(stage, connection)
    async with stage.rt.store.write() as session:
        session.add(
            Watermark(
                connection_id=connection.id,
                entity="eam/assets",
                failure="permission",
                failures=5,
                failing_since=utcnow(),
            )
        )
    async with Runtime.open(stage.rt.settings) as rt:
        await look(rt)
    before = await opened(stage)
    assert sorted(before.values()) == ["entities", "stream"]
    await without_the_app(stage, other, unreadable=unreadable)
    async with Runtime.open(stage.rt.settings) as rt:
        await look(rt)
        assert await opened(stage) == before
        gone = await close_removed(rt, now=utcnow())
    assert (gone, await opened(stage)) == (([], before) if unreadable else (["default"], {}))


async def test_an_event_whose_app_goes_while_its_records_are_read_waits_for_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Universe 35003: its records were stored, and it was never handed on."""
    monkeypatch.setattr(configuration, "FRESH_SECONDS", 0.0)
    app = await stage.rt.app("default")
    other = app.model_copy(update={"name": "other"})
    await save_blocks(stage.rt.store, Blocks(apps=[app, other]), now=utcnow())
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets", 1)
    receipt = await stage.deliver(event_of("eam/assets", keys), to=connection)
    await stage.control("settings", latency_ms=600)
    reading = asyncio.create_task(process_record_events(stage.rt))
    await asyncio.sleep(0.3)
    await save_blocks(stage.rt.store, Blocks(apps=[other]), now=utcnow())
    await reading
    assert (await stage.event(receipt.id)).status == "pending"
    assert (await stage.records(), await stage.forwards()) == ([], [])
    await stage.control("settings", latency_ms=0)
    await save_blocks(stage.rt.store, Blocks(apps=[app, other]), now=utcnow())
    async with stage.rt.store.write() as session:
        await session.execute(update(WebhookEvent).values(next_attempt_at=utcnow()))
    await stage.process()
    assert (await stage.event(receipt.id)).status == "processed"
    [forward] = await stage.forwards()
    assert receipt.id in forward.dedupe_key
