"""A *Forward URL* that was cleared or changed, and is there again: what waits goes on at once."""

from datetime import timedelta

import pytest

from linekeeper.clock import utcnow
from linekeeper.orchestrator import Blocks
from linekeeper.outbox.senders.forward import forwarding
from linekeeper.runtime import Runtime
from linekeeper.store.configuration import SharedConfiguration, save_blocks
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_forward import online

SOON = timedelta(seconds=1)


async def with_address(stage: Stage, rt: Runtime, url: str | None) -> None:
    app = (await stage.rt.app("default")).model_copy(update={"forward_url": url})
    await save_blocks(stage.rt.store, Blocks(apps=[app]), now=utcnow())
    rt.configuration = SharedConfiguration(rt.store, rt.settings).read  # what is a few seconds old


@pytest.mark.parametrize("restarts", [False, True])
async def test_what_waited_for_an_address_goes_on_once_there_is_one(
    stage: Stage, restarts: bool
) -> None:
    """It had waited for up to ten minutes more, and all later ones of its connection behind it."""
    url = stage.product.url
    [first] = await online(stage, stage.connections[0])
    moment = utcnow()
    async with Runtime.open(stage.rt.settings) as rt, forwarding(rt, lambda: moment) as forwarder:
        await with_address(stage, rt, None)
        await forwarder.deliver()
        await forwarder.deliver()
        assert stage.product.taken == []
        moment += SOON
        await with_address(stage, rt, url)
        if not restarts:
            await forwarder.deliver()
    if restarts:
        async with forwarding(stage.rt, lambda: moment) as forwarder:
            await forwarder.deliver()
    assert [identity for identity, _ in stage.product.taken] == [first]


async def test_what_an_old_address_did_not_take_is_tried_at_a_new_one_at_once(
    stage: Stage,
) -> None:
    url = stage.product.url
    [first] = await online(stage, stage.connections[0])
    stage.product.answers = [422] * 20
    moment = utcnow()
    async with Runtime.open(stage.rt.settings) as rt, forwarding(rt, lambda: moment) as forwarder:
        for _ in range(8):
            moment += timedelta(minutes=6)
            await forwarder.deliver()
        stage.product.answers.clear()
        moment += SOON
        await forwarder.deliver()
        taken = len(stage.product.taken)
        await with_address(stage, rt, f"{url}?new")
        moment += SOON
        await forwarder.deliver()
    assert taken == 0
    assert [identity for identity, _ in stage.product.taken] == [first]
