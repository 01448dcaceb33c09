"""Whose a token is that somebody hands over: asked of Makini with the token, which renews nothing.

A token of another connection would fill this one's index with somebody else's records, and hand
them to the product under this one's name.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.access.likeness import KnownConnection
from linekeeper.access.match import matched_by_status
from linekeeper.access.owner import known_connections, remember_id
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Observation
from linekeeper.health.probe import understand
from linekeeper.makini import ConnectionStatus, ErrorKind, MakiniError, TokenPair
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.store.modes import app_of
from linekeeper.store.tables import Connection
from linekeeper.tokens.stored import Token, load_tokens

ASKED_FOR_SECONDS = 40.0
"""How long one call asks; an answer of the receiver may take a minute."""
AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class TokenCheck:
    """`refused` says why the token isn't taken; None where it is this connection's.

    `makini_id` is what the status calls the connection, where our books don't know it yet.
    """

    refused: str | None = None
    makini_id: str | None = None
    seen: Observation | None = None
    """What the status says of the connection: it was asked with this token."""


@dataclass(frozen=True, slots=True)
class TokenClaim:
    """Somebody says that `pair` is `connection`'s; a whole pair is to be renewed here."""

    connection: Connection
    pair: TokenPair = field(repr=False)

    @property
    def is_pair(self) -> bool:
        """Whether it is to be renewed here from now on."""
        return self.pair.refresh_token is not None

    def is_checked(self, held: Token | None) -> bool:
        """Whether it is the token that is `held` already, which was verified when it came."""
        custody = "owned" if self.is_pair else "borrowed"
        same = held is not None and held.access == self.pair.access_token
        return same and self.connection.custody == custody


async def check_tokens(
    rt: Runtime, claims: Mapping[int, TokenClaim], *, within: float | None
) -> dict[int, TokenCheck]:
    """Whose each of the tokens is, a few at a time; what is not answered `within` is refused."""
    async with rt.store.read() as session:
        apps = {claim.connection.app for claim in claims.values()}
        known = {app: await known_connections(session, app) for app in sorted(apps)}
        ids = [claim.connection.id for claim in claims.values()]
        held = await load_tokens(rt.store, session, ids)
    checks = {
        position: TokenCheck()
        for position, claim in claims.items()
        if claim.is_checked(held.get(claim.connection.id))
    }
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(position: int, claim: TokenClaim) -> None:
        async with gate:
            checks[position] = await _check(rt, claim, known[claim.connection.app])

    # No time-out around a group: one that fails lets `CancelledError` out on Python 3.11.
    asked = [
        asyncio.create_task(ask(position, claim))
        for position, claim in claims.items()
        if position not in checks
    ]
    try:
        if asked:
            await asyncio.wait(asked, timeout=within)
    finally:
        for task in asked:
            task.cancel()
        ended = await asyncio.gather(*asked, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error
    late = TokenCheck(
        f"Makini did not say within {within} s which connection the token belongs to: send it again"
    )
    return dict.fromkeys(claims, late) | checks


async def note_ids(
    session: AsyncSession, claims: Mapping[int, TokenClaim], checks: Mapping[int, TokenCheck]
) -> None:
    """Remember what the status calls those that were verified by it."""
    for position, check in checks.items():
        if check.makini_id is not None:
            await remember_id(session, claims[position].connection.id, check.makini_id)


async def _check(rt: Runtime, claim: TokenClaim, known: Sequence[KnownConnection]) -> TokenCheck:
    try:
        app = await rt.app(claim.connection.app)
        manages = app_of(app, claim.connection).manages
        if claim.is_pair and not manages:
            return TokenCheck(
                "it is in mode observe, where nothing is renewed: lend the access token only"
            )
        ref = app.ref_of(claim.connection.makini_key, claim.connection.makini_id)
        status = await rt.makini(app).status(claim.pair.access_token, connection=ref)
    except UnknownApp as error:
        return TokenCheck(str(error))
    except MakiniError as error:
        if error.kind is ErrorKind.unauthorized:
            return TokenCheck(f"Makini refuses this token: {error.brief}")
        return TokenCheck(
            "Makini does not say which connection the token belongs to, send it again: "
            f"{error.brief}"
        )
    check = _judged(claim.connection.id, status, known)
    if check.refused is not None:
        return check
    return replace(check, seen=understand(status, utcnow(), unread=not manages))


def _judged(
    connection_id: str, status: ConnectionStatus, known: Sequence[KnownConnection]
) -> TokenCheck:
    """Whether the status is that of the connection; its list may call it something else. Pure."""
    wanted = next((each for each in known if each.id == connection_id), None)
    if not status.id or wanted is None or status.id in (wanted.makini_key, wanted.makini_id):
        return TokenCheck()
    is_id_known = wanted.makini_id not in (None, wanted.makini_key)
    if is_id_known or matched_by_status(wanted, status, known) is not wanted:
        return TokenCheck("the token belongs to another connection")
    return TokenCheck(makini_id=status.id)
