"""Whether a login works, found out by reading one record with the connection's own token.

It is the strongest test there is (DESIGN "True before green"): Makini's status may be from before
the login was lost, or from before the customer logged in again. It never mints or refreshes.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace
from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.health.evidence import Judged, Observation, Outcome
from linekeeper.makini import NOT_ASKED, ErrorKind, MakiniError
from linekeeper.runtime import Runtime
from linekeeper.store.connection_settings import configured, load_settings
from linekeeper.store.tables import Watermark
from linekeeper.tokens.caller import Caller
from linekeeper.tokens.stored import Token

ENOUGH_REFUSALS = 2
"""One entity's 401 says nothing of the others; so many that were read before are the login."""
ENOUGH_UNANSWERED = 2
"""Each costs the whole time that an answer may take."""
_UNANSWERED = frozenset({ErrorKind.timeout, ErrorKind.network})
_REFUSED = frozenset({ErrorKind.unauthorized})
_NOT_OFFERED = frozenset({ErrorKind.not_found})
_AWAY = frozenset({ErrorKind.unavailable, ErrorKind.malformed}) | _UNANSWERED
_ABOUT_MORE = NOT_ASKED
"""All else is about the entity that was asked for: the connection has just answered."""


def is_check_due(
    connection_id: str,
    judged: Judged,
    known_since: datetime,
    policy: HealthPolicy,
    *,
    now: datetime,
) -> bool:
    """Whether nobody used the login for so long that it has to be tested. Pure.

    Each connection is due at a moment of its own in the last fifth of the time.
    """
    if not policy.login_check_hours:
        return False
    times = [at for at in (judged.read_at, judged.tried_at) if at is not None]
    share = 0.8 + 0.2 * (sum(connection_id.encode()) % 97) / 97
    return now - max(times, default=known_since) >= timedelta(
        hours=policy.login_check_hours * share
    )


@dataclass(frozen=True, slots=True)
class Readable:
    """What a login may be tested with."""

    entities: Sequence[str]
    """In the order in which they are tried."""
    read_before: frozenset[str] = frozenset()
    """Those of them that a poll has read to the end: to these the connection had permission."""

    @property
    def first(self) -> "Readable":
        """The one that is tried first, alone."""
        return Readable(self.entities[:1], self.read_before)


async def read_one(caller: Caller, readable: Readable, status: Observation) -> Observation | None:
    """What reading one record of one `readable` entity says of the login.

    `status` is what the connection answered with the same token just before; the result stands in
    its place. None where nothing was learned: no entity can be read, or there was no answer.
    """
    try:
        return await read_surely(caller, readable, status)
    except MakiniError:
        return None


async def read_surely(
    caller: Caller, readable: Readable, status: Observation
) -> Observation | None:
    """Read like `read_one`, but raise `MakiniError` where there was no answer, so that it can be
    tried again; None only where no entity can be read. One that is away says nothing of the
    others. The login is lost where two are refused that were read before, or all there are: a
    permission may be missing for several.

    It also raises where the reads were refused because the token is by now, as that of a connection
    that has just ended at Makini: a probe finds out what that means.
    """
    token = caller.token
    if token is None:
        return None
    errors: list[MakiniError] = []
    withdrawn = 0
    for entity in readable.entities:
        error = await _why_unread(caller, token, entity)
        if error is None:
            failing = status.outcome is Outcome.sync_failing
            outcome = Outcome.sync_failing if failing else Outcome.answered
            message = status.message if failing else None
            return replace(status, source="read", outcome=outcome, message=message)
        errors.append(error)
        withdrawn += error.kind in _REFUSED and entity in readable.read_before
        if withdrawn == ENOUGH_REFUSALS:
            break
        if len(_of(errors, _UNANSWERED)) == ENOUGH_UNANSWERED:
            break
    refused, away = _of(errors, _REFUSED), _of(errors, _AWAY)
    not_offered = len(_of(errors, _NOT_OFFERED))
    is_every_one = bool(refused) and len(refused) + not_offered == len(readable.entities)
    if withdrawn < ENOUGH_REFUSALS and not is_every_one:
        if away:
            raise away[-1]
        return None
    if status.outcome is not Outcome.login_lost:
        await caller.makini.status(token.access, connection=caller.ref)
    return replace(
        status,
        source="read",
        outcome=Outcome.login_lost,
        code=refused[-1].code or str(refused[-1].status),
        message=refused[-1].message or "a read was refused",
        request_id=refused[-1].request_id,
    )


