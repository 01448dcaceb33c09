"""Pairs of logins that could not be verified yet: kept, asked about again, stored or forgotten.

A login spends its code and kills the pair before it. So the new pair is in the database before
anything else is asked of Makini, and leaves it only once Makini has said whose it is.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import bindparam, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.access.login_news import announce_login
from linekeeper.makini import (
    BEFORE_SENDING,
    NEW_LOGIN,
    ErrorKind,
    MakiniClient,
    MakiniError,
    TokenPair,
)
from linekeeper.makini.budget import MAX_PENALTY
from linekeeper.store import KeyProblem, Store
from linekeeper.store.engine import chunked
from linekeeper.store.lists import delete_many, update_many
from linekeeper.store.owned import retrying, to_its_end
from linekeeper.store.tables import Audit, ConnectAttempt, ConnectLink, Incident, PendingLogin
from linekeeper.store.types import UtcDateTime
from linekeeper.tokens.renew import STORAGE_TROUBLE, STORE_AGAIN_AFTER

FIRST_RETRY = timedelta(seconds=60)
"""Long enough for the login itself to end, which asks on its own."""
LONGEST_PAUSE = timedelta(minutes=15)
KEPT = timedelta(days=31)
"""Where Makini didn't say how long the pair lives (a refresh token: MAKINI "Link")."""
VERIFYING = timedelta(hours=1)
"""So long nobody who logged in is asked for that again, not even by a person."""
_BATCH = 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pending:
    """A login whose pair is kept."""

    id: str
    received_at: datetime
    is_known: bool = False
    """It was said already that the login could not be verified."""
    is_renewed: bool = False
    """Its pair was renewed just now."""


async def keep_pair(
    store: Store, link: ConnectLink, pair: TokenPair, *, by: str, now: datetime
) -> Pending:
    """Keep the pair that was just exchanged."""
    row = PendingLogin(
        link_id=link.id,
        by=by,
        access_token=store.cipher.encrypt(pair.access_token),
        refresh_token=store.cipher.encrypt(pair.refresh_token) if pair.refresh_token else None,
        expires_at=pair.expires_at,
        received_at=now,
        retry_at=now + FIRST_RETRY,
    )
    kept = Pending(row.id, now)
    async with store.write() as session:
        session.add(row)
    return kept


async def due_logins(store: Store, *, now: datetime) -> list[tuple[Pending, ConnectLink, str]]:
    """The logins that should be asked about by now, the oldest first.

    With the link each came by, and who logged in.
    """
    async with store.read() as session:
        rows = await session.execute(_DUE, {"now": now})
        return [
            (Pending(row.id, row.received_at, is_known=True), link, row.by) for row, link in rows
        ]


_DUE = (
    select(PendingLogin, ConnectLink)
    .join(ConnectLink, col(ConnectLink.id) == col(PendingLogin.link_id))
    .where(col(PendingLogin.retry_at) <= bindparam("now", type_=UtcDateTime))
    .order_by(col(PendingLogin.received_at), col(PendingLogin.id))
    .limit(_BATCH)
)


async def load_pending(store: Store, pending_id: str) -> TokenPair | None:
    """The pair of a login; None if it was settled meanwhile, or none of our keys opens it."""
    async with store.read() as session:
        row = await session.get(PendingLogin, pending_id)
    if row is None:
        return None
    try:
        refresh = store.cipher.decrypt(row.refresh_token) if row.refresh_token else None
        return TokenPair(
            store.cipher.decrypt(row.access_token), refresh, row.expires_at, minted=False
        )
    except KeyProblem:
        _log.warning("the pair of login %s can't be decrypted with our keys", pending_id)
        return None


async def renew_kept(
    store: Store, makini: MakiniClient, kept: Pending | None, pair: TokenPair, error: MakiniError
) -> tuple[TokenPair, Pending] | None:
    """The pair in place of a kept one whose access token ended before anybody said whose it is.

    None where it can't be renewed, or was just now. It counts as old as its login, so that no later
    login comes behind it. Whoever leaves meanwhile, it is kept.
    """
    if kept is None or not kept.is_known or kept.is_renewed or pair.refresh_token is None:
        return None
    if error.kind is not ErrorKind.unauthorized:
        return None
    renewed = await to_its_end(_renewed(store, makini, kept, pair), BEFORE_SENDING)
    return None if renewed is None else (renewed, replace(kept, is_renewed=True))


async def _renewed(
    store: Store, makini: MakiniClient, kept: Pending, pair: TokenPair
) -> TokenPair | None:
    try:
        given = await makini.refresh(pair.refresh_token or "", connection=NEW_LOGIN)
    except MakiniError:
        return None  # the refusal of its access token counts
    renewed, sealed = replace(given, expires_at=pair.expires_at), store.cipher.encrypt
    refresh_token = sealed(renewed.refresh_token) if renewed.refresh_token else None

    async def keep() -> None:
        async with store.write() as session:
            await session.execute(
                update_many(PendingLogin)
                .where(col(PendingLogin.id) == kept.id)
                .values(access_token=sealed(renewed.access_token), refresh_token=refresh_token)
            )

    await retrying(keep, on=STORAGE_TROUBLE, waits=STORE_AGAIN_AFTER)
    return renewed


async def is_kept(session: AsyncSession, pending_id: str) -> bool:
    """Whether nobody settled that login yet."""
    return await session.get(PendingLogin, pending_id, with_for_update=True) is not None


async def keep_pause(store: Store, pending_id: str, seconds: float, *, now: datetime) -> None:
    """Makini asked for a pause when it was asked about this login: nobody asks until its end."""
    until = now + min(timedelta(seconds=seconds), MAX_PENALTY)
    async with store.write() as session:
        await session.execute(
            update_many(PendingLogin)
            .where(col(PendingLogin.id) == pending_id, col(PendingLogin.retry_at) < until)
            .values(retry_at=until)
        )


