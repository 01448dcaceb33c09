"""Renewing a connection's token without the customer: refresh, else mint.

One renewal per connection at a time, anywhere: a refresh kills the pair it was made with (MAKINI
"Link"). The new pair is durable before anything else happens.
"""

import asyncio

from linekeeper.access.tokens import Token, load_tokens, save_tokens
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.makini import ErrorKind, MakiniClient, MakiniError, TokenPair
from linekeeper.store import Store, new_id
from linekeeper.store.leases import holding

_FINAL = frozenset(
    {ErrorKind.unauthorized, ErrorKind.forbidden, ErrorKind.not_found, ErrorKind.rejected}
)
"""Refusals that trying again does not mend."""

LEASE_SECONDS = 60


async def renew(
    store: Store,
    makini: MakiniClient,
    app: AppConfig,
    *,
    connection_id: str,
    makini_ref: str,
    refused: Token | None,
    owner: str,
) -> Token | None:
    """Return a token newer than `refused`, or None if nothing of ours gives one.

    In mode `observe` nothing is renewed. `refused` is None for a connection without a token.
    `makini_ref` is the listed field `app.connection_field` names. Raises `MakiniError` when Makini
    could not be asked (time-out, 5xx, the app's own credentials refused): then nothing is known of
    the login.
    """
    if not app.manages:
        return None
    # An owner of its own for each call: a lease is open to its owner, and two callers in one
    # process must not renew at once either.
    me = f"{owner}:{new_id()}"
    async with holding(
        store, f"token:{connection_id}", me, seconds=LEASE_SECONDS, wait=True
    ) as held:
        assert held is not None  # with wait, it is held
        current = await _stored(store, connection_id)
        if current is not None and (refused is None or current.access != refused.access):
            return current  # another process renewed it meanwhile
        pair = await _new_pair(makini, makini_ref, current)
        if pair is None:
            return None
        # Not to be torn apart: the old pair is dead already.
        await asyncio.shield(_store(store, connection_id, pair))
        return Token(pair.access_token, pair.refresh_token, pair.expires_at, pair.minted)


async def _stored(store: Store, connection_id: str) -> Token | None:
    async with store.read() as session:
        return (await load_tokens(store, session, [connection_id])).get(connection_id)


async def _store(store: Store, connection_id: str, pair: TokenPair) -> None:
    async with store.write() as session:
        await save_tokens(store, session, {connection_id: pair}, now=utcnow())


async def _new_pair(
    makini: MakiniClient, makini_ref: str, current: Token | None
) -> TokenPair | None:
    if current is not None and current.refresh is not None:
        try:
            return await makini.refresh(current.refresh, connection=makini_ref)
        except MakiniError as error:
            if not _is_final(error):
                raise
    try:
        return await makini.mint_token(makini_ref)
    except MakiniError as error:
        if not _is_final(error):
            raise
        return None


def _is_final(error: MakiniError) -> bool:
    """Whether Makini refused this connection; an error of the app says nothing about it."""
    return error.kind in _FINAL and error.connection is not None
