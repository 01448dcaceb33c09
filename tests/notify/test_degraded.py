"""The message of a degraded connection names its one cause, as it is now."""

import pytest
from msgspec import to_builtins
from sqlalchemy import update

from linekeeper.health.evidence import Health, Judged
from linekeeper.store.tables import Connection
from tests.notify.conftest import Desk


@pytest.mark.parametrize(
    ("cause", "problem"),
    [
        ("slow", "but too slowly."),
        ("sync_failing", "but Makini reports that its sync fails."),
        ("sync_stale", "but its last successful sync is too long ago."),
        ("flapping", "it fails and recovers again and again."),
        ("", "it is slow, its sync is failing or old, or it is flapping."),
    ],
)
async def test_a_degraded_connection_has_the_one_problem_that_it_has(
    desk: Desk, cause: str, problem: str
) -> None:
    incident_id = await desk.open(kind="degraded")
    judged = Judged(health=Health.degraded, degraded_by=cause)
    async with desk.store.write() as session:
        await session.execute(update(Connection).values(judged=to_builtins(judged)))
    await desk.deliver()
    [message] = desk.messages()
    assert problem in str(message["blocks"])
    await desk.change(
        incident_id, "resolved", "It is over.", status="resolved", resolved_at=desk.now()
    )
    await desk.deliver()
    assert problem not in str(desk.messages()[0]["blocks"])
