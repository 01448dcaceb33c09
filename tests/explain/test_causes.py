"""Each planted cause is found: its hop, whose it is, on both databases."""

import re

import pytest

from linekeeper.clock import utcnow
from linekeeper.explain.render import markdown, plain
from linekeeper.explain.service import explain
from tests.explain.plant import PLANTS
from tests.explain.plant_of_polls import baseline
from tests.explain.planting import Plant, subject
from tests.inbox.process.stage import Stage


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
async def test_the_hop_that_is_missing_is_named(stage: Stage, plant: Plant) -> None:
    planted = await plant(stage)
    configuration = await stage.rt.configuration()
    found = await explain(stage.rt.store, configuration, planted.subject, now=utcnow())
    verdict = found.verdict
    got = (verdict.cause.value, verdict.missing and verdict.missing.value, verdict.owner.value)
    assert got == (planted.cause, planted.missing, planted.owner), plain(found)
    assert verdict.summary in plain(found)
    assert not re.search(r"\b1 (were|rejected deliveries)", plain(found))
    assert found.limits
    assert markdown(found).startswith("## ")
    answered = found.answer().as_json()
    missing = [hop["hop"] for hop in answered["hops"] if hop["state"] in ("missing", "waiting")]
    assert planted.missing is None or planted.missing in missing
    read = next(hop for hop in answered["hops"] if hop["hop"] == "read")
    assert read["state"] != "missing" or not read["text"].startswith("Applied"), plain(found)


async def test_a_delivery_that_is_not_read_yet_is_explained_as_that_of_the_connection_it_names(
    stage: Stage,
) -> None:
    """It said *Unknown connection*, and that nothing is forwarded for its app."""
    which, configuration = stage.connections[0], await stage.rt.configuration()
    receipt = await stage.deliver({"event": "assets.updated", "body": ["w-1"]}, to=which)
    by_record = await explain(
        stage.rt.store, configuration, await subject(stage, which, "w-1"), now=utcnow()
    )
    found = await explain(stage.rt.store, configuration, receipt.id, now=utcnow())
    assert by_record.title.startswith(found.title)
    forwards = [
        next(hop.text for hop in each.hops if hop.name.value == "forward")
        for each in (by_record, found)
    ]
    assert forwards[0] == forwards[1]


async def test_what_nothing_is_known_of_may_have_reached_makini_all_the_same(stage: Stage) -> None:
    planted = await baseline(stage)
    found = await explain(
        stage.rt.store, await stage.rt.configuration(), planted.subject, now=utcnow()
    )
    assert "the next poll of its entity finds it, once Makini has it" in found.verdict.next_step
