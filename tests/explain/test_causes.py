"""Each planted cause is found: its hop, whose it is, on both databases."""

import pytest

from linekeeper.clock import utcnow
from linekeeper.explain.render import markdown, plain
from linekeeper.explain.service import explain
from tests.explain.plant import PLANTS
from tests.explain.planting import Plant
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
    assert found.limits
    assert markdown(found).startswith("## ")
    answered = found.answer().as_json()
    missing = [hop["hop"] for hop in answered["hops"] if hop["state"] in ("missing", "waiting")]
    assert planted.missing is None or planted.missing in missing
    read = next(hop for hop in answered["hops"] if hop["hop"] == "read")
    assert read["state"] != "missing" or not read["text"].startswith("Applied"), plain(found)
