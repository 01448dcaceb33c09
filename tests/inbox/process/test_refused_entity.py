"""One entity is refused (401) while Makini's status says a `fail` from before the last login."""

import pytest

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
