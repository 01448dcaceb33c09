"""A product that reports every call it makes: what changes is kept, and not each of the others."""

from datetime import timedelta

from sqlmodel import col, select

import sandbox
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Observation
from linekeeper.sweep.report_call import Call, record_call
from tests.health.test_contradictions import first
from tests.health.test_sweep import adopt


async def test_reports_that_say_the_same_are_kept_once_an_hour_and_changes_always(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    connection, app, now = await first(rt), await rt.app("default"), utcnow()
    for minutes, status in (
        *((minutes, 200) for minutes in range(90, 20, -1)),
        (20, 503), (19.5, 503), (19, 401), (18, 401), (17, 200), (16, 200),
    ):  # fmt: skip
        at = now - timedelta(minutes=minutes)
        await record_call(rt, app, connection.id, Call(status, at))
    async with rt.store.read() as session:
        rows = await session.scalars(
            select(Observation)
            .where(col(Observation.outcome).startswith("reported_"))
            .order_by(col(Observation.at))
        )
        kept = [(row.outcome, round((now - row.at).total_seconds() / 60)) for row in rows]
    assert kept == [
        ("reported_200", 90), ("reported_200", 30), ("reported_503", 20), ("reported_401", 19),
        ("reported_401", 18), ("reported_200", 17),
    ]  # fmt: skip
