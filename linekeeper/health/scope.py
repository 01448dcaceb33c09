"""Whether a failed data call is about the whole connection: its own status says so."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from msgspec.structs import replace
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.health.evidence import Evidence, Observation, Outcome, contradicts, load
from linekeeper.health.login_check import last_polled, read_one, readable_entities
from linekeeper.health.probe import understand
from linekeeper.makini import NOT_ASKED, ErrorKind, ErrorScope, MakiniError, error_scope
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Watermark
from linekeeper.tokens.caller import Caller
from linekeeper.tokens.stored import Token

_AWAY = (ErrorKind.unavailable, ErrorKind.timeout, ErrorKind.network)
_SILENT = NOT_ASKED.union(_AWAY)


class Whole(StrEnum):
    """What a status call with the connection's own token says of the connection as a whole."""

    answers = "answers"
    """The token is good, and the login isn't said to be lost."""
    token_refused = "token_refused"  # noqa: S105 - no password
    login_lost = "login_lost"
    """The token is good, and Makini says that the system refuses the stored credentials."""
    silent = "silent"
    """No answer, for a reason that may pass."""
    unclear = "unclear"


class DataCaller(Caller):
    """Reads records of one connection.

    A token that Makini accepts for the connection's status is good: then nothing is renewed, and
    what was asked for is asked for once more. If that is refused as well, it alone is.
    """

    whole: Whole | None = None
    """What the connection's status said the last time it was asked here."""
    _is_asked_again = False

    async def prepared(self) -> Token | None:
        self._is_asked_again = False
        return await super().prepared()

    async def after(self, error: MakiniError) -> Token | None:
        newer = await super().after(error)
        refused = error.kind is ErrorKind.unauthorized and error.connection is not None
        is_good = refused and self.whole is Whole.answers
        if newer is not None or not is_good or self._is_asked_again:
            return newer
        self._is_asked_again = True
        return self.token

    def may_use(self, token: Token, now: datetime) -> bool:
        return token.may_read(self.app, now)

    def answered(self) -> None:
        super().answered()
        self.whole = Whole.answers

    async def is_of_token(self) -> bool:
        await self._ask_whole()
        return self.whole in (Whole.token_refused, Whole.unclear)

    async def scope_of(self, error: MakiniError) -> ErrorScope:
        """What the `error` of a data call is evidence about.

        Where the error alone can't tell whether it is about its entity or about the connection,
        the connection's status does; it is asked once as long as nothing was read.
        """
        scope = error_scope(error)
        if scope is not ErrorScope.entity:
            return scope
        if error.kind is ErrorKind.unauthorized:
            whole = self.is_lost or self.whole is Whole.silent
            return ErrorScope.connection if whole else ErrorScope.entity
        if error.kind not in _AWAY:
            return scope
        if self.whole is None and self.token is not None:
            await self._ask_whole()
        whole = self.whole in (Whole.silent, Whole.token_refused)
        return ErrorScope.connection if whole else ErrorScope.entity

    @property
    def is_lost(self) -> bool:
        """Whether the last refusal was of the login itself, and nothing of ours fixed it."""
        return self.whole in (Whole.token_refused, Whole.login_lost)

    @property
    def is_replaced_perhaps(self) -> bool:
        """Whether nothing but a token was refused that nothing here may renew: it may be old."""
        return self.whole is Whole.token_refused and not self.may_renew

    async def _ask_whole(self) -> None:
        """One status call; never raises for what Makini answers."""
        assert self.token is not None  # something was asked with it
        try:
            status = await self.makini.status(self.token.access, connection=self.ref)
        except MakiniError as error:
            if error.kind is ErrorKind.unauthorized and error.connection is not None:
                self.whole = Whole.token_refused
            else:
                self.whole = Whole.silent if error.kind in _SILENT else Whole.unclear
            return
        seen = understand(status, utcnow())
        lost = seen.outcome is Outcome.login_lost and await self._is_believed(seen)
        self.whole = Whole.login_lost if lost else Whole.answers

    async def _is_believed(self, status: Observation) -> bool:
        """Whether the login is lost, as its `status` says: a read decides. Where none does, a word
        from before the last login or reading counts as little as it does in a sweep."""
        readable = await readable_entities(self._rt, self.app, self.id)
        read = await read_one(self, readable, status)
        if read is not None:
            return read.outcome is Outcome.login_lost
        async with self._rt.store.read() as session:
            row = await session.get(Connection, self.id)
            polled = await last_polled(session, [self.id])
        policy = (await self._rt.configuration()).policy
        known = replace(status, read_at=polled.get(self.id))
        return not contradicts(load(row.judged if row else {}), known, policy)


async def make_suspect(store: Store, connection_id: str) -> None:
    """Have the connection probed at the next sweep; the probe decides about its health."""
    async with store.write() as session:
        await doubt(session, [connection_id], now=utcnow())


async def doubt(session: AsyncSession, ids: Sequence[str], *, now: datetime) -> None:
    """The same for several, in the caller's transaction."""
    await session.execute(
        update(Connection)
        .where(col(Connection.id).in_(ids))
        .values(suspect=True, next_probe_at=now)
    )


async def count_reads(store: Store, since: datetime, *, now: datetime) -> None:
    """Have the next sweep look at those of which a poll has read records `since` then.

    Their evidence becomes a read's with it, and not only when they are due by themselves.
    """
    read = select(col(Watermark.connection_id)).where(
        col(Watermark.polled_at) >= since, col(Watermark.offered)
    )
    async with store.write() as session:
        await session.execute(
            update(Connection)
            .where(
                col(Connection.evidence) == Evidence.probed.value,
                col(Connection.next_probe_at) > now,
                col(Connection.id).in_(read),
            )
            .values(next_probe_at=now)
        )
