"""The message of a degraded connection names its one cause, as it is now."""

import pytest
from msgspec import to_builtins
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.health.evidence import Health, Judged
from linekeeper.store.tables import Connection, IncidentConnection
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


@pytest.mark.parametrize(
    ("causes", "problem"),
    [
        (["slow"] * 3, "These connections answer, but too slowly."),
        (["sync_failing"] * 3, "but Makini reports that their syncs fail."),
        (["sync_stale"] * 3, "but their last successful syncs are too long ago."),
        (["flapping"] * 3, "they fail and recover again and again."),
        (["slow", "slow", "flapping"], "they are slow, their syncs fail or are old, or"),
        (["slow"] * 24 + ["flapping"], "they are slow, their syncs fail or are old, or"),
    ],
)
async def test_several_degraded_connections_have_the_one_problem_that_all_of_them_have(
    desk: Desk, causes: list[str], problem: str
) -> None:
    await desk.open(kind="degraded", others=len(causes) - 1)
    async with desk.store.write() as session:
        for number, connection in enumerate(await session.scalars(select(Connection))):
            judged = Judged(health=Health.degraded, degraded_by=causes[number])
            connection.judged = to_builtins(judged)
    await desk.deliver()
    [message] = desk.messages()
    assert problem in str(message["blocks"])
    assert "Linekeeper probes them in every sweep" in str(message["blocks"])


async def test_one_that_recovered_has_no_part_in_what_the_others_have(desk: Desk) -> None:
    await desk.open(kind="degraded", others=2)
    async with desk.store.write() as session:
        well, *ill = (await session.scalars(select(Connection))).all()
        well.judged = to_builtins(Judged(health=Health.healthy))
        for connection in ill:
            connection.judged = to_builtins(Judged(health=Health.degraded, degraded_by="slow"))
        await session.execute(
            update(IncidentConnection)
            .where(col(IncidentConnection.connection_id) == well.id)
            .values(left_at=desk.now())
        )
    await desk.deliver()
    assert "These connections answer, but too slowly." in str(desk.messages()[0]["blocks"])
