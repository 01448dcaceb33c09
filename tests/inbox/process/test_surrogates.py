"""Keys that JSON can spell and no database can hold."""

from linekeeper.store.keys import stored_key
from tests.inbox.process.stage import Stage


async def test_a_lone_surrogate_in_a_key_is_read_handed_on_and_holds_up_nobody(
    stage: Stage,
) -> None:
    which = stage.connections[0]
    raw = b'{"event":"assets.updated","id":"s-1","body":["\\ud800","\\udfffx"]}'
    receipt = await stage.deliver(raw, to=which)
    await stage.process()
    event = await stage.event(receipt.id)
    assert event.kind == "record.updated"
    assert event.status == "processed", (event.status, event.error)
    await stage.forward()
    [(_, taken)] = stage.product.taken
    assert taken["data"]["keys"] == ["\ud800", "\udfffx"]
    assert stored_key("\ud800").startswith("sha256:")


async def test_what_is_said_of_such_a_key_is_said_of_its_own_event(stage: Stage) -> None:
    which = stage.connections[0]
    await stage.deliver(b'{"event":"assets.updated","body":["\\ud800","1"]}', to=which)
    await stage.deliver(b'{"event":"assets.updated","body":["1"]}', to=which)
    await stage.process()
    said = [event.error for event in await stage.events()]
    assert said == ["no URL can hold some of its keys: the next poll reads them", None]
