"""While all is paused nobody is told of anything, but for Linekeeper's own parts."""

from datetime import timedelta

from linekeeper.clock import utcnow
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import PartHeartbeat
from linekeeper.sweep.webhooks import TOPIC
from linekeeper.watch.queries import note_prefect
from linekeeper.watch.service import watch
from tests.notify.conftest import Desk


async def test_a_part_that_dies_in_a_pause_is_told_and_a_customers_trouble_is_not(
    desk: Desk, settings: Settings
) -> None:
    now = utcnow()
    hour = timedelta(hours=1)
    async with desk.store.write() as session:
        for kind, at in (("consumer", now - hour), ("receiver", now)):
            part = f"{kind}:a"
            session.add(PartHeartbeat(part=part, kind=kind, host="vm", since=now - 9 * hour, at=at))
    await note_prefect(desk.store, {}, paused=True)
    await desk.open(customer="Acme", kind="reauthorization_required")
    overdue = Finding(
        kind="webhooks_behind",
        cause="app:default:webhooks_behind",
        app="default",
        title="app default · webhooks waiting for 20 min",
        text="Webhooks wait for 20 min.",
        resolved="They are applied again.",
    )
    lost = Finding(
        kind="canary_lost",
        cause="canary:default",
        app="default",
        title="app default · a canary was lost",
        text="It did not come through.",
    )
    async with Runtime.open(settings) as rt:
        await watch(rt)
    async with desk.store.write() as session:
        await apply_findings(desk.store, session, TOPIC, [overdue], now=utcnow())
        await apply_findings(desk.store, session, "canary", [lost], now=utcnow())
    await desk.deliver(limit=200)
    said = " | ".join(message["text"] for message in desk.messages())
    assert "No sign of life from the consumer on vm since" in said
    assert "webhooks waiting for 20 min" not in said  # which is why: it is one message
    assert "a canary was lost" in said
    assert "Acme" not in said
    # That nothing is swept is what the pause is for.
    assert "No sweep" not in said
    await note_prefect(desk.store, {}, paused=False)
    await desk.deliver(limit=200)
    assert "Acme" in " | ".join(message["text"] for message in desk.messages())
