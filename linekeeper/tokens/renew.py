"""Renewing a connection's token without the customer: refresh, else mint.

One renewal per connection at a time, anywhere: a refresh kills the pair it was made with (MAKINI
"Link"). It is a task of its own that gets the new pair and stores it, whoever is cancelled, and is
waited for when the process ends.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.makini import (
    BEFORE_SENDING,
    NOT_ASKED,
    ErrorKind,
    MakiniClient,
    MakiniError,
    NoCallLeft,
    ReservedCall,
    TokenPair,
    client_in_mode,
    with_call_in_hand,
)
from linekeeper.spending import Purpose, spends_on
from linekeeper.store import Store, new_id
from linekeeper.store.leases import TOKENS, LeaseLost, holding, lease_name
from linekeeper.store.modes import Chosen, app_of
from linekeeper.store.owned import retrying, to_its_end
from linekeeper.store.tables import Connection, Credential
from linekeeper.tokens.lost_renewal import note_refreshing
from linekeeper.tokens.stored import (
    StoredPair,
    Token,
    UnreadableToken,
    load_pair,
    note_refused,
    note_renewing,
    replace_pair,
)

_HELD = select(
    col(Connection.setup),
    col(Connection.custody),
    col(Connection.mode),
    col(Connection.notify_customers),
).where(col(Connection.id) == bindparam("which"))
_FINAL = frozenset(
    {ErrorKind.unauthorized, ErrorKind.forbidden, ErrorKind.not_found, ErrorKind.rejected}
)
"""Refusals that trying again does not fix."""

OFFERED_TIMES = 2
"""How often a renewal offers a refresh token: one refusal may be a mistake, and what follows from
two can't be taken back, for a minted token takes the place of the pair, or a customer is asked."""
OFFERED_AGAIN = timedelta(hours=1)
"""After it a refresh token that was refused may have been refused by mistake."""
LEASE_SECONDS = 60
TAKEN_OVER_SECONDS = 5.0
"""When to ask again where the lease was lost: another process has the new pair soon."""
STORE_AGAIN_AFTER = (0.2, 1.0, 3.0, 10.0, 30.0)
"""Seconds between tries to store a new pair: the one it was got with is dead already."""
STORAGE_TROUBLE = (SQLAlchemyError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Renewed:
    """What came of a renewal."""

    token: Token | None
    """One newer than the one that was refused; None if nothing of ours gives one."""
    is_made: bool = False
    """It was got from Makini now; else it is another's, and may have been refused since."""
    is_unknown_there: bool = False
    """Makini says that it doesn't know the connection (404 for a new token): it may be gone."""


@spends_on(Purpose.tokens)
async def renew(
    store: Store,
    makini: MakiniClient,
    app: AppConfig,
    *,
    connection_id: str,
    makini_ref: str,
    refused: Token | None,
    owner: str,
) -> Renewed:
    """Get a token newer than `refused`, where anything of ours gives one.

    Nothing is renewed of a connection that is observed, disconnected, borrowed or given back;
    `app` is its app, and what the rules say of it is looked up here, under its lease.
    `refused` is None for a connection without a token. `makini_ref` is the listed field that
    `app.connection_field` names.
    Raises `MakiniError` when Makini could not be asked (time-out, 5xx, the app's own credentials
    refused): then nothing is known of the login.
    """
    renewal = _Renewal(
        store=store,
        makini=makini,
        app=app,
        connection_id=connection_id,
        makini_ref=makini_ref,
        refused=refused,
        owner=owner,
    )
    name, is_ours = lease_name(TOKENS, connection_id), False

    async def begin() -> Renewed:
        nonlocal is_ours
        is_ours = True
        return await renewal.run()

    renewed = await store.owned.run(name, begin)
    token = renewed.token
    if is_ours or token is None or refused is None or token.access != refused.access:
        return renewed
    # It was the end of an earlier renewal, whose token has been refused since. One of our own may
    # give the same token again, which is Makini's answer: nothing is asked twice.
    return await store.owned.run(name, renewal.run)


@dataclass(frozen=True, slots=True)
class _Renewal:
    """One renewal of one connection."""

    store: Store
    makini: MakiniClient
    app: AppConfig
    connection_id: str
    makini_ref: str
    refused: Token | None
    owner: str
    refusals: Counter[str] = field(default_factory=Counter)
    """How often each refresh token was refused in it."""

    async def run(self) -> Renewed:
        try:
            return await with_call_in_hand(self._reserve, self._with_lease)
        except UnreadableToken as error:  # another process may have its key: it is not written over
            if self.refused is None:
                return Renewed(None)
            raise self._taken_over(
                "another process of Linekeeper, which has an encryption key that this one lacks, "
                "has stored a newer token"
            ) from error
        except LeaseLost as error:
            raise self._taken_over(
                "it stood still, or the database did, for so long that another process of "
                "Linekeeper may renew this token now"
            ) from error

    def _taken_over(self, why: str) -> MakiniError:
        return MakiniError(
            ErrorKind.taken_over,
            why,
            app=self.app.name,
            connection=self.makini_ref,
            retry_after=TAKEN_OVER_SECONDS,
        )

    async def _reserve(self) -> ReservedCall | None:
        """The call that it takes as things are now; None where it takes none."""
        stored, is_connected, is_ours = await self._stored()
        if not is_connected or not is_ours or self._is_newer(stored):
            return None
        return await self.makini.reserve(
            self.makini_ref, app_token=self._refresh_token(stored) is None
        )

    async def _with_lease(self) -> Renewed:
        # An owner of its own for each: a lease is open to its owner.
        me, about = f"{self.owner}:{new_id()}", self.connection_id
        async with holding(self.store, TOKENS, me, subject=about, seconds=LEASE_SECONDS, wait=True):
            return await self._under_lease()

    def _is_newer(self, stored: StoredPair | None) -> bool:
        """Whether it is another than was refused: of another process, or of a login."""
        return stored is not None and (
            self.refused is None or stored.token.access != self.refused.access
        )

    def _refresh_token(self, stored: StoredPair | None) -> str | None:
        """What to offer for a new pair; None where one is to be minted."""
        if stored is None or stored.refresh is None or _is_dead(stored):
            return None
        return stored.refresh if self.refusals[stored.refresh] < OFFERED_TIMES else None

    async def _under_lease(self) -> Renewed:
        stored, is_connected, is_ours = await self._stored()
        if not is_connected:
            return Renewed(None)
        if stored is not None and self._is_newer(stored):
            return Renewed(stored.token)
        if not is_ours:
            return Renewed(None)
        return await to_its_end(self._renewed(stored), BEFORE_SENDING)

    async def _renewed(self, stored: StoredPair | None) -> Renewed:
        """Get a new pair and store it: from the first request on nothing may come between."""
        pair = await self._new_pair(stored)
        if isinstance(pair, MakiniError):
            if stored is not None and not _is_dead(stored):
                async with self.store.write() as session:
                    await note_refused(
                        self.store, session, self.connection_id, stored, now=utcnow()
                    )
            return Renewed(None, is_unknown_there=pair.kind is ErrorKind.not_found)

        async def keep() -> bool:
            async with self.store.write() as session:
                return await replace_pair(
                    self.store,
                    session,
                    self.connection_id,
                    pair,
                    instead_of=stored,
                    now=utcnow(),
                )

        if await retrying(keep, on=STORAGE_TROUBLE, waits=STORE_AGAIN_AFTER):
            is_refreshable = pair.refresh_token is not None
            made = Token(pair.access_token, is_refreshable, pair.expires_at, pair.minted)
            return Renewed(made, is_made=True)
        newer, is_connected, _ = await self._stored()  # a login came meanwhile, or it was ended
        return Renewed(newer.token if newer is not None and is_connected else None)

    async def _stored(self) -> tuple[StoredPair | None, bool, bool]:
        async with self.store.read() as session:
            held = (await session.execute(_HELD, {"which": self.connection_id})).first()
            pair = await load_pair(self.store, session, self.connection_id)
        if held is None:
            return pair, False, False
        setup, custody, mode, notifies = held
        is_ours = custody == "owned" and app_of(self.app, Chosen(mode, notifies)).manages
        return pair, setup != "disconnected", is_ours

    async def _new_pair(self, stored: StoredPair | None) -> TokenPair | MakiniError:
        """A new pair, or why Makini mints none. Raises `MakiniError` where it may do so later."""
        managed = self.app.as_chosen("manage", None)  # as was found under the lease
        makini = client_in_mode(self.makini, managed)
        while stored is not None and (refresh := self._refresh_token(stored)) is not None:
            # Makini kills the pair before its answer is here: whoever finds this process gone
            # has to know that the pair is in doubt (`interrupted`).
            now, unanswered = utcnow(), stored.refresh_unanswered_since
            if stored.refused_at is None:  # else it ended before an answer could be lost
                unanswered = unanswered or now
            await self._note_refreshing(stored.in_doubt_since or now, unanswered)
            try:
                return await makini.refresh(refresh, connection=self.makini_ref)
            except MakiniError as error:
                if error.kind in NOT_ASKED:  # the pair is what it was
                    await self._note_as_before(stored)
                if not _is_final(error):
                    raise
                self.refusals[refresh] += 1
        if stored is not None and self.refusals:  # answered: what the mint does is in doubt
            before = stored.refresh_unanswered_since
            await self._note_refreshing(stored.in_doubt_since or utcnow(), before)
        try:
            return await makini.mint_token(self.makini_ref)
        except NoCallLeft:
            if stored is not None:  # what this renewal offered was refused, not replaced
                await self._note_as_before(stored)
            raise
        except MakiniError as error:
            if not _is_final(error):
                raise
            return error

    async def _note_as_before(self, stored: StoredPair) -> None:
        await self._note_refreshing(stored.in_doubt_since, stored.refresh_unanswered_since)

    async def _note_refreshing(self, since: datetime | None, unanswered: datetime | None) -> None:
        async with self.store.write() as session:
            await note_refreshing(session, self.connection_id, since, unanswered)


@asynccontextmanager
async def in_doubt(store: Store, connection_id: str | None) -> AsyncIterator[None]:
    """What is done meanwhile may kill the pair of the connection, if it is of one.

    Whoever finds this process gone, or Makini without an answer, has to know that it is in doubt.
    """
    if connection_id is None:
        yield
        return
    async with store.write() as session:
        before = await session.scalar(
            select(col(Credential.renewing_since)).where(
                col(Credential.connection_id) == connection_id
            )
        )
        await note_renewing(session, connection_id, before or utcnow())
    try:
        yield
    except MakiniError as error:
        if error.kind not in NOT_ASKED | _FINAL:
            raise
        await _leave_doubt(store, connection_id, before)
        raise
    await _leave_doubt(store, connection_id, before)


async def _leave_doubt(store: Store, connection_id: str, before: datetime | None) -> None:
    async with store.write() as session:
        await note_renewing(session, connection_id, before)


def _is_dead(pair: StoredPair) -> bool:
    """Whether its refresh token was refused a short time ago, and is not offered again so soon."""
    return pair.refused_at is not None and utcnow() - pair.refused_at < OFFERED_AGAIN


def _is_final(error: MakiniError) -> bool:
    """Whether Makini refused this connection; an error of the app says nothing about it."""
    return error.kind in _FINAL and error.connection is not None
