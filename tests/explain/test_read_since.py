"""What a delivery could not bring, and was read later, is not said to be still to come."""

from datetime import timedelta

import pytest

from linekeeper.explain.answer import HopName
from linekeeper.store.tables import Credential

from .planting import mark
from .test_odd import NOW, World, change, delivery, record, world

__all__ = ["world"]

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("brought_by", ["nothing", "first listing", "poll"])
async def test_the_next_step_of_a_deferred_delivery_is_true_now(
    world: World, brought_by: str
) -> None:
    which = await world.connection("a", last_webhook_at=NOW)
    came = NOW - 20 * MINUTE
    held = delivery(
        which, "9", status="deferred", received_at=came, processed_at=came, error="unreachable"
    )
    await world.add(held)
    if brought_by != "nothing":
        seen = NOW - 5 * MINUTE
        await world.add(record(which, "9", updated_at=came, seen_at=seen))
    if brought_by == "poll":
        await world.add(change(which, "9", 1, updated_at=came, at=NOW - 5 * MINUTE))
    found = await world.ask(held.id)
    assert found.verdict.missing is HopName.read
    is_read = brought_by != "nothing"
    assert (found.verdict.next_step == "Nothing: Linekeeper has read the record since.") is is_read
    assert ("was read since" in found.verdict.summary) is is_read


@pytest.mark.parametrize(("listed_before", "is_there"), [(5, False), (25, True)])
async def test_what_a_listing_since_then_lacks_is_not_said_to_be_still_to_come(
    world: World, listed_before: int, is_there: bool
) -> None:
    which = await world.connection("a", last_webhook_at=NOW)
    came = NOW - 20 * MINUTE
    held = delivery(
        which, "9", status="deferred", received_at=came, processed_at=came, error="too many"
    )
    listed = NOW - listed_before * MINUTE
    await world.add(held, mark(which, full_at=listed, polled_at=listed))
    found = await world.ask(f"{which.name} 9")
    assert found.verdict.missing is HopName.read
    assert (found.verdict.next_step or "").startswith("Nothing") is not is_there


@pytest.mark.parametrize("status", ["deferred", "dead"])
async def test_a_reason_that_is_a_sentence_is_not_ended_twice(world: World, status: str) -> None:
    which = await world.connection("a", last_webhook_at=NOW)
    came = NOW - 20 * MINUTE
    held = delivery(
        which, "9", status=status, received_at=came, processed_at=came, error="Ask again later."
    )
    token = Credential(connection_id=which.id, access_token="sealed", updated_at=came)
    await world.add(held, token)
    summary = (await world.ask(held.id)).verdict.summary
    assert "Ask again later." in summary
    assert ".." not in summary
