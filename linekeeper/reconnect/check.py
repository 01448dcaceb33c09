"""What needs no customer is tried first: a lost login that was only reported is asked about."""

import asyncio
from contextlib import suppress
from datetime import datetime

from linekeeper.clock import utcnow
from linekeeper.incidents.conclude_queries import only_reported
from linekeeper.makini import MakiniError
from linekeeper.reconnect.ask import advance_case
from linekeeper.reconnect.case import Member, load_case
from linekeeper.runtime import Runtime
from linekeeper.store.types import id_floor
from linekeeper.sweep.batch import probe_batch

AT_MOST = 50
"""So many logins that are lost at once are no mistake about one of them."""
SECONDS = 10.0
"""After it the customer is asked all the same."""


async def check_and_advance(rt: Runtime, incident_id: str) -> None:
    """Bring the case of an incident in line with it, having asked those of whom we only heard.

    Who joins it meanwhile is not asked to log in yet: that has asked for a look of its own.
    """
    looked_at = await check_reported(rt, incident_id, now=utcnow())
    await advance_case(rt, incident_id, now=utcnow(), looked_at=looked_at)


async def check_reported(rt: Runtime, incident_id: str, *, now: datetime) -> frozenset[str]:
    """Ask the connections of an incident of whose loss we only heard, before anybody is mailed.

    The status, a new token where the old one is refused, and a read: a login that works after all
    ends the incident here, and its customer is not notified. Returns whom it knew of.
    """
    case = await load_case(rt.store, incident_id, now=now)
    if case is None or not case.is_open:
        return frozenset()
    known = frozenset(member.connection_id for member in case.members)
    app = (await rt.configuration()).apps.get(case.incident.app)
    if app is None:
        return known
    fresh = [member for member in case.to_ask(app) if _is_unasked(member)]
    if not 0 < len(fresh) <= AT_MOST:
        return known
    async with rt.store.read() as session:
        reported = await only_reported(session, [member.connection_id for member in fresh])
    if reported:
        with suppress(TimeoutError, MakiniError):
            async with asyncio.timeout(SECONDS):
                await probe_batch(rt, app, sorted(reported), started=now, last_try=True)
    return known


def _is_unasked(member: Member) -> bool:
    """Whether it has no link, or only one that was made for an earlier loss and never used."""
    return member.link_id is None or member.link_id < id_floor(member.health_since)
