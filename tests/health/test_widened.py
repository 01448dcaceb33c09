"""An incident of one connection that turns out to be of all of them."""

from sqlalchemy import select
from sqlmodel import col

import sandbox
from linekeeper.clock import utcnow
from linekeeper.incidents.conclude import conclude
from linekeeper.runtime import Runtime
from linekeeper.store.tables import IncidentEntry
from tests.health.test_sweep import adopt, connections, control, incidents, sweep


async def test_its_thread_says_so_before_the_others_are_judged(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    first, *others = await connections(rt)
    await control(fleet, f"connections/{first.makini_key}/go-offline")
    for _ in range(3):
        await sweep(rt)
    [alone] = await incidents(rt)
    assert alone.scope == "connection"
    for other in others:
        await control(fleet, f"connections/{other.makini_key}/go-offline")
    await sweep(rt)
    policy = (await rt.configuration()).policy
    async with rt.store.write() as session:  # as whatever changes anything does
        await conclude(rt.store, session, policy=policy, now=utcnow())
    [wider] = await incidents(rt)
    assert (wider.id, wider.scope) == (alone.id, "app")
    async with rt.store.read() as session:
        texts = list(
            await session.scalars(select(IncidentEntry.text).order_by(col(IncidentEntry.at)))
        )
    assert texts[-1] == "It is taken for the trouble of app default as a whole"
