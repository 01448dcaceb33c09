"""Tokens at rest: encrypted in the table `credential`, decrypted here and nowhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, bindparam, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.makini import TokenPair
from linekeeper.store import Store
from linekeeper.store.tables import Credential
from linekeeper.store.upsert import insert_or_update

MINT_MARGIN = timedelta(seconds=60)
"""A minted token with less than this left is minted again before use (INTERFACE, MAKINI)."""
_HELD = select(
    col(Credential.connection_id),
    col(Credential.access_token),
    col(Credential.refresh_token),
    col(Credential.expires_at),
    col(Credential.minted),
).where(col(Credential.connection_id).in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Token:
    """A connection's tokens; secrets stay out of `repr`. `expires_at` is UTC, None if unsaid."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    expires_at: datetime | None
    minted: bool

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over: where nothing may renew it, it is no token any more."""
        return self.expires_at is not None and self.expires_at <= now

    def needs_minting(self, now: datetime) -> bool:
        """Whether it is a minted token about to run out, with nothing to refresh it by."""
        if not self.minted or self.refresh is not None or self.expires_at is None:
            return False
        return self.expires_at - now < MINT_MARGIN


def is_live(now: datetime) -> ColumnElement[bool]:
    """`not Token.is_over` as SQL."""
    return or_(col(Credential.expires_at).is_(None), col(Credential.expires_at) > now)


async def load_tokens(
    store: Store, session: AsyncSession, connections: Sequence[str]
) -> dict[str, Token]:
    """The tokens of those of `connections` that have any. Raises `KeyProblem`."""
    tokens: dict[str, Token] = {}
    connection = await session.connection()
    for start in range(0, len(connections), 10_000):
        ids = list(connections[start : start + 10_000])
        rows = await connection.execute(_HELD, {"ids": ids})
        for identifier, access, refresh, expires_at, minted in rows:
            tokens[identifier] = Token(
                store.cipher.decrypt(access),
                store.cipher.decrypt(refresh) if refresh else None,
                expires_at,
                minted,
            )
    return tokens


async def save_tokens(
    store: Store, session: AsyncSession, pairs: Mapping[str, TokenPair], *, now: datetime
) -> None:
    """Store the pairs by connection id, in place of what was there."""
    rows = [
        {
            "connection_id": identifier,
            "access_token": store.cipher.encrypt(pair.access_token),
            "refresh_token": store.cipher.encrypt(pair.refresh_token)
            if pair.refresh_token
            else None,
            "expires_at": pair.expires_at,
            "minted": pair.minted,
            "updated_at": now,
        }
        for identifier, pair in pairs.items()
    ]
    for start in range(0, len(rows), 1_000):
        await insert_or_update(
            store,
            session,
            Credential,
            rows[start : start + 1_000],
            key=["connection_id"],
            update=["access_token", "refresh_token", "expires_at", "minted", "updated_at"],
        )


async def destroy_tokens(session: AsyncSession, connection_id: str) -> None:
    """Forget a connection's tokens."""
    await session.execute(delete(Credential).where(col(Credential.connection_id) == connection_id))
