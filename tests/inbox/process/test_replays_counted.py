"""A replay is an operator's doing: it is no webhook that came, and no further one that fails."""

from datetime import timedelta

from sqlalchemy import insert, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.inbox.replay import Selection
from linekeeper.reconcile.deliveries import delivered_since
from linekeeper.store.tables import DeliveryCount, WebhookEvent
from linekeeper.sweep.stream import Stream
from linekeeper.sweep.stream_queries import read_streams
from linekeeper.sweep.webhooks import watch_stream
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_replay import run
from tests.inbox.process.test_watch import incidents


async def stream(stage: Stage) -> Stream:
    async with stage.rt.store.read() as session:
        [seen] = await read_streams(session, ["default"], now=utcnow())
    return seen


async def test_dead_events_that_are_replayed_in_vain_fail_once(stage: Stage) -> None:
    [connection, *_] = stage.connections
    await stage.deliver_all(
        [({"id": f"d{n}", "event": "moon.rising"}, connection) for n in range(11)]
    )
    await stage.process()
    for _ in range(2):
        assert await run(stage, Selection("dead")) == 11
        await stage.process()
        seen = await stream(stage)
        assert (seen.last_hour, seen.dead) == (11, 11)
    await watch_stream(stage.rt, utcnow())
    [dead] = (await incidents(stage)).values()
    assert "11 dead webhooks" in (dead.title or "")


async def test_a_replay_that_goes_well_makes_good_for_the_one_that_failed(stage: Stage) -> None:
    [connection, *_] = stage.connections
    await stage.deliver_all(
        [({"id": f"d{n}", "event": "moon.rising"}, connection) for n in range(6)]
    )
    await stage.process()
    await watch_stream(stage.rt, utcnow())
    assert "webhooks_dead" in await incidents(stage)
    assert await run(stage, Selection("dead")) == 6
    async with stage.rt.store.write() as session:
        await session.execute(
            update(WebhookEvent)
            .where(col(WebhookEvent.source) == "replay")
            .values(status="processed", processed_at=utcnow())
        )
    assert (await stream(stage)).dead == 0
    await watch_stream(stage.rt, utcnow())
    assert await incidents(stage) == {}


async def test_a_replay_says_nothing_of_makinis_secret_nor_that_a_webhook_came(
    stage: Stage,
) -> None:
    [connection, *_] = stage.connections
    began = utcnow() - timedelta(hours=5)
    receipt = await stage.deliver(
        {"id": "a", "event": "assets.updated", "body": ["1"]}, to=connection
    )
    await stage.process()
    async with stage.rt.store.write() as session:
        await session.execute(
            update(WebhookEvent).where(col(WebhookEvent.id) == receipt.id).values(received_at=began)
        )
        await session.execute(
            insert(DeliveryCount),
            [
                {"app": "default", "minute": began + timedelta(hours=2), "cause": "bad_signature",
                 "count": 7},
            ],
        )  # fmt: skip
    assert (await stream(stage)).refused_in_a_row == 7
    assert await run(stage, Selection("processed")) == 1
    assert (await stream(stage)).refused_in_a_row == 7
    async with stage.rt.store.read() as session:
        named = await delivered_since(
            session, connection.id, "eam/assets", [], since=began - timedelta(hours=1), new=[]
        )
    assert named == {"1": began}
