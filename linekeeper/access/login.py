"""A login, by code or token pair: whose it is, whether it works; stored, announced (MISSION C4)."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.asking import asked
from linekeeper.access.ending import ASSUMED, Ended, Ending, how_it_ended, why_not
from linekeeper.access.links import redirect_uri
from linekeeper.access.listing import listed_for
from linekeeper.access.login_news import announce_login
from linekeeper.access.owner import Login, is_theirs, resolve_owner, what
from linekeeper.access.pending import (
    Pending,
    forget_pending,
    is_kept,
    keep_pair,
    keep_pause,
    load_pending,
    renew_kept,
)
from linekeeper.access.superseded import (
    forget_refused,
    is_superseded,
    settle_superseded,
    store_login,
)
from linekeeper.access.system_names import is_called_after
from linekeeper.clock import utcnow
from linekeeper.incidents.conclude import conclude
from linekeeper.makini import (
    BEFORE_SENDING,
    NEW_LOGIN,
    ConnectionStatus,
    ErrorKind,
    MakiniClient,
    MakiniError,
    NoCallLeft,
    TokenPair,
    with_call_in_hand,
)
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.store import new_id
from linekeeper.store.leases import LOGINS, TOKENS, HeldLease, LeaseLost, holding
from linekeeper.store.owned import retrying, to_its_end
from linekeeper.store.tables import Audit, Connection, ConnectLink
from linekeeper.tokens.renew import STORAGE_TROUBLE, STORE_AGAIN_AFTER, in_doubt

_SET_UP = ("syncing", "live")
"""A connection whose setup the list need not move on."""
LEASE_SECONDS = 90.0
WAIT_SECONDS = 20.0
"""How long a login waits for a renewal of the same connection to end."""
KEY_MAY_LAG = timedelta(minutes=15)
"""How long Makini's list may take to show the connection that a login made."""
CUSTOMER = "customer, by connect link"


