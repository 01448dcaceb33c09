"""A receiver that has just begun knows nothing yet of the parts that say nothing."""

from datetime import timedelta

from sqlalchemy import update

from linekeeper.clock import utcnow
from linekeeper.receiver.standby import Standby
from linekeeper.store.tables import WebhookEvent
from linekeeper.watch.queries import beat
from tests.inbox.process.conftest import fleet, product, stage
from tests.inbox.process.stage import Stage
from tests.watch.test_one_cause import notified, open_kinds, pass_by

__all__ = ["fleet", "product", "stage"]  # fixtures


async def test_it_does_not_say_that_webhooks_wait_before_it_knows_that_no_consumer_lives(
    stage: Stage,
) -> None:
    """Everything was off for hours, and the receiver is the first that is back."""
    store, standby = stage.rt.store, Standby(stage.rt)
    await stage.deliver({"id": "w", "event": "assets.updated", "body": ["1"]})
    async with store.write() as session:
        await session.execute(
            update(WebhookEvent).values(received_at=utcnow() - timedelta(hours=3))
        )
    await beat(store, "consumer:a", "consumer", "there")
    await pass_by(store, minutes=180)
    await beat(store, "receiver:b", "receiver", "there")
    assert not await standby.look_if_nobody_consumes()
    assert await open_kinds(store) == set()
    await pass_by(store, minutes=3)
    assert await standby.look_if_nobody_consumes()
    assert await notified(stage.rt) == {"part_silent": "critical"}
