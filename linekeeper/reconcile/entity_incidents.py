"""Incidents of entities that can't be read: opened, kept and resolved as one complete set."""

from datetime import datetime

from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.reconcile.entity_failures import find_failures
from linekeeper.reconcile.entity_queries import entity_states
from linekeeper.runtime import Runtime
from linekeeper.store.connection_settings import configured, load_settings

TOPIC = "entities"


async def settle_entities(rt: Runtime, *, now: datetime) -> list[Finding]:
    """Open the incidents there should be about entities, and resolve the others.

    Whatever health a connection has, it is not touched. While nothing of a connection may be read
    (its circuit is open) what is known of its entities stays as it is.
    """
    apps = (await rt.configuration()).apps
    known = [state for state in await entity_states(rt.store) if state.app in apps]
    async with rt.store.read() as session:
        settings = await load_settings(session, {state.connection_id for state in known})
    states = [
        state
        for state in known
        if state.entity in configured(apps[state.app], settings.get(state.connection_id)).entities
    ]
    closed = {state.connection_id for state in states if not state.may_be_read}
    findings = find_failures([state for state in states if state.may_be_read])
    async with rt.store.write() as session:
        await apply_findings(rt.store, session, TOPIC, findings, now=now, undecided=closed)
    return findings
