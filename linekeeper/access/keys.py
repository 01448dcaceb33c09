"""Keys of the operator's product: made once, shown once, kept as a hash, revocable."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store import new_id
from linekeeper.store.tables import ApiKey, Audit

SCOPES = (
    "connections:read",
    "tokens:read",
    "tokens:write",
    "observations:write",
    "changes:read",
    "connect:write",
    "mode:write",
    "explain:read",
    "canary:write",
)
"""What a key may do; without a choice, all of it."""

_PREFIX = "lk_"
_SEEN_EVERY = timedelta(hours=1)


class KeyRefused(Exception):
    """A key can't be made or revoked; the message says what to fix."""


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose key a request came with."""

    id: str
    name: str
    scopes: frozenset[str]
    last_used_at: datetime | None = None

    def is_use_news(self, now: datetime) -> bool:
        """Whether a use at `now` is worth writing down: once an hour is enough."""
        return self.last_used_at is None or now - self.last_used_at > _SEEN_EVERY

    @property
    def by(self) -> str:
        """How the audit names it."""
        return f"key {self.name}"


async def make_key(
    session: AsyncSession, name: str, scopes: Sequence[str], *, by: str, now: datetime
) -> str:
    """Make the key `name` in the caller's transaction and return it: nobody can read it again.

    Its characters are `A-Za-z0-9_-` (INTERFACE "Commands"). Raises `KeyRefused` for a name that
    is taken or empty, or a scope nobody knows.
    """
    name = name.strip()
    if not name:
        raise KeyRefused("give the key a name, such as the product that will use it")
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise KeyRefused(f"there is no scope {', '.join(unknown)}; there are {', '.join(SCOPES)}")
    if await session.scalar(select(col(ApiKey.id)).where(col(ApiKey.name) == name)):
        raise KeyRefused(f"there is a key {name!r} already: take another name")
    key = _PREFIX + secrets.token_urlsafe(32)
    kept = sorted(set(scopes) or set(SCOPES))
    session.add(
        ApiKey(
            id=new_id(),
            name=name,
            digest=digest_of(key),
            scopes=kept,
            created_at=now,
            created_by=by,
        )
    )
    session.add(Audit(at=now, by=by, action="key.added", subject=name, detail={"scopes": kept}))
    await session.flush()
    return key


async def revoke_key(session: AsyncSession, name: str, *, by: str, now: datetime) -> None:
    """End the key `name`; it is refused from the commit on. Raises `KeyRefused`."""
    revoked = await session.scalar(
        update(ApiKey)
        .where(col(ApiKey.name) == name, col(ApiKey.revoked_at).is_(None))
        .values(revoked_at=now)
        .returning(col(ApiKey.id))
    )
    if revoked is None:
        known = await session.scalar(select(col(ApiKey.id)).where(col(ApiKey.name) == name))
        raise KeyRefused(
            f"the key {name!r} is revoked already" if known else f"there is no key {name!r}"
        )
    session.add(Audit(at=now, by=by, action="key.revoked", subject=name))
    await session.flush()


async def list_keys(session: AsyncSession) -> list[ApiKey]:
    """Every key there was, oldest first; none of them can be read."""
    return list(await session.scalars(select(ApiKey).order_by(col(ApiKey.id))))


async def find_holder(session: AsyncSession, key: str) -> KeyHolder | None:
    """Whose `key` it is; None if it is unknown or revoked. Only reads."""
    row = await session.scalar(
        select(ApiKey).where(col(ApiKey.digest) == digest_of(key), col(ApiKey.revoked_at).is_(None))
    )
    if row is None:
        return None
    return KeyHolder(row.id, row.name, frozenset(row.scopes), row.last_used_at)


async def note_use(session: AsyncSession, holder: KeyHolder, *, now: datetime) -> None:
    """Remember that the key is in use."""
    await session.execute(
        update(ApiKey).where(col(ApiKey.id) == holder.id).values(last_used_at=now)
    )


def digest_of(key: str) -> str:
    """A key has 256 random bits, so a plain hash can't be guessed back."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
