"""Handing the product its token (MISSION A1): current, audited, and never the refresh token."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import monotonic
from linekeeper.health.evidence import Health
from linekeeper.incidents.of_connection import incident_of
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.runtime import Runtime
from linekeeper.spending import for_person
from linekeeper.store import is_id
from linekeeper.store.leases import TOKENS, is_taken
from linekeeper.store.modes import app_of
from linekeeper.store.tables import Audit, Connection
from linekeeper.tokens.caller import Caller
from linekeeper.tokens.stored import MINT_MARGIN, Token, load_pair, load_tokens

RENEWAL_SECONDS = 5.0
"""How long the product waits for the end of a renewal; then Makini is asked what works."""
LOOK_SECONDS = 0.1


class NoSuchConnection(Exception):
    """Nothing answers to that id or key, or more than one connection does."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token for the product. `expires_at` is UTC, None if Makini didn't say."""

    access_token: str = field(repr=False)
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Withheld:
    """Why there is no token that works; `incident` is the open one about it, if there is one."""

    incident: str | None
    reason: str


async def find_by_id_or_key(session: AsyncSession, wanted: str) -> Connection:
    """The connection with our id, or Makini's key, `wanted`. Raises `NoSuchConnection`."""
    if "\0" in wanted:  # PostgreSQL can't even be asked
        raise NoSuchConnection("no connection has this id or key")
    matches = [col(Connection.makini_key) == wanted]
    if is_id(wanted):
        matches.append(col(Connection.id) == wanted)
    connections = list(await session.scalars(select(Connection).where(or_(*matches)).limit(3)))
    exact = [connection for connection in connections if connection.id == wanted]
    current = (
        exact
        or [connection for connection in connections if connection.setup != "disconnected"]
        or connections
    )
    if not current:
        raise NoSuchConnection("no connection has this id or key")
    if len(current) > 1:
        raise NoSuchConnection("connections of several apps have this key: give Linekeeper's id")
    return current[0]


@for_person
async def issue_access_token(
    rt: Runtime, connection: Connection, *, by: str, now: datetime
) -> IssuedToken | Withheld:
    """The token `connection` has now; minted or refreshed where that is needed and allowed.

    Raises `MakiniError` if a new one is needed and Makini could not be asked, `UnreadableToken` if
    there is one that this process's keys don't open.
    """
    if connection.setup == "disconnected":
        return Withheld(await _incident_of(rt, connection.id), "the connection was disconnected")
    if connection.health == Health.reauthorization_required.value:
        return Withheld(
            await _incident_of(rt, connection.id),
            "Reauthorization required: the customer has to log in again",
        )
    token = await _settled(rt, connection.id)
    if token is None or is_ending(token.expires_at, now):
        token = await _fresher(rt, connection, token, now)
    elif token.in_doubt_since is not None:
        token = await _tried(rt, connection, token)
    if token is None:
        async with rt.store.read() as session:
            await load_pair(rt.store, session, connection.id)  # raises where that is why
        return Withheld(
            await _incident_of(rt, connection.id),
            await _why_none(rt, connection),
        )
    async with rt.store.write() as session:
        given = IssuedToken(token.access, token.expires_at)
        session.add(Audit(**issued(connection.id, given, by=by, now=now)))
    return given


async def _settled(rt: Runtime, connection_id: str) -> Token | None:
    """The stored token; while it is being renewed, the new one is waited for.

    Makini kills the old pair before its answer is here. Whoever renews it holds its lease. One that
    failed or was cut off leaves the token in doubt, and the next use settles what became of it.
    """
    until = monotonic() + RENEWAL_SECONDS
    while True:
        async with rt.store.read() as session:
            token = (await load_tokens(rt.store, session, [connection_id])).get(connection_id)
            is_being_renewed = (
                token is not None
                and token.in_doubt_since is not None
                and await is_taken(rt.store, session, TOKENS, connection_id)
            )
        if not is_being_renewed or monotonic() >= until:
            return token
        await asyncio.sleep(LOOK_SECONDS)


_OF_THE_PRODUCT = {
    "exported": "its tokens were given back to the product: Linekeeper renews and mints none for "
    "it. Ask Makini for one with what was given back, or hand a pair over (POST /api/tokens)",
    "borrowed": "the token that the product lent works no longer: lend a new one "
    "(POST /api/tokens). Linekeeper renews and mints none for it",
}
"""Why there is none where Linekeeper doesn't renew, by the connection's custody."""


async def _why_none(rt: Runtime, connection: Connection) -> str:
    if (why := _OF_THE_PRODUCT.get(connection.custody)) is not None:
        return why
    if not app_of(await rt.app(connection.app), connection).manages:
        return "it is in mode observe: Linekeeper holds no working token for it, and renews none"
    return "there is no token for it, and Makini issues none until the customer logs in"


def issued(connection_id: str, token: IssuedToken, *, by: str, now: datetime) -> dict[str, Any]:
    """What the audit says of a token that is given to the product."""
    expires_at = token.expires_at.isoformat() if token.expires_at else None
    return {
        "at": now,
        "by": by,
        "action": "token.handed_out",
        "subject": connection_id,
        "detail": {"expires_at": expires_at},
    }


async def _incident_of(rt: Runtime, connection_id: str) -> str | None:
    async with rt.store.read() as session:
        return await incident_of(session, connection_id)


async def _fresher(
    rt: Runtime, connection: Connection, token: Token | None, now: datetime
) -> Token | None:
    app = app_of(await rt.app(connection.app), connection)
    ref = app.ref_of(connection.makini_key, connection.makini_id)
    still_good = token is not None and (token.expires_at is None or token.expires_at > now)
    try:
        renewed = await Caller(rt, app, connection.id, ref, token).renewed()
    except MakiniError:
        if still_good:
            return token
        raise
    return renewed or (token if still_good else None)


async def _tried(rt: Runtime, connection: Connection, token: Token) -> Token | None:
    """A token that works, where the stored one is in doubt: Makini is asked with it.

    Raises `MakiniError` where Makini can't be asked, or not for another token.
    """
    app = app_of(await rt.app(connection.app), connection)
    ref = app.ref_of(connection.makini_key, connection.makini_id)
    caller = Caller(rt, app, connection.id, ref, token)
    if not caller.may_renew:
        return token
    try:
        async with asyncio.timeout(RENEWAL_SECONDS):
            await caller.call(lambda held: caller.makini.status(held.access, connection=ref))
    except TimeoutError:
        raise MakiniError(
            ErrorKind.timeout, "another token was not here in time", app=app.name, connection=ref
        ) from None
    except MakiniError as error:
        if error.kind is ErrorKind.unauthorized and error.connection is not None:
            return None
        raise
    return caller.token


def is_ending(expires_at: datetime | None, now: datetime) -> bool:
    """Whether a token is about to end: the product gets a fresher one."""
    return expires_at is not None and expires_at - now < MINT_MARGIN
