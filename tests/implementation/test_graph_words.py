"""What the graph of an implementation says of a step: in words that are true of it."""

from linekeeper.implementation.graph import nodes

from .conftest import Office


async def test_a_step_names_who_is_waited_for_and_apart_from_that_its_owner(
    office: Office,
) -> None:
    started = await office.start()
    progress = await office.advance(started.progress)
    messages = [
        node.message
        for node in nodes(progress, began=office.now, form=lambda _: "", now=office.now)
    ]
    waiting = [message for message in messages if message.startswith("Waiting for ")]
    assert waiting
    assert all(message.startswith("Waiting for us since ") for message in waiting)
    assert all("Owner: Petra." in message for message in waiting)


async def test_one_day_is_said_once(office: Office) -> None:
    started = await office.start()
    progress = await office.advance(started.progress)
    for node in nodes(progress, began=office.now, form=lambda _: "", now=office.now):
        if node.message.startswith("Not yet. Likely from "):
            likely = node.message.removeprefix("Not yet. Likely from ").split(".")[0]
            first, last = likely.split(" to ")
            assert first != last, node.message
