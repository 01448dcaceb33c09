"""A product that is back gets what waited within seconds, however little waits for it."""

from datetime import timedelta

from linekeeper.clock import utcnow
from linekeeper.outbox.senders.forward import ForwardSender, forwarding
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_forward import online

STEP = timedelta(seconds=ForwardSender.longest_pause)
AWAY = timedelta(minutes=30)


async def test_one_message_asks_every_few_seconds_whether_the_product_is_back(
    stage: Stage,
) -> None:
    """Each message waited longer from try to try: a product that was back had to wait 10 min."""
    [waits] = await online(stage, stage.connections[0])
    stage.product.answers = [500] * 1000
    begun = moment = utcnow()
    async with forwarding(stage.rt, lambda: moment) as forwarder:
        while moment < begun + AWAY:
            moment += STEP
            await forwarder.deliver()
    async with forwarding(stage.rt, lambda: moment) as forwarder:  # another consumer goes on
        while moment < begun + 2 * AWAY:
            moment += STEP
            await forwarder.deliver()
        stage.product.answers.clear()
        moment += STEP
        await forwarder.deliver()
    assert [identity for identity, _ in stage.product.taken] == [waits]
