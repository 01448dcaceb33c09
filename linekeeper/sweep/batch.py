"""Probing a batch of connections: ask, judge, write what answered."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import bindparam, or_, select, type_coerce, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.groups import task_group
from linekeeper.health.evidence import Health, Judged, Observation, Outcome
from linekeeper.health.held import JUDGED
from linekeeper.health.judge import CLOCK_SLACK
from linekeeper.health.login_check import (
    is_check_due,
    last_polled,
    read_one,
    read_surely,
    readable_entities,
)
from linekeeper.health.makinis_word import wants_read
from linekeeper.health.probe import may_answer_yet, probe, understand_error
from linekeeper.health.service import StateChange, observe
from linekeeper.health.token_missing import needs_login
from linekeeper.incidents.conclude import conclude
from linekeeper.makini import PAUSED, ErrorKind, MakiniError
from linekeeper.runtime import Runtime
from linekeeper.spending import Purpose, spends_on
from linekeeper.store.tables import Connection
from linekeeper.store.types import table_of
from linekeeper.sweep import app as app_health
from linekeeper.sweep.broken_status import read_instead
from linekeeper.sweep.unknown_there import UnknownThere
from linekeeper.tokens.caller import Caller
from linekeeper.tokens.stored import Token, load_tokens

CONCURRENCY = 100
WRITE_SECONDS = 5.0
"""What has answered is written this often: at Makini's call limit a batch takes minutes."""


@dataclass(slots=True)
class ProbeBatch:
    """What a try at a batch of probes gave."""

    answered: int = 0
    missed: int = 0
    skipped: int = 0
    """Nothing was learned of them: Makini's call limit, or the app's own trouble."""
    unanswered: int = 0
    """A further try may still reach them; nothing is recorded of them yet."""
    retry_after: float = 0.0
    """Seconds Makini asked to wait."""
    changes: list[StateChange] = field(default_factory=list)
    trouble: str | None = None
    """What is wrong with the app, where calls failed for a reason of its own."""


@spends_on(Purpose.sweep)
async def probe_batch(
    rt: Runtime, app: AppConfig, ids: Sequence[str], *, started: datetime, last_try: bool
) -> ProbeBatch:
    """Probe those of `ids` not checked since `started`.

    What answered is written in one transaction, in a batch that takes long in one every
    `WRITE_SECONDS`. A miss is an observation on the last try, of a connection that did not answer
    the sweep before either, and where the call hung: otherwise it is left for the next try.
    """
    members = await _unfinished(rt, app, ids, started)
    return await _Try(rt, app, last_try).over(members)


@dataclass(frozen=True, slots=True)
class _Member:
    id: str
    is_unnamed: bool
    """Makini's key of it, where what its status calls it isn't known."""
    ref: str
    health: str
    judged: Judged
    unlisted_since: datetime | None
    token: Token | None
    known_since: datetime
    app: AppConfig
    """Its app, in the mode that holds for it."""
    read_at: datetime | None
    """When a poll last read one of its entities to the end."""


class _Try:
    def __init__(self, rt: Runtime, app: AppConfig, last: bool) -> None:
        self._rt = rt
        self._app = app
        self._last = last
        self._batch = ProbeBatch()
        self._seen: list[tuple[str, Observation]] = []
        self._named: dict[str, str] = {}
        """What its own status calls a connection whose id was not known, by the connection."""
        self._app_error: MakiniError | None = None
        self._unknown_there = UnknownThere(rt, app)

    async def over(self, members: Sequence[_Member]) -> ProbeBatch:
        all_answered = asyncio.Event()
        waiting = iter(members)
        async with task_group() as group:
            group.create_task(self._write_until(all_answered))
            async with task_group() as probing:
                for _ in range(min(CONCURRENCY, len(members))):
                    probing.create_task(self._work(waiting))
            all_answered.set()
        if self._app_error is not None:
            self._batch.trouble = str(self._app_error)
            await app_health.count_failure(self._rt.store, self._app, self._app_error)
        return self._batch

    async def _work(self, waiting: Iterator[_Member]) -> None:
        for member in waiting:
            observation = await self._look(member, utcnow())
            if observation is None:
                continue
            missed = observation.outcome in (Outcome.missed, Outcome.unclear)
            self._batch.missed += missed
            self._batch.answered += not missed
            self._seen.append((member.id, observation))

    async def _look(
        self, member: _Member, at: datetime, *, again: bool = False
    ) -> Observation | None:
        """What is learned of `member`; None if nothing, which is counted.

        It looks once `again` where the token was refused meanwhile.
        """
        caller = StatusCaller(self._rt, member.app, member.id, member.ref, member.token)
        caller.is_known_lost = member.health == Health.reauthorization_required.value
        try:
            status = await probe(caller, at=at, read_at=member.read_at)
        except MakiniError as error:
            return caller.read or await self._unanswered(member, caller, error, at)
        if status is None:
            return _by_list_alone(member, caller, at)
        if status.called and member.is_unnamed:
            self._named[member.id] = status.called
        try:
            return await self._verified(member, status, caller) or status
        except MakiniError as error:
            is_refused = error.kind is ErrorKind.unauthorized and error.connection is not None
            if again or not is_refused:
                return status
        return await self._look(member, utcnow(), again=True)

    async def _unanswered(
        self, member: _Member, caller: Caller, error: MakiniError, at: datetime
    ) -> Observation | None:
        """What a probe's `error` says of `member`; None if nothing, which is counted."""
        if not self._last and may_answer_yet(error, misses=member.judged.misses):
            self._batch.unanswered += 1
            self._batch.retry_after = max(self._batch.retry_after, error.retry_after or 0.0)
            return None
        understood = understand_error(error, at, unrenewed=caller.is_unrenewed)
        if understood is None:
            self._batch.skipped += 1
            if error.connection is None:
                self._app_error = error
            elif error.code == PAUSED:
                self._batch.trouble = str(error)
        elif caller.is_unknown_there and understood.outcome is Outcome.login_lost:
            return await self._unknown_there.decide(
                replace(understood, unknown_there=True),
                health=member.health,
                judged=member.judged,
                is_unlisted=member.unlisted_since is not None,
            )
        else:
            read = await read_instead(
                self._rt,
                member.app,
                member.id,
                caller,
                judged=member.judged,
                error=error,
                understood=understood,
            )
            return read or understood
        return understood

    async def _verified(
        self, member: _Member, status: Observation, caller: Caller
    ) -> Observation | None:
        """What a read says where the status alone doesn't settle it; None if it says nothing.

        Raises `MakiniError` where there was no answer, or the token was refused meanwhile.
        """
        if not caller.may_read:
            return None
        policy = (await self._rt.configuration()).policy
        judged = member.judged
        if member.read_at is not None and (
            judged.read_at is None or member.read_at > judged.read_at
        ):
            judged = replace(judged, read_at=member.read_at)
        due = status.outcome in (Outcome.answered, Outcome.sync_failing) and is_check_due(
            member.id, judged, member.known_since, policy, now=status.at
        )
        if not due and not wants_read(judged, status, policy):
            return None
        readable = await readable_entities(self._rt, member.app, member.id)
        return await read_surely(caller, readable, status)

    async def _write_until(self, all_answered: asyncio.Event) -> None:
        while not all_answered.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_SECONDS):
                    await all_answered.wait()
            await self._write()

    async def _write(self) -> None:
        if not self._seen:
            return
        portion, self._seen = self._seen, []
        named, self._named = self._named, {}
        rt, now = self._rt, utcnow()
        policy = (await rt.configuration()).policy
        async with rt.store.write() as session:
            if named:
                rows = [{"which": each, "called": name} for each, name in sorted(named.items())]
                await (await session.connection()).execute(_NAME, rows)
            changes = await observe(rt.store, session, portion, policy=policy, now=now)
            if changes:
                await conclude(rt.store, session, policy=policy, now=now)
        self._batch.changes += changes


