"""A status that fails, of a connection whose records can be read: it is reachable.

One route of Makini's may be broken. Were the connection unreachable for that, no record of it would
be read any more.
"""

from linekeeper.config import AppConfig
from linekeeper.health.evidence import Judged, Observation, Outcome
from linekeeper.health.login_check import read_one, readable_entities
from linekeeper.makini import MakiniError
from linekeeper.runtime import Runtime
from linekeeper.tokens.caller import Caller


async def read_instead(
    rt: Runtime,
    app: AppConfig,
    connection_id: str,
    caller: Caller,
    *,
    judged: Judged,
    error: MakiniError,
    understood: Observation,
) -> Observation | None:
    """What a record says in place of a status that failed with `error`; None if it says nothing.

    One record is asked for, and only as often as so many failures make a connection unreachable: a
    large outage costs few calls more. Of a status that hangs none is.
    """
    most = (await rt.configuration()).policy.misses_unreachable
    if error.status is None or understood.outcome not in (Outcome.missed, Outcome.unclear):
        return None
    if (judged.misses + 1) % most or not caller.may_read:
        return None
    readable = await readable_entities(rt, app, connection_id)
    status = Observation(at=understood.at, source="probe", outcome=Outcome.answered)
    read = await read_one(caller, readable.first, status)
    return read if read is not None and read.outcome is Outcome.answered else None
