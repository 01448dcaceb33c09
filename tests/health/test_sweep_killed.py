"""A sweep killed anywhere: the next one completes it; nothing is lost and nothing told twice."""

import os
import random
import signal
from collections import Counter

import pytest
from sqlalchemy import select
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.config import HealthPolicy
from linekeeper.incidents.announce import incident_ordering_key
from linekeeper.orchestrator import Blocks
from linekeeper.runtime import Runtime
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import Connection, Incident, IncidentConnection, Outbox, Transition
from tests.forking import python
from tests.health.test_sweep import connections, control, sweep


async def sweep_in_another_process(rt: Runtime, *, dies_at: int) -> tuple[int, str]:
    """A sweep in a process of its own; returns how it ended and what it said."""
    settings = rt.settings
    process = await python(
        *("tests.health.dying_sweep", str(dies_at)),
        env={
            **os.environ,
            "LINEKEEPER_HOME": str(settings.home),
            "LINEKEEPER_DATABASE_URL": settings.resolved_database_url,
            "LINEKEEPER_ENCRYPTION_KEYS": settings.encryption_keys[0].get_secret_value(),
            "LINEKEEPER_MAKINI_API_URL": settings.makini_api_url or "",
            "LINEKEEPER_MAKINI_CLIENT_ID": "sandbox-client",
            "LINEKEEPER_MAKINI_CLIENT_SECRET": "sandbox-secret",
            "LINEKEEPER_MAKINI_MODE": "manage",
            "LINEKEEPER_MAKINI_PER_MINUTE": "0",
            "LINEKEEPER_PROBE_MINUTES": "0",
        },
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.soak)])
async def test_a_sweep_killed_anywhere_is_completed_by_the_next(
    rt: Runtime, fleet: sandbox.Served, kills: int
) -> None:
    steady = HealthPolicy(probe_minutes=0, flap_falls=1_000)  # so often killed, it isn't flapping
    await save_blocks(rt.store, Blocks(policy=steady), now=utcnow())
    await sweep(rt)
    fleet_now = await connections(rt)
    rng = random.Random(20)
    code, said = await sweep_in_another_process(rt, dies_at=0)
    assert code == 0, said
    moments = int(said)
    for number in range(1, kills + 1):
        [sick, gone] = rng.sample(fleet_now, 2)
        await control(fleet, f"connections/{sick.makini_key}/change-credentials")
        await control(fleet, f"connections/{gone.makini_key}/deactivate")
        code, said = await sweep_in_another_process(rt, dies_at=rng.randint(1, moments))
        assert code == -signal.SIGKILL, said
        await sweep(rt)
        await sweep(rt)
        assert await troubles(rt) == {
            sick.id: "reauthorization_required",
            gone.id: "inactive",
        }
        await control(fleet, f"connections/{sick.makini_key}/restore-credentials")
        await control(fleet, f"connections/{gone.makini_key}/activate")
        await sweep(rt)
        await sweep(rt)
        assert await troubles(rt) == {}
        await each_was_notified_once(rt, troubles=2 * number)


async def troubles(rt: Runtime) -> dict[str, str]:
    """The health of the members of open incidents; each is in one, and no other is unwell."""
    async with rt.store.read() as session:
        members = (
            await session.execute(
                select(col(IncidentConnection.connection_id), col(IncidentConnection.kind))
                .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
                .where(
                    col(IncidentConnection.left_at).is_(None), col(Incident.resolved_at).is_(None)
                )
            )
        ).all()
        unwell = (
            await session.execute(
                select(col(Connection.id), col(Connection.health)).where(
                    col(Connection.health) != "healthy"
                )
            )
        ).all()
    found = {row[0]: row[1] for row in members}
    assert len(found) == len(members)
    assert found == {row[0]: row[1] for row in unwell}
    return found


async def each_was_notified_once(rt: Runtime, *, troubles: int) -> None:
    async with rt.store.read() as session:
        incidents = set(await session.scalars(select(Incident.id)))
        outbox = list(await session.scalars(select(Outbox)))
        transitions = list(
            await session.scalars(
                select(Transition)
                .where(col(Transition.axis) == "health")
                .order_by(col(Transition.connection_id), col(Transition.at), col(Transition.id))
            )
        )
    notified = Counter(
        row.ordering_key for row in outbox if row.channel == "slack" and row.payload["do"] == "show"
    )
    assert set(notified) == {incident_ordering_key(connection) for connection in incidents}
    # A trouble's message is posted (or reopened) and edited when it is resolved: no more.
    assert notified.total() == 2 * troubles
    last: dict[str, str] = {}
    for row in transitions:  # each begins where the one before ended: none is lost or repeated
        assert row.before == last.get(row.connection_id, "unknown")
        last[row.connection_id] = row.after
