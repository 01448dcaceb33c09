"""A product that gets no token is given the incident that is why, whatever else is open."""

import sandbox
from linekeeper.access.issue import Withheld, issue_access_token
from linekeeper.clock import utcnow
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.runtime import Runtime
from tests.health.test_sweep import adopt, connections, control, incidents, probe_all


async def test_the_incident_is_that_of_the_lost_login(rt: Runtime, fleet: sandbox.Served) -> None:
    await adopt(rt, fleet)
    [victim, *_] = await connections(rt)
    other = Finding(
        kind="entity_failing",
        cause=f"entity:{victim.id}:eam/assets",
        app="default",
        title="eam/assets unreadable",
        text="",
        scope="connection",
        members=(victim.id,),
        detail={"entity": "eam/assets"},
        resolved="",
    )
    async with rt.store.write() as session:
        await apply_findings(rt.store, session, "entities", [other], now=utcnow())
    await control(fleet, f"connections/{victim.makini_key}/change-credentials")
    await probe_all(rt)
    [victim, *_] = await connections(rt)
    withheld = await issue_access_token(rt, victim, by="product", now=utcnow())
    [lost] = [each for each in await incidents(rt) if each.topic == "health"]
    assert isinstance(withheld, Withheld)
    assert withheld.incident == lost.id