class StatusCaller(Caller):
    """Whose token is renewed for a status that refuses it only where records refuse it, too.

    A permission may be missing, or that one route of Makini's be broken: such a login isn't lost.
    """

    is_known_lost = False
    read: Observation | None = None
    """What a read said for the status that was refused."""

    async def is_of_token(self) -> bool:
        if not await super().is_of_token():
            return False
        if self.is_known_lost or not self.may_read:
            return True
        readable = await readable_entities(self._rt, self.app, self.id)
        status = Observation(at=utcnow(), source="probe", outcome=Outcome.login_lost)
        read = await read_one(self, readable, status)
        if read is not None and read.outcome is Outcome.answered:
            self.read = read
        return self.read is None


def _by_list_alone(member: _Member, caller: Caller, at: datetime) -> Observation:
    if member.judged.token_missing_since is not None:
        seen = needs_login(at, tried=True)
        return replace(seen, unknown_there=caller.is_unknown_there)
    return Observation(
        at=at,
        source="list",
        outcome=Outcome.listed,
        lifecycle=member.judged.lifecycle,
        decisive=True,
        unread=True,
        unknown_there=caller.is_unknown_there,
        tried=True,
        needs_login=caller.may_renew,
        message="there is no token, and none is minted",
    )


_UNFINISHED = (
    select(
        col(Connection.id),
        col(Connection.makini_key),
        col(Connection.makini_id),
        col(Connection.health),
        type_coerce(col(Connection.judged), JUDGED),
        col(Connection.unlisted_since),
        col(Connection.created_at),
        col(Connection.mode),
        col(Connection.notify_customers),
    )
    .where(col(Connection.id).in_(bindparam("ids", expanding=True)))
    .where(
        or_(
            col(Connection.last_checked_at).is_(None),
            col(Connection.last_checked_at) < bindparam("started"),
            col(Connection.last_checked_at) > bindparam("latest"),  # by a clock that was ahead
        )
    )
)

_NAME = (
    update(table_of(Connection))
    .where(table_of(Connection).c.id == bindparam("which"))
    .where(table_of(Connection).c.makini_id.is_(None))
    .values(makini_id=bindparam("called"))
)
"""What its own status calls it, which need not be the list's key: a login is recognised by it."""


async def _unfinished(
    rt: Runtime, app: AppConfig, ids: Sequence[str], started: datetime
) -> list[_Member]:
    async with rt.store.read() as session:
        of_these = {"ids": list(ids), "started": started, "latest": utcnow() + CLOCK_SLACK}
        unfinished = await session.execute(_UNFINISHED, of_these)
        rows = unfinished.all()
        tokens = await load_tokens(rt.store, session, [row[0] for row in rows])
        read_at = await last_polled(session, ids)
    return [
        _Member(
            id=identifier,
            is_unnamed=makini_id is None,
            ref=app.ref_of(key, makini_id),
            health=health,
            judged=judged,
            unlisted_since=unlisted_since,
            token=tokens.get(identifier),
            known_since=created_at,
            app=app.as_chosen(mode, notifies),
            read_at=read_at.get(identifier),
        )
        for (
            identifier,
            key,
            makini_id,
            health,
            judged,
            unlisted_since,
            created_at,
            mode,
            notifies,
        ) in rows
    ]
