"""Many deliveries at once: each record is explained by the one that named it."""

from datetime import timedelta

import pytest

from linekeeper.clock import utcnow
from linekeeper.explain.answer import HopName, HopState
from linekeeper.explain.service import explain
from linekeeper.store import new_id
from linekeeper.store.tables import Drift, Transition
from tests.explain.planting import ASSETS, some_key, subject
from tests.explain.test_odd import NOW, World, change, record, world
from tests.inbox.process.stage import Stage

__all__ = ["world"]  # a fixture

COUNT = 10


async def test_each_record_of_a_burst_has_its_own_delivery(stage: Stage) -> None:
    """B13: the deliveries are settled together, and each record has the one that named it."""
    which = stage.connections[0]
    keys = [await some_key(stage, which) for _ in range(COUNT)]
    for number, key in enumerate(keys):
        body = {"id": f"burst-{number}", "event": "assets.inserted", "body": [key]}
        await stage.deliver(
            body | {"connection_id": which.makini_key},
        )
    await stage.process()
    await stage.forward()
    configuration = await stage.rt.configuration()
    for number, key in enumerate(keys):
        asked = await subject(stage, which, key)
        found = await explain(stage.rt.store, configuration, asked, now=utcnow())
        hops = {hop.name: hop for hop in found.hops}
        assert hops[HopName.webhook].evidence["delivery"] == f"burst-{number}"
        assert hops[HopName.forward].state is HopState.done
        assert found.verdict.cause == "product_accepted", key


@pytest.mark.parametrize("cause", ["backfill", "down"])
async def test_what_changed_while_nobody_could_say_so_is_held_against_nobody(
    world: World, cause: str
) -> None:
    which = await world.connection("a", last_webhook_at=utcnow())
    counted = Drift(
        id=new_id(),
        connection_id=which.id,
        entity=ASSETS,
        run_at=utcnow(),
        missed=1,
        cause=cause,
    )
    down = Transition(
        connection_id=which.id,
        at=NOW - timedelta(hours=2),
        axis="health",
        before="healthy",
        after="unreachable",
        source="probe",
    )
    await world.add(down, record(which, "9"), counted)
    await world.add(change(which, "9", 1, missed_in=counted.id))
    found = await world.ask("Acme · Maximo 9")
    [webhook] = [hop for hop in found.hops if hop.name is HopName.webhook]
    assert webhook.state is HopState.not_needed
    assert "the login was lost" in webhook.text
    assert found.verdict.missing is not HopName.webhook
    assert found.verdict.cause != "webhook_lost"
