"""Tokens at rest: encrypted in the table `credential`, decrypted here and nowhere else.

Who writes a pair either holds the connection's lease (`TOKENS`) or compares with the pair it
started from (`replace_pair`); a customer's new login does the first and is never overwritten.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, bindparam, delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.makini import TokenPair
from linekeeper.store import KeyProblem, Store
from linekeeper.store.engine import chunked, insert_or_update
from linekeeper.store.lists import delete_many, update_many
from linekeeper.store.modes import is_managed_in
from linekeeper.store.tables import Connection, ConnectLink, Credential, PendingLogin
from linekeeper.store.types import UtcDateTime, table_of

MINT_MARGIN = timedelta(seconds=60)
"""A minted token with less than this left is minted again before use (INTERFACE, MAKINI)."""
_HELD = select(
    col(Credential.connection_id),
    col(Credential.access_token),
    col(Credential.refresh_token).is_not(None),
    col(Credential.expires_at),
    col(Credential.minted),
    col(Credential.renewing_since),
    select(col(Connection.custody))
    .where(col(Connection.id) == col(Credential.connection_id))
    .scalar_subquery(),
).where(col(Credential.connection_id).in_(bindparam("ids", expanding=True)))
_PAIR = select(
    col(Credential.access_token),
    col(Credential.refresh_token),
    col(Credential.expires_at),
    col(Credential.minted),
    col(Credential.refused_at),
    col(Credential.renewing_since),
    col(Credential.refresh_unanswered_since),
).where(col(Credential.connection_id) == bindparam("of"))
_LOCK = (
    select(col(Connection.id), col(Connection.setup))
    .where(col(Connection.id).in_(bindparam("ids", expanding=True)))
    .order_by(col(Connection.id))
    .with_for_update(key_share=True)
)
_NOTE_RENEWING = (
    update(table_of(Credential))
    .where(table_of(Credential).c.connection_id == bindparam("of"))
    .values(renewing_since=bindparam("since", type_=UtcDateTime))
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """A connection's access token, which stays out of `repr`. `expires_at` is UTC, None if unsaid.

    The refresh token is not in it: only the renewal reads that, under the connection's lease.
    """

    access: str = field(repr=False)
    refreshable: bool
    """Whether a refresh token came with it."""
    expires_at: datetime | None
    minted: bool
    is_ours: bool = True
    """Whether we may renew it: not one that is borrowed, or given back."""
    is_lent: bool = False
    """Whether the product lent it for reading."""
    is_given_back: bool = False
    """Whether somebody else renews it: once it is refused, its time is over."""
    in_doubt_since: datetime | None = None
    """When it was sent to be refreshed, or refused, if what came of that isn't known."""

    def may_read(self, app: AppConfig, now: datetime) -> bool:
        """Whether records may be read with it, for a connection that `app` holds for.

        Of one that is observed only with what was lent for that; where nothing may renew it, one
        that has ended is none.
        """
        if self.is_over(now):
            return app.manages and self.is_ours
        return app.manages or self.is_lent

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over: where nothing may renew it, it is no token any more."""
        return self.expires_at is not None and self.expires_at <= now

    def needs_minting(self, now: datetime) -> bool:
        """Whether it is a minted token about to run out, with nothing to refresh it by."""
        if not self.is_ours or not self.minted or self.refreshable or self.expires_at is None:
            return False
        return self.expires_at - now < MINT_MARGIN


def is_live(now: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """`not Token.is_over` as SQL."""
    return or_(col(Credential.expires_at).is_(None), col(Credential.expires_at) > now)


class UnreadableToken(KeyProblem):
    """The pair of one connection was encrypted with a key that this process doesn't have."""


def has_usable_token(now: datetime, apps: Mapping[str, AppConfig]) -> ColumnElement[bool]:
    """Whether a connection of `apps` has a token that works, or may be renewed."""
    return exists().where(
        col(Credential.connection_id) == col(Connection.id),
        or_(
            is_live(now),
            and_(is_managed_in(apps), col(Connection.custody) == "owned"),
        ),
    )


async def load_tokens(
    store: Store, session: AsyncSession, connections: Sequence[str]
) -> dict[str, Token]:
    """The tokens of those of `connections` that have any.

    One that can't be decrypted is left out and named in the log; it says nothing of the others.
    """
    tokens: dict[str, Token] = {}
    unreadable: list[str] = []
    for ids in chunked(connections, 10_000):
        rows = await session.execute(_HELD, {"ids": ids})
        for identifier, access, refreshable, expires_at, minted, since, custody in rows:
            try:
                plain = store.cipher.decrypt(access)
            except KeyProblem:
                unreadable.append(identifier)
            else:
                tokens[identifier] = Token(
                    plain,
                    bool(refreshable),
                    expires_at,
                    minted,
                    is_ours=custody == "owned",
                    is_lent=custody == "borrowed",
                    is_given_back=custody == "exported",
                    in_doubt_since=since,
                )
    if unreadable:
        and_more = f" and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
        _log.warning(
            "the stored tokens of %d connections can't be decrypted with the keys of this process, "
            "and are left alone: %s%s",
            len(unreadable),
            ", ".join(unreadable[:5]),
            and_more,
        )
    return tokens


@dataclass(frozen=True, slots=True)
class StoredPair:
    """What the table holds for a connection, the refresh token included."""

    token: Token
    refresh: str | None = field(repr=False)
    refused_at: datetime | None = None
    """When Makini last refused to renew it."""
    in_doubt_since: datetime | None = None
    """When it was sent to be refreshed, if what Makini made of that isn't known."""
    refresh_unanswered_since: datetime | None = None


