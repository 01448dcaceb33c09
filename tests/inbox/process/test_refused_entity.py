"""One entity is refused (401) while Makini's status says a `fail` from before the last login."""

import pytest

from linekeeper.clock import utcnow
from linekeeper.health.evidence import Observation, Outcome
from linekeeper.health.service import observe
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_process_records import changed, event_of
from tests.reconcile.conftest import run


@pytest.mark.parametrize("polled", [False, True])
@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_late_word_makes_no_lost_login_of_it(
    stage: Stage, is_lost: bool, polled: bool
) -> None:
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets")
    await stage.control(f"connections/{connection.makini_key}/change-credentials")
    await stage.control(f"connections/{connection.makini_key}/lag-status")
    if not is_lost:
        await stage.control(f"connections/{connection.makini_key}/restore-credentials")
    await stage.control("settings", refused="eam/assets=401")
    if polled:
        await run(stage.rt, full=True)
    else:
        await stage.deliver(event_of("eam/assets", keys), to=connection)
        await stage.process()
    expected = "reauthorization_required" if is_lost else "healthy"
    assert (await stage.connection(connection)).health == expected


@pytest.mark.parametrize("polled", [False, True])
@pytest.mark.parametrize("logged_in", [False, True])
async def test_nor_where_no_read_can_settle_it(stage: Stage, logged_in: bool, polled: bool) -> None:
    """Every other entity is away, so that there is no read but the one that was refused."""
    [connection, *_] = stage.connections
    entities = (await stage.rt.app("default")).entities
    keys = await changed(stage, connection, "eam/assets")
    await stage.control(f"connections/{connection.makini_key}/change-credentials")
    await stage.control(f"connections/{connection.makini_key}/lag-status")
    await stage.control(f"connections/{connection.makini_key}/restore-credentials")
    if logged_in:
        now, policy = utcnow(), (await stage.rt.configuration()).policy
        seen = Observation(at=now, source="webhook", outcome=Outcome.login_restored)
        async with stage.rt.store.write() as session:
            await observe(stage.rt.store, session, [(connection.id, seen)], policy=policy, now=now)
    others = ",".join(f"{entity}=500" for entity in entities if entity != "eam/assets")
    await stage.control("settings", refused=f"eam/assets=401,{others}")
    if polled:
        await run(stage.rt, full=True)
    else:
        await stage.deliver(event_of("eam/assets", keys), to=connection)
        await stage.process()
    expected = "healthy" if logged_in else "reauthorization_required"
    assert (await stage.connection(connection)).health == expected
