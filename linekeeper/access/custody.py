"""Whose tokens they are: ours to renew, borrowed for reading, or given back.

Only `owned` ones are ever refreshed or minted (`tokens.renew`). A connection is owned until the
product lends its token, and after an export nothing here renews.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.issue import NoSuchConnection, find_by_id_or_key
from linekeeper.access.token_check import AT_ONCE, TokenClaim, check_tokens, note_ids
from linekeeper.answers import Answer
from linekeeper.clock import utcnow
from linekeeper.groups import task_group
from linekeeper.health.evidence import Observation
from linekeeper.health.service import observe
from linekeeper.incidents.conclude import conclude
from linekeeper.makini import TokenPair
from linekeeper.makini.fields import expiry, instant
from linekeeper.makini.models import is_token
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.leases import TOKENS, HeldLease, holding
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Audit, Connection, Credential
from linekeeper.tokens.stored import (
    Token,
    UnreadableToken,
    load_pair,
    load_tokens,
    lock_connected,
    save_tokens,
)

MOST = 1_000
"""Tokens in one call."""
LEASE_SECONDS = 60
_CHANGED = "another login or renewal was stored while this pair was verified: send it again"
_ENDED = "the connection was disconnected"
_OURS = "Linekeeper owns this connection's pair: export it before lending another"


class Custody(StrEnum):
    """Who renews a connection's tokens."""

    owned = "owned"
    borrowed = "borrowed"
    exported = "exported"


class BadTokens(ValueError):
    """What was handed over can't be read; the message says what is wrong, and no token."""


@dataclass(frozen=True, slots=True)
class Handed:
    """One token that the product hands over; with a refresh token it is the whole pair."""

    connection: str
    pair: TokenPair = field(repr=False)


class HandedResult(Answer):
    """What became of one; `custody` is null where it was refused, and `error` says why."""

    connection: str
    custody: Custody | None
    error: str | None


def _refused(connection: str, why: str) -> HandedResult:
    return HandedResult(connection=connection, custody=None, error=why)


def parse_handed(value: object, *, now: datetime) -> list[Handed]:
    """The tokens in a body: `{"tokens": [{connection, access_token, refresh_token?, …}]}`. Pure.

    `expires_at` is a time, `expires_in` what Makini gave. Raises `BadTokens`.
    """
    entries = value.get("tokens") if isinstance(value, dict) else value
    if not isinstance(entries, list):
        raise BadTokens('send {"tokens": [{"connection": "…", "access_token": "…"}]}')
    if len(entries) > MOST:
        raise BadTokens(f"send at most {MOST} tokens at a time, not {len(entries)}")
    return [_parsed(position, entry, now) for position, entry in enumerate(entries, start=1)]


def _parsed(position: int, entry: object, now: datetime) -> Handed:
    if not isinstance(entry, Mapping):
        raise BadTokens(f"entry {position} is not an object")
    connection, access = entry.get("connection"), entry.get("access_token")
    refresh = entry.get("refresh_token")
    if not isinstance(connection, str) or not connection.strip():
        raise BadTokens(f"entry {position} names no connection")
    if not isinstance(access, str) or not is_token(access):
        raise BadTokens(f"entry {position} has no usable access_token")
    if refresh is not None and not (isinstance(refresh, str) and is_token(refresh)):
        raise BadTokens(f"entry {position} has no usable refresh_token")
    ends = instant(entry.get("expires_at")) or expiry(entry.get("expires_in"), now)
    return Handed(connection.strip(), TokenPair(access, refresh, ends))


async def take_over(
    rt: Runtime,
    handed: Sequence[Handed],
    *,
    by: str,
    now: datetime,
    within: float | None = None,
) -> list[HandedResult]:
    """Take each of `handed` once it is verified: an access token is borrowed, a pair is owned.

    Each is verified by asking for the connection's status with its access token, which renews
    nothing: until the result says `owned` the old holder keeps a pair. Repeating a call does no
    harm. `within` is how many seconds Makini is asked for.
    """
    results: dict[int, HandedResult] = {}
    claims: dict[int, TokenClaim] = {}
    async with rt.store.read() as session:
        for position, each in enumerate(handed):
            try:
                connection = await find_by_id_or_key(session, each.connection)
            except NoSuchConnection as error:
                results[position] = _refused(each.connection, str(error))
                continue
            if connection.setup == "disconnected":
                results[position] = _refused(each.connection, _ENDED)
            else:
                claims[position] = TokenClaim(connection, each.pair)
        ids = [claim.connection.id for claim in claims.values()]
        before = await load_tokens(rt.store, session, ids)
    checks = await check_tokens(rt, claims, within=within)
    for position, check in checks.items():
        if check.refused is not None:
            results[position] = _refused(handed[position].connection, check.refused)
            del claims[position]
    async with rt.store.write() as session:
        await note_ids(session, claims, {position: checks[position] for position in claims})
    lent = {n: claim.connection for n, claim in claims.items() if not claim.is_pair}
    results |= await _borrow(rt, handed, lent, by=by, now=now)
    gate = asyncio.Semaphore(AT_ONCE)

    async def own_one(position: int, connection: Connection) -> None:
        async with gate:
            held = before.get(connection.id)
            results[position] = await _own(rt, handed[position], connection, held, by=by, now=now)

    async with task_group() as group:
        for position, claim in claims.items():
            if claim.is_pair:
                group.create_task(own_one(position, claim.connection))
    seen = [
        (claim.connection.id, said)
        for position, claim in claims.items()
        if results[position].custody is not None and (said := checks[position].seen) is not None
    ]
    if seen:
        await _judge(rt, seen)
    return [results[position] for position in range(len(handed))]