async def load_pair(store: Store, session: AsyncSession, connection_id: str) -> StoredPair | None:
    """The pair of one connection, for its renewal. Raises `UnreadableToken`."""
    row = (await session.execute(_PAIR, {"of": connection_id})).first()
    if row is None:
        return None
    try:
        access = store.cipher.decrypt(row.access_token)
        refresh = store.cipher.decrypt(row.refresh_token) if row.refresh_token else None
    except KeyProblem as error:
        raise UnreadableToken(
            f"the stored tokens of connection {connection_id} can't be decrypted: put the key they "
            "were written with into LINEKEEPER_ENCRYPTION_KEYS, or have the customer log in again"
        ) from error
    token = Token(access, refresh is not None, row.expires_at, row.minted)
    return StoredPair(token, refresh, *row[-3:])


async def replace_pair(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    pair: TokenPair,
    *,
    instead_of: StoredPair | None,
    now: datetime,
) -> bool:
    """Store `pair` where the connection still has the pair it was got with; returns whether.

    A login that came meanwhile is newer and stays; a connection that was disconnected meanwhile
    gets no tokens back.
    """
    if connection_id not in await lock_connected(session, [connection_id]):
        return False
    try:
        current = await load_pair(store, session, connection_id)
    except UnreadableToken:
        return False
    if _access(current) != _access(instead_of):
        return False
    await _write(store, session, {connection_id: pair}, now)
    return True


async def save_tokens(
    store: Store, session: AsyncSession, pairs: Mapping[str, TokenPair], *, now: datetime
) -> None:
    """Store the pairs by connection id, in place of whatever was there.

    Only for what is newer than anything stored, as a customer's login is.
    """
    await lock_connected(session, list(pairs))
    await _write(store, session, pairs, now)


async def note_refused(
    store: Store, session: AsyncSession, connection_id: str, pair: StoredPair, *, now: datetime
) -> None:
    """Remember that Makini refuses to renew `pair`, unless another is stored by now.

    A pair that was in doubt before stays so: it may be refused because it was replaced then.
    """
    await lock_connected(session, [connection_id])
    current = await load_pair(store, session, connection_id)
    if current is not None and _access(current) == _access(pair):
        await session.execute(
            update_many(Credential)
            .where(col(Credential.connection_id) == connection_id)
            .values(refused_at=now, renewing_since=pair.in_doubt_since)
        )


async def note_renewing(session: AsyncSession, connection_id: str, since: datetime | None) -> None:
    """Remember that the pair is about to be refreshed; None: that it is known to live."""
    await session.execute(_NOTE_RENEWING, {"of": connection_id, "since": since})


async def note_doubted(
    store: Store, session: AsyncSession, connection_id: str, token: Token, *, now: datetime
) -> None:
    """Remember that Makini refused `token` while no other could be had, unless it was replaced.
    One that was given back has ended with that: its holder has renewed it."""
    await lock_connected(session, [connection_id])
    with suppress(UnreadableToken):  # then it was replaced, by a process with a newer key
        current = await load_pair(store, session, connection_id)
        if current is None or current.token.access != token.access:
            return
        if token.is_given_back:
            (await session.get_one(Credential, connection_id)).expires_at = now
        else:
            await note_renewing(session, connection_id, current.in_doubt_since or now)


async def own(session: AsyncSession, connection_id: str) -> None:
    """Renew a connection's tokens from now on: its customer logged in here, or it was given one."""
    await session.execute(
        update_many(Connection).where(col(Connection.id) == connection_id).values(custody="owned")
    )


async def destroy_tokens(session: AsyncSession, connection_id: str) -> None:
    """Forget a connection's tokens, those of logins that are still to be verified included."""
    await session.execute(delete(Credential).where(col(Credential.connection_id) == connection_id))
    await session.execute(
        delete_many(PendingLogin).where(
            col(PendingLogin.link_id).in_(
                select(col(ConnectLink.id)).where(col(ConnectLink.connection_id) == connection_id)
            )
        )
    )


async def unreadable_tokens(store: Store, session: AsyncSession) -> list[str]:
    """The connections whose tokens none of this process's keys opens."""
    rows = await session.execute(
        select(
            col(Credential.connection_id),
            col(Credential.access_token),
            col(Credential.refresh_token),
        ).order_by(col(Credential.connection_id))
    )
    return [
        connection_id
        for connection_id, *sealed in rows
        if not all(store.cipher.opens(value) for value in sealed if value)
    ]


async def lock_connected(session: AsyncSession, connections: Sequence[str]) -> set[str]:
    """Those of `connections` that are not disconnected; the rows of all are ours until the end of
    the transaction.

    Every writer of tokens begins here, so that they come one after the other.
    """
    connected: set[str] = set()
    for chunk in chunked(sorted(connections), 1_000):
        rows = await session.execute(_LOCK, {"ids": chunk})
        connected |= {row.id for row in rows if row.setup != "disconnected"}
    return connected


def _access(pair: StoredPair | None) -> str | None:
    return pair.token.access if pair is not None else None


async def _write(
    store: Store, session: AsyncSession, pairs: Mapping[str, TokenPair], now: datetime
) -> None:
    rows = [
        {
            "connection_id": identifier,
            "access_token": store.cipher.encrypt(pair.access_token),
            "refresh_token": store.cipher.encrypt(pair.refresh_token)
            if pair.refresh_token
            else None,
            "expires_at": pair.expires_at,
            "minted": pair.minted,
            "refused_at": None,
            "renewing_since": None,
            "refresh_unanswered_since": None,
            "ending_notified": 0,
            "updated_at": now,
        }
        for identifier, pair in pairs.items()
    ]
    for chunk in chunked(rows, 1_000):
        await insert_or_update(
            store,
            session,
            Credential,
            chunk,
            key=["connection_id"],
            update=[name for name in chunk[0] if name != "connection_id"],
        )
