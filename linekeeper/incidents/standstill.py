"""After a time in which nobody watched, what was found before it is looked at anew first.

Nothing of Linekeeper ran, or the machine slept: what was wrong then may be over, and nobody is
reminded of it by its last word. Whoever finds it out again has a while for that. Of connections and
of an app's list the sweep asks at once (`sweep.recent`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.one_cause import Suppression
from linekeeper.store.tables import Incident, PartHeartbeat

FINDERS: Mapping[str, tuple[str, timedelta]] = {
    "stream": ("", timedelta(minutes=1)),
    "parts": ("", timedelta(minutes=3)),
    "runs": ("", timedelta(minutes=3)),
    "canary": ("", timedelta(minutes=11)),
    "answers": ("sweep", timedelta(minutes=15)),
    "entities": ("reconcile", timedelta(hours=1)),
}
"""By topic: the work that finds it out again, where there is one, and how long it is waited for."""
_WATCHERS, _AWAKE = ("consumer", "receiver"), "awake"
_LIVES = timedelta(minutes=2)
_SEEN = select(col(PartHeartbeat.kind), col(PartHeartbeat.since), col(PartHeartbeat.at)).where(
    col(PartHeartbeat.kind).in_((*_WATCHERS, _AWAKE, "sweep", "reconcile"))
)


async def looked_at_anew(
    session: AsyncSession, incidents: Sequence[Incident | Row[Any]], *, now: datetime
) -> dict[str, Suppression]:
    """Return by incident the time, if it goes on, until which it is to be looked at anew."""
    rows = (await session.execute(_SEEN)).all()
    began = [row.since for row in rows if row.kind in _WATCHERS and now - row.at < _LIVES]
    if not began:
        return {}
    anew = max([min(began), *(row.at for row in rows if row.kind == _AWAKE and row.at <= now)])
    done = {row.kind: row.at for row in rows}
    waits: dict[str, Suppression] = {}
    for incident in (each for each in incidents if each.topic in FINDERS):
        finder, most = FINDERS[incident.topic]
        is_found_out = done.get(finder, anew) > anew
        if incident.since < anew and now < anew + most and not is_found_out:
            why = "nobody watched for a while, so it is looked at anew first"
            waits[incident.id] = Suppression(anew, anew + most, why)
    return waits