async def _judge(rt: Runtime, seen: Sequence[tuple[str, Observation]]) -> None:
    """Makini was asked how they are, with the tokens that are held now: that is evidence."""
    policy, now = (await rt.configuration()).policy, utcnow()
    async with rt.store.write() as session:
        if await observe(rt.store, session, seen, policy=policy, now=now):
            await conclude(rt.store, session, policy=policy, now=now)


async def _borrow(
    rt: Runtime,
    handed: Sequence[Handed],
    lent: Mapping[int, Connection],
    *,
    by: str,
    now: datetime,
) -> dict[int, HandedResult]:
    """Store what is lent in one transaction; no pair of ours is written over.

    A renewal under way compares with the pair it started from, so it writes over none of these.
    """
    results: dict[int, HandedResult] = {}
    pairs: dict[str, TokenPair] = {}
    changed: list[Connection] = []
    ids = [connection.id for connection in lent.values()]
    async with rt.store.write() as session:
        connected = await lock_connected(session, ids)
        kept = set(
            await session.scalars(
                select(col(Credential.connection_id))
                .join(Connection, col(Connection.id) == col(Credential.connection_id))
                .where(
                    col(Credential.connection_id).in_(ids),
                    col(Credential.refresh_token).is_not(None),
                    col(Connection.custody) == Custody.owned.value,
                )
            )
        )
        for position, connection in lent.items():
            name = handed[position].connection
            if connection.id not in connected or connection.id in kept:
                results[position] = _refused(name, _OURS if connection.id in kept else _ENDED)
                continue
            results[position] = HandedResult(connection=name, custody=Custody.borrowed, error=None)
            pairs[connection.id] = handed[position].pair
            changed.append(connection)
        stored = col(Credential.connection_id)
        held = set(await session.scalars(select(stored).where(stored.in_(ids))))
        if pairs:
            await save_tokens(rt.store, session, pairs, now=now)
        for connection in {each.id: each for each in changed}.values():
            had = connection.id in held
            await _set(session, connection, Custody.borrowed, had_one=had, by=by, now=now)
    return results


def _alone(rt: Runtime, connection_id: str) -> AbstractAsyncContextManager[HeldLease | None]:
    """Hold the connection's tokens for the block: a renewal or a login under way ends first."""
    me = f"{rt.owner}:{new_id()}"
    return holding(rt.store, TOKENS, me, subject=connection_id, seconds=LEASE_SECONDS, wait=True)


async def _own(
    rt: Runtime,
    handed: Handed,
    connection: Connection,
    held: Token | None,
    *,
    by: str,
    now: datetime,
) -> HandedResult:
    """Store a pair in place of what was `held` when it began to be verified.

    Another one that is there by now is of a login or a renewal, which killed the pair.
    """
    async with _alone(rt, connection.id), rt.store.write() as session:
        if connection.id not in await lock_connected(session, [connection.id]):
            return _refused(handed.connection, _ENDED)
        current = (await load_tokens(rt.store, session, [connection.id])).get(connection.id)
        known = {handed.pair.access_token, held.access if held is not None else None}
        if current is not None and not current.minted and current.access not in known:
            return _refused(handed.connection, _CHANGED)
        await save_tokens(rt.store, session, {connection.id: handed.pair}, now=now)
        had = current is not None and not current.minted  # a minted token is no pair
        await _set(session, connection, Custody.owned, had_one=had, by=by, now=now)
    return HandedResult(connection=handed.connection, custody=Custody.owned, error=None)


async def _set(
    session: AsyncSession,
    connection: Connection,
    custody: Custody,
    *,
    had_one: bool,
    by: str,
    now: datetime,
) -> None:
    """A connection that never had a token is `owned` in its column: nothing was held before."""
    no_token = connection.custody == Custody.owned.value and not had_one
    before = "none" if no_token else connection.custody
    await _hold(session, connection, custody)
    if before != custody.value:
        action, detail = f"token.{custody.value}", {"before": before}
        session.add(Audit(at=now, by=by, action=action, subject=connection.id, detail=detail))


async def _hold(session: AsyncSession, connection: Connection, custody: Custody) -> None:
    await session.execute(
        update_many(Connection)
        .where(col(Connection.id) == connection.id)
        .values(custody=custody.value)
    )


async def return_tokens(
    rt: Runtime, connection: Connection, *, by: str, now: datetime, to: str = ""
) -> dict[str, Any] | None:
    """End the renewing of one connection and return its pair; None where it has none.

    A renewal under way is waited for, so that what is returned is the pair that lives. Borrowed
    tokens are the product's own already and stay lent. A second call returns the same again; each
    is in the audit, with the public key `to` which they go. Raises `UnreadableToken`; it is not
    renewed any more then, either.
    """
    async with _alone(rt, connection.id), rt.store.write() as session:
        row = await session.get_one(Connection, connection.id, populate_existing=True)
        if row.custody == Custody.borrowed.value:
            return None
        before, pair, unreadable = row.custody, None, None
        await _hold(session, row, Custody.exported)
        try:
            pair = await load_pair(rt.store, session, connection.id)
        except UnreadableToken as error:
            unreadable = error
        if pair is not None or before != Custody.exported.value:
            action = "token.exported" if pair is not None else "token.renewal_ended"
            detail = {"before": before, **({"to": to} if to else {})}
            session.add(Audit(at=now, by=by, action=action, subject=connection.id, detail=detail))
    if unreadable is not None:
        raise unreadable
    if pair is None:
        return None
    ends = pair.token.expires_at
    return {
        "connection": connection.makini_key,
        "id": connection.id,
        "app": connection.app,
        "access_token": pair.token.access,
        "refresh_token": pair.refresh,
        "expires_at": ends.isoformat() if ends is not None else None,
        "minted": pair.token.minted,
    }
