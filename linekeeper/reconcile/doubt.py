"""What failed data calls say of their connection as a whole."""

from collections.abc import Sequence

from linekeeper.clock import utcnow
from linekeeper.health.evidence import Observation, Outcome
from linekeeper.health.login_check import read_one, readable_entities
from linekeeper.health.probe import refused_token
from linekeeper.health.scope import DataCaller, make_suspect
from linekeeper.health.service import observe
from linekeeper.incidents.conclude import conclude
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.reconcile.reading import EntityReading
from linekeeper.reconcile.target import PollTarget
from linekeeper.runtime import Runtime
from linekeeper.sweep.batch import probe_batch


def are_all_refused(readings: Sequence[EntityReading]) -> bool:
    """Whether each of several entities was refused with a 401: that is no single one's. Pure."""
    return len(readings) > 1 and len(_refused(readings)) == len(readings)


async def is_login_refused(
    rt: Runtime, target: PollTarget, caller: DataCaller, readings: Sequence[EntityReading]
) -> bool:
    """Whether `readings`, which `are_all_refused`, are of all that the connection may read.

    What was not due is read for it: a permission may be missing for several entities.
    """
    readable = await readable_entities(rt, target.app, target.id)
    if set(readable.entities) <= _refused(readings):
        return bool(readable.entities)
    status = Observation(at=utcnow(), source="reconcile", outcome=Outcome.answered)
    read = await read_one(caller, readable, status)
    return read is not None and read.outcome is Outcome.login_lost


def _refused(readings: Sequence[EntityReading]) -> set[str]:
    return {
        reading.entity
        for reading in readings
        if reading.error is not None and reading.error.kind is ErrorKind.unauthorized
    }


async def doubt_connection(
    rt: Runtime, target: PollTarget, caller: DataCaller, error: MakiniError
) -> None:
    """A failure of the whole connection: a login that nothing of ours fixes is an observation
    (MISSION C1); one that does not answer is probed at the next sweep."""
    if error.kind is ErrorKind.unauthorized and caller.is_replaced_perhaps:
        await _observe(rt, target, refused_token(error, utcnow(), source="reconcile"))
    elif error.kind is ErrorKind.unauthorized and caller.is_unknown_there:
        # Gone, perhaps: the probe asks the list.
        await probe_batch(rt, target.app, [target.id], started=utcnow(), last_try=True)
    elif error.kind is ErrorKind.unauthorized and caller.is_lost:
        await observe_lost_login(rt, target, error)
    elif error.kind in (ErrorKind.unavailable, ErrorKind.timeout, ErrorKind.network):
        await make_suspect(rt.store, target.id)


async def observe_lost_login(rt: Runtime, target: PollTarget, error: MakiniError) -> None:
    """Report to the judge that the connection's login was refused."""
    observation = Observation(
        at=utcnow(),
        source="reconcile",
        outcome=Outcome.login_lost,
        code=error.code or str(error.status or error.kind.value),
        message=error.message or "a data call was refused",
        request_id=error.request_id,
    )
    await _observe(rt, target, observation)


async def _observe(rt: Runtime, target: PollTarget, observation: Observation) -> None:
    now = utcnow()
    policy = (await rt.configuration()).policy
    async with rt.store.write() as session:
        seen = [(target.id, observation)]
        if await observe(rt.store, session, seen, policy=policy, now=now):
            await conclude(rt.store, session, policy=policy, now=now)