async def postpone_login(store: Store, pending_id: str, *, now: datetime) -> None:
    """Ask about a login again later, ever less often; forget it once its pair has ended.

    What was settled meanwhile is left alone.
    """
    async with store.write() as session:
        row = await session.get(PendingLogin, pending_id, with_for_update=True)
        if row is None:
            return
        ends_at = max(row.expires_at or now, row.received_at + KEPT)
        if ends_at <= now:
            await _end(store, session, row, "could not be verified before it expired", now=now)
            return
        row.attempts += 1
        row.retry_at = max(row.retry_at, now + _wait_of(row))


def _wait_of(row: PendingLogin) -> timedelta:
    """How long after its last attempt it is asked about again, where nothing else says when."""
    wait: timedelta = FIRST_RETRY * 2 ** min(row.attempts, 10)
    return min(wait, LONGEST_PAUSE)


async def count_refusal(session: AsyncSession, pending_id: str) -> timedelta:
    """How long Makini has refused the pair, with this refusal: it stands until the next attempt."""
    row = await session.get(PendingLogin, pending_id, with_for_update=True)
    if row is None:
        return timedelta()
    row.refused_seconds += int(_wait_of(row).total_seconds())
    await session.flush()  # the row may be deleted next
    return timedelta(seconds=row.refused_seconds)


async def end_refused(
    store: Store, session: AsyncSession, pending_id: str, *, now: datetime
) -> None:
    """End a login whose pair Makini has refused for too long: its customer is asked again."""
    row = await session.get(PendingLogin, pending_id, with_for_update=True)
    if row is not None:
        await _end(store, session, row, "could not be verified: Makini refuses it", now=now)


async def _end(
    store: Store, session: AsyncSession, row: PendingLogin, why: str, *, now: datetime
) -> None:
    """The messages that said somebody had logged in say again that somebody has to."""
    session.add(Audit(at=now, by=row.by, action="login.ended", subject=row.link_id))
    link, at = await session.get_one(ConnectLink, row.link_id), row.received_at
    await session.delete(row)
    incident = await session.get(Incident, link.incident_id) if link.incident_id else None
    if incident is not None and incident.resolved_at is not None:
        return
    text = f"the login of {at:%Y-%m-%d %H:%M} UTC {why}. The customer has to log in again."
    await announce_login(store, session, link, "ended", text, now=now)


async def forget_pending(session: AsyncSession, pending_id: str) -> None:
    """Forget a login whose pair is stored, or is known to be of no use.

    Never others by the same link: somebody may have logged in to another connection by it.
    """
    await session.execute(delete_many(PendingLogin).where(col(PendingLogin.id) == pending_id))


_LATER = aliased(ConnectLink)
_OWN = aliased(ConnectLink)
SUPERSEDED = exists().where(
    col(_OWN.id) == col(PendingLogin.link_id),
    or_(
        col(_OWN.used_at).is_not(None),
        # Of this login: uncorrelated, it would be any one that is kept.
        exists()
        .where(
            col(_LATER.connection_id) == col(_OWN.connection_id),
            col(_LATER.used_at) > col(PendingLogin.received_at),
        )
        .correlate(_OWN, PendingLogin),
    ),
)
"""That what the link of a kept login asks for was logged in to since. The login may be another
connection's all the same, whose pair before it is dead."""
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class KeptLogin:
    """A login that is kept until Makini says whose it is."""

    at: datetime
    is_system_away: bool
    """When it came, Makini took it and the customer's system did not answer Makini."""

    def is_being_verified(self, now: datetime) -> bool:
        """Whether it came so lately that its customer is not asked to log in again."""
        return now - self.at < VERIFYING


async def kept_logins(
    session: AsyncSession, connection_ids: Collection[str]
) -> dict[str, KeptLogin]:
    """The newest kept login of each of these connections; those without one are left out.

    One that a later login superseded isn't theirs to speak of any more.
    """
    logins: dict[str, KeptLogin] = {}
    for ids in chunked(sorted(set(connection_ids)), _AT_ONCE):
        for connection_id, at, outcome in await session.execute(_KEPT_OF, {"ids": ids}):
            logins[connection_id] = KeptLogin(at, outcome == "system_away")
    return logins


async def kept_login(session: AsyncSession, link: ConnectLink) -> KeptLogin | None:
    """The newest kept login by this link, or by another one of its connection."""
    mine = [col(ConnectLink.id) == link.id]
    if link.connection_id is not None:
        mine.append(col(ConnectLink.connection_id) == link.connection_id)
    rows = (await session.execute(_KEPT.where(or_(*mine)))).all()
    return KeptLogin(rows[-1][1], rows[-1][2] == "system_away") if rows else None


_OUTCOME = (
    select(col(ConnectAttempt.outcome))
    .where(
        col(ConnectAttempt.link_id) == col(PendingLogin.link_id),
        col(ConnectAttempt.at) <= col(PendingLogin.received_at),
    )
    .order_by(col(ConnectAttempt.at).desc())
    .limit(1)
    .scalar_subquery()
)
_KEPT = (
    select(col(ConnectLink.connection_id), col(PendingLogin.received_at), _OUTCOME)
    .join(ConnectLink, col(ConnectLink.id) == col(PendingLogin.link_id))
    .where(~SUPERSEDED)
    .order_by(col(PendingLogin.received_at), col(PendingLogin.id))
)
_KEPT_OF = _KEPT.where(col(ConnectLink.connection_id).in_(bindparam("ids", expanding=True)))