async def _why_unread(caller: Caller, token: Token, entity: str) -> MakiniError | None:
    """Why no record of `entity` can be read; None if one can. Raises what is about more than it."""
    try:
        pages = caller.makini.records(token.access, entity, connection=caller.ref, per_page=1)
        async for _ in pages:
            break
    except MakiniError as error:
        if error.connection is None or error.kind in _ABOUT_MORE:
            raise
        return error
    return None


def _of(errors: Sequence[MakiniError], kinds: Container[ErrorKind]) -> list[MakiniError]:
    return [error for error in errors if error.kind in kinds]


async def readable_entities(rt: Runtime, app: AppConfig, connection_id: str) -> Readable:
    """What it is read for, those that were read before first; without those not offered here, and
    those refused by their own permission."""
    async with rt.store.read() as session:
        rows = await session.scalars(
            select(Watermark).where(col(Watermark.connection_id) == connection_id)
        )
        marks = {mark.entity: mark for mark in rows}
        settings = await load_settings(session, [connection_id])
    app = configured(app, settings.get(connection_id))
    return readable_of(app.entities, marks)


def readable_of(entities: Sequence[str], marks: Mapping[str, Watermark]) -> Readable:
    """The same of `entities`, read up to `marks`. Pure.

    One that has been refused since before another was read to the end is refused by its own
    permission: the login worked meanwhile, and it says nothing of it now.
    """
    polled = {
        entity: at for entity in entities if (at := _polled_at(marks.get(entity))) is not None
    }

    def is_forbidden(entity: str) -> bool:
        mark = marks.get(entity)
        since = mark.failing_since if mark is not None else None
        if mark is None or mark.failure not in _PERMISSION or since is None:
            return False
        return any(at >= since for other, at in polled.items() if other != entity)

    def rank(entity: str) -> int:
        return 0 if entity in polled and marks[entity].error is None else 1

    offered = [entity for entity in entities if entity not in marks or marks[entity].offered]
    left = [entity for entity in offered or entities if not is_forbidden(entity)]
    return Readable(sorted(failing_last(left, marks), key=rank), frozenset(polled))


def failing_last(entities: Sequence[str], marks: Mapping[str, Watermark]) -> list[str]:
    """`entities` in the order to read them: those that failed the last time come last, so that
    whatever ends the reading of a connection never starves the others. Pure.

    Of those that failed the first is whose turn comes soonest: a call limit that one of them meets
    counts as a failure of all that are left, which wait less long than that one.
    """
    failed = [entity for entity in entities if entity in marks and marks[entity].error is not None]
    well = [entity for entity in entities if entity not in failed]
    return [*well, *sorted(failed, key=lambda entity: marks[entity].retry_at or _LAST)]


_LAST = datetime.max.replace(tzinfo=UTC)


def _polled_at(mark: Watermark | None) -> datetime | None:
    """When it was read to the end; an answer that the system doesn't offer it (404) is no read."""
    return mark.polled_at if mark is not None and mark.offered else None


_PERMISSION = (ErrorKind.unauthorized.value, ErrorKind.forbidden.value)


async def last_polled(session: AsyncSession, ids: Sequence[str]) -> dict[str, datetime]:
    """When a poll last read an entity of each connection to the end."""
    rows = await session.execute(_POLLED, {"ids": list(ids)})
    return {identifier: at for identifier, at in rows if at is not None}


_POLLED = (
    select(col(Watermark.connection_id), func.max(col(Watermark.polled_at)))
    .where(
        col(Watermark.connection_id).in_(bindparam("ids", expanding=True)),
        col(Watermark.polled_at).is_not(None),
        col(Watermark.offered),
    )
    .group_by(col(Watermark.connection_id))
)
