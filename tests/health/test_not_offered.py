"""An entity that a system does not offer (404) was not read: it says nothing of the others."""

from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Outcome
from linekeeper.health.scope import count_reads
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Watermark
from tests.health.test_contradictions import first, reads, said
from tests.health.test_sweep import adopt, control, sweep

OFFERED, ABSENT = ("eam/assets", "eam/sites"), ("eam/work-orders", "erp/purchase-orders")


async def marked(rt: Runtime, marks: list[Watermark]) -> None:
    async with rt.store.write() as session:
        session.add_all(marks)


def not_offered(connection: Connection, at: datetime) -> list[Watermark]:
    """What a poll leaves of entities that were answered with 404."""
    return [
        Watermark(
            connection_id=connection.id, entity=entity, offered=False, polled_at=at, full_at=at,
            not_found_since=at,
        )
        for entity in ABSENT
    ]  # fmt: skip


async def test_a_login_that_is_back_is_found_by_what_was_refused_while_others_were_not_offered(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """Universe 32840: a poll while the credits were out left one entity refused (403) and one not
    found; the one had seemed to be refused by its own permission, so that nothing was ever read."""
    await adopt(rt, fleet)
    connection = await first(rt)
    at = utcnow()
    refused = [
        Watermark(
            connection_id=connection.id, entity=entity, polled_at=at - timedelta(minutes=5),
            failure="forbidden", failures=1, failing_since=at, error="The connection is inactive.",
        )
        for entity in OFFERED
    ]  # fmt: skip
    await marked(rt, [*refused, *not_offered(connection, at)])
    await control(fleet, f"connections/{connection.makini_key}/change-credentials")
    await said(rt, connection, Outcome.login_lost)
    assert (await first(rt)).health == "reauthorization_required"
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    before = reads(fleet)
    await sweep(rt)
    assert reads(fleet) > before
    assert (await first(rt)).health == "healthy"


async def test_an_entity_that_is_not_offered_is_no_read(rt: Runtime, fleet: sandbox.Served) -> None:
    await adopt(rt, fleet)
    connection, started = await first(rt), utcnow()
    assert connection.evidence == "probed"
    await marked(rt, not_offered(connection, utcnow()))
    async with rt.store.write() as session:
        later = utcnow() + timedelta(hours=1)
        await session.execute(update(Connection).values(next_probe_at=later))
    await count_reads(rt.store, started, now=utcnow())
    assert (await first(rt)).next_probe_at == later
    async with rt.store.write() as session:
        which = col(Connection.id) == connection.id
        await session.execute(update(Connection).where(which).values(next_probe_at=utcnow()))
    await sweep(rt)
    assert (await first(rt)).evidence == "probed"