@dataclass(frozen=True, slots=True)
class _GotPair:
    """A pair that Makini gave, where it is kept, and what its status said or how that failed."""

    pair: TokenPair
    kept: Pending | None = None
    status: ConnectionStatus | None = None
    failed: MakiniError | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at the login `link` asks for; `url` is the link's page, for another one."""

    rt: Runtime
    link: ConnectLink
    url: str | None
    by: str = CUSTOMER
    """Who makes it; kept in the audit."""

    async def take(self, given: str | TokenPair | Pending) -> Ending:
        """Take `given`, a code or a pair, to its end: whoever leaves meanwhile, it is stored.

        A pair that an earlier attempt got is `Pending`: then Makini is asked whose it is.

        One attempt of a link at a time, for a second login kills the pair of the first; and none
        beside a renewal of the same connection. Neither waits for the calls of this one: a code is
        exchanged with a call in hand, and whose the pair is may take half an hour to ask, where few
        calls are left.
        """
        try:
            return await self.rt.store.owned.run(f"login:{new_id()}", lambda: self._take(given))
        except LeaseLost:
            return Ending("away", self.link.system, connect_url=self.url)

    async def deny(self) -> Ending:
        """The end of an attempt that came back from Makini without a code."""
        async with self.rt.store.write() as session:
            why = "Makini sent no code: consent was denied, or the login was abandoned"
            await self._say(session, "login.denied", why, utcnow(), is_kept=False)
        return Ending("denied", self.link.system, connect_url=self.url)

    async def _take(self, given: str | TokenPair | Pending) -> Ending:
        if isinstance(given, Pending):
            pair = await load_pending(self.rt.store, given.id)
            if pair is None:
                return Ending("used", self.link.system)
            return await self._with_pair(_GotPair(pair, given))
        try:
            makini = self.rt.makini(await self.rt.app(self.link.app), for_login=True)
            begun = await with_call_in_hand(makini.reserve, lambda: self._begin(makini, given))
        except (MakiniError, UnknownApp) as error:
            return await self._refused(error)
        if isinstance(begun, Ending):
            return begun
        if begun.kept is None:  # nowhere kept but where it came from
            return await to_its_end(self._with_pair(begun), BEFORE_SENDING)
        return await self._with_pair(begun)

    def _holding(self, kind: str, subject: str) -> AbstractAsyncContextManager[HeldLease | None]:
        # A customer waits for this page. What comes after another's lease that doesn't end is
        # safe, too: a renewal never writes over a login.
        return holding(
            self.rt.store,
            kind,
            f"{self.rt.owner}:{new_id()}",
            subject=subject,
            seconds=LEASE_SECONDS,
            wait=True,
            wait_seconds=WAIT_SECONDS,
        )

    def _holding_tokens(self) -> AbstractAsyncContextManager[HeldLease | None]:
        """No renewal of the connection that is asked for, if one is, begins meanwhile."""
        connection_id = self.link.connection_id
        return nullcontext() if connection_id is None else self._holding(TOKENS, connection_id)

    async def _begin(self, makini: MakiniClient, given: str | TokenPair) -> _GotPair | Ending:
        """Get the pair, and learn whose it is where that is soon known: nothing waits for a call.

        Whoever leaves meanwhile, the pair for a code is kept.
        """
        async with self._holding(LOGINS, self.link.id), self._holding_tokens():
            async with self.rt.store.read() as session:
                if (await session.get_one(ConnectLink, self.link.id)).used_at is not None:
                    return Ending("used", self.link.system, used_link=self.link.id)
            if isinstance(given, TokenPair):
                return await to_its_end(self._recognized(makini, _GotPair(given)), BEFORE_SENDING)
            # Whose it is may be asked again: who ends the process doesn't wait for that.
            begun = await to_its_end(self._exchanged(makini, given), BEFORE_SENDING)
            return await self._recognized(makini, begun)

    async def _recognized(self, makini: MakiniClient, begun: _GotPair) -> _GotPair | Ending:
        """Its end where its status can be had at once, and says that it is what was asked for."""
        try:
            status = await makini.status(begun.pair.access_token, connection=NEW_LOGIN)
        except NoCallLeft:
            return begun
        except MakiniError as error:
            return replace(begun, failed=error)
        if not await self._is_known_by_id(status.id):
            return replace(begun, status=status)
        return await self._stored(Login(begun.pair, status, None), begun.kept)

    async def _exchanged(self, makini: MakiniClient, code: str) -> _GotPair:
        """The pair for `code`, and where it is kept. Raises `MakiniError`."""
        target = redirect_uri(self.rt.settings.resolved_public_url)
        async with in_doubt(self.rt.store, self.link.connection_id):
            pair = await makini.exchange_code(code, target)
            keep = partial(keep_pair, self.rt.store, self.link, pair, by=self.by, now=utcnow())
            kept = await retrying(keep, on=STORAGE_TROUBLE, waits=STORE_AGAIN_AFTER)
        return _GotPair(pair, kept)

    async def _with_pair(self, begun: _GotPair) -> Ending:
        """Learn whose its pair is and store it: the login killed the one before it."""
        pair, kept = begun.pair, begun.kept
        async with self.rt.store.read() as session:
            since = await self.rt.store.clock(session)
        try:
            makini = self.rt.makini(await self.rt.app(self.link.app), for_login=True)
            ask = partial(makini.status, pair.access_token, connection=NEW_LOGIN)
            if (status := begun.status) is None:
                status = await asked(ask, failed=begun.failed)
        except UnknownApp as error:
            return await self._refused(error, taken=True, kept=kept)
        except MakiniError as error:
            if got := await renew_kept(self.rt.store, makini, kept, pair, error):
                return await self._with_pair(_GotPair(*got))
            return await self._refused(error, taken=True, kept=kept)
        came_at = kept.received_at if kept is not None else None
        may_lag = came_at is not None and utcnow() - came_at < KEY_MAY_LAG
        if await self._is_known_by_id(status.id):
            login = Login(pair, status, None)
        else:
            try:
                listed = await asked(
                    lambda: listed_for(self.rt, makini, self.link.app, status.id, since=since)
                )
                login = Login(pair, status, listed, None, may_lag, came_at)
            except MakiniError as error:
                login = Login(pair, status, None, error, may_lag)
        login = replace(login, platforms=await self._platforms(makini, status))
        async with self._holding(LOGINS, self.link.id), self._holding_tokens():
            return await self._stored(login, kept)

    async def _stored(self, login: Login, kept: Pending | None) -> Ending:
        settle = partial(self._settle, login, kept)
        return await retrying(settle, on=STORAGE_TROUBLE, waits=STORE_AGAIN_AFTER)

    async def _platforms(self, makini: MakiniClient, status: ConnectionStatus) -> set[str]:
        """What Makini calls its systems, where the one asked for may be another than `status` says.

        Without an answer the name is compared with the systems of other connections alone.
        """
        link = self.link
        if link.connection_id is not None or is_called_after(link.system, status.provider):
            return set()
        try:
            return await makini.platforms()
        except MakiniError:
            return set()

    async def _is_known_by_id(self, makini_id: str) -> bool:
        """Whether the login's own id says that it is the connection asked for, and no other's.

        Then Makini's list, a hundred calls for a large fleet, has nothing to add.
        """
        if self.link.connection_id is None or not makini_id:
            return False
        async with self.rt.store.read() as session:
            rows = await session.execute(
                select(col(Connection.id), col(Connection.setup)).where(
                    col(Connection.app) == self.link.app,
                    or_(
                        col(Connection.makini_id) == makini_id,
                        col(Connection.makini_key) == makini_id,
                    ),
                )
            )
            known = rows.all()
        return [(row[0], row[1] in _SET_UP) for row in known] == [(self.link.connection_id, True)]

    async def _settle(self, login: Login, kept: Pending | None) -> Ending:
        """Store the pair where it belongs, and what follows from it, in one transaction."""
        rt = self.rt
        policy = (await rt.configuration()).policy
        status, now = login.status, utcnow()
        async with rt.store.write() as session:
            # What it asks for may have got a successor since the customer followed it.
            link = await session.get_one(ConnectLink, self.link.id)
            if kept is not None and not await is_kept(session, kept.id):
                return Ending("used", link.system, used_link=link.id)
            if kept is not None and await is_superseded(session, kept.id):
                ending = await settle_superseded(rt, session, link, login, kept, by=self.by)
                if ending is not None:
                    await conclude(rt.store, session, policy=policy, now=now)
                    return ending
            match, owner = await resolve_owner(rt.store, session, link, login)
            # Also where it isn't what was asked for: the login killed this one's old pair.
            is_lost = owner is not None and await store_login(rt, session, owner, login, kept)
            how = how_it_ended(match, owner, login, is_lost=is_lost)
            is_open = how in ("away", "unlisted") and kept is not None
            if kept is not None and not is_open:
                await forget_pending(session, kept.id)
            came = await what(session, link, login, match)
            if how == "done":
                assert owner is not None  # whatever isn't another system has one
                await self._use_up(session, owner, now)
                if match.is_assumed:
                    await self._say_assumed(session, owner, now)
            elif not (is_open and kept is not None and kept.is_known):
                await self._say(
                    session, f"login.{how}", why_not(how, login, match, came), now, is_open
                )
            await conclude(rt.store, session, policy=policy, now=now)
        if how == "done":
            return Ending(how, self.link.system, was_lost=self.link.incident_id is not None)
        return Ending(
            how,
            self.link.system,
            came=came,
            is_theirs=is_theirs(self.link, match),
            mail=status.email if match.mail_before else "",
            mail_before=match.mail_before,
            connect_url=self.url,
            is_kept=is_open,
        )

    async def _use_up(self, session: AsyncSession, owner: str, now: datetime) -> None:
        await session.execute(
            update(ConnectLink)
            .where(col(ConnectLink.id) == self.link.id)
            .values(used_at=now, used_for=owner)
        )
        session.add(self._audit("login.renewed", owner, now))
        await session.flush()

    async def _say_assumed(self, session: AsyncSession, owner: str, now: datetime) -> None:
        """Into the audit, and to operators: nothing said which connection the login is of."""
        session.add(self._audit("login.assumed", ASSUMED, now))
        await announce_login(self.rt.store, session, self.link, "assumed", f"{ASSUMED}.", now=now)

    async def _refused(
        self, error: Exception, *, taken: bool = False, kept: Pending | None = None
    ) -> Ending:
        """`taken`: Makini had exchanged the code; the new connection's own status failed."""
        how: Ended = "refused"
        text = str(error)
        if isinstance(error, MakiniError):
            text = error.brief
            if taken and error.kind is ErrorKind.unavailable:
                how = "system_away"
                system = self.link.system or "the system"
                text = f"Makini accepted it, but {system} does not answer Makini{error.reference}"
            elif error.retryable or error.kind is ErrorKind.malformed:
                how = "away"  # an answer that can't be read says nothing of the login
            if kept is not None and error.retry_after is not None:
                await keep_pause(self.rt.store, kept.id, error.retry_after, now=utcnow())
        if kept is not None and kept.is_known:
            if isinstance(error, MakiniError) and error.kind is ErrorKind.unauthorized:
                await forget_refused(self.rt.store, kept, now=utcnow())
        else:
            async with self.rt.store.write() as session:
                await self._say(session, f"login.{how}", text, utcnow(), kept is not None)
        why, is_kept = (text if how == "away" else ""), kept is not None
        return Ending(how, self.link.system, connect_url=self.url, is_kept=is_kept, why=why)

    async def _say(
        self, session: AsyncSession, action: str, text: str, now: datetime, is_kept: bool
    ) -> None:
        """Into the audit, and to operators: somebody tried, and it did not work."""
        session.add(self._audit(action, text, now))
        await session.flush()
        said = f"somebody tried to log in, and it did not work: {text}"
        if is_kept:
            said = f"somebody logged in, and it could not be verified yet: {text}. "
            said += "The login is kept, and Linekeeper tries again automatically."
        await announce_login(self.rt.store, session, self.link, action, said, now=now)

    def _audit(self, action: str, text: str, now: datetime) -> Audit:
        return Audit(
            at=now,
            by=self.by,
            action=action,
            subject=self.link.connection_id or self.link.customer_id or self.link.id,
            detail={"link": self.link.id, "text": text[:300]},
        )
