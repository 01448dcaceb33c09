"""An incident of Linekeeper itself is of no app: a sweep doesn't take its app for removed."""

from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Incident
from linekeeper.sweep.app import close_removed
from linekeeper.watch.answers import TOPIC


async def test_a_sweep_leaves_an_incident_of_linekeeper_itself_open(
    settings: Settings, store: Store
) -> None:
    found = Finding(
        kind="part_silent",
        cause="answers:receiver:a",
        app="",
        title="The receiver on a does not answer",
        text="It did not answer.",
        scope="house",
        resolved="It answers again.",
    )
    async with store.write() as session:
        await apply_findings(store, session, TOPIC, [found], now=utcnow())
    async with Runtime.open(settings) as rt:
        assert await close_removed(rt, now=utcnow()) == []
    async with store.read() as session:
        [incident] = await session.scalars(select(Incident).where(col(Incident.topic) == TOPIC))
    assert incident.resolved_at is None
