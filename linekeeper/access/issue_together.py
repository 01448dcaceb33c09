"""Access tokens for the product, all that are asked for at once in one transaction.

What is plain is answered here: a key that may, one connection, a token that works and doesn't end
soon; each with its row in the audit, committed before the token is given. Whatever else there is
(a token to renew, a login that is lost, a key nobody knows) is for `issue`, one by one.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self

from sqlalchemy import bindparam, insert, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.access.issue import IssuedToken, is_ending, issued
from linekeeper.access.keys import KeyHolder, digest_of
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Health
from linekeeper.store import KeyProblem, Store, is_id, new_id
from linekeeper.store.tables import ApiKey, Audit, Connection, Credential
from linekeeper.store.types import table_of

SCOPE = "tokens:read"
MOST_WAITING = 256
ISSUE_SECONDS = 10.0
"""How long anybody waits; whoever asks then comes again."""
SIDE_BY_SIDE = 2
"""Transactions under way at once on PostgreSQL: while one waits for it, the next is computed."""

_KEY = table_of(ApiKey)
_CONNECTION = table_of(Connection)
_CREDENTIAL = table_of(Credential)
_AUDIT = insert(table_of(Audit))
_KEYS = select(_KEY.c.digest, _KEY.c.id, _KEY.c.name, _KEY.c.scopes, _KEY.c.last_used_at).where(
    _KEY.c.digest.in_(bindparam("digests", expanding=True)), _KEY.c.revoked_at.is_(None)
)
_CONNECTIONS = (
    select(
        _CONNECTION.c.id,
        _CONNECTION.c.makini_key,
        _CONNECTION.c.setup,
        _CONNECTION.c.health,
        _CREDENTIAL.c.access_token,
        _CREDENTIAL.c.expires_at,
        _CREDENTIAL.c.renewing_since,
    )
    .join(_CREDENTIAL, _CREDENTIAL.c.connection_id == _CONNECTION.c.id, isouter=True)
    .where(
        or_(
            _CONNECTION.c.makini_key.in_(bindparam("wanted", expanding=True)),
            _CONNECTION.c.id.in_(bindparam("ids", expanding=True)),
        )
    )
)
_log = logging.getLogger(__name__)


class _TokenRequest(NamedTuple):
    digest: str
    wanted: str
    answer: "asyncio.Future[IssuedToken | None]"


class TokenHolder(NamedTuple):
    """A connection as far as it matters here, with its token as it is stored."""

    id: str
    makini_key: str
    setup: str
    health: str
    sealed: str | None
    expires_at: datetime | None
    renewing_since: datetime | None

    def __repr__(self) -> str:
        return f"TokenHolder(id={self.id!r})"


class TokenIssuer:
    """Issues what is plain; use as `async with TokenIssuer(store) as issuer`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[_TokenRequest] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._run(), name="access tokens")
            for _ in range(1 if self._store.is_sqlite else SIDE_BY_SIDE)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _leave(self._waiting)

    async def issue(self, key: str, wanted: str) -> IssuedToken | None:
        """The token of the connection that is `wanted`, audited; None: `issue` knows what to do.

        Raises `TimeoutError` where the database doesn't answer.
        """
        if not self._tasks or len(self._waiting) >= MOST_WAITING:
            return None
        answer: asyncio.Future[IssuedToken | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_TokenRequest(digest_of(key), wanted, answer))
        self._wake.set()
        async with asyncio.timeout(ISSUE_SECONDS):
            return await answer

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await self._gather()
            asked, self._waiting = self._waiting, []
            self._wake.clear()
            if not asked:  # another took them
                continue
            try:
                await self._answer(asked)
            except (SQLAlchemyError, OSError, KeyProblem) as error:
                _log.warning("access tokens: %s", type(error).__name__)
            finally:
                _leave(asked)

    async def _gather(self) -> None:
        """Let requests that have come already be read first: else the first goes alone."""
        count = 0
        while count < len(self._waiting):
            count = len(self._waiting)
            await asyncio.sleep(0)

    async def _answer(self, asked: Sequence[_TokenRequest]) -> None:
        now = utcnow()
        async with self._store.write() as session:
            given = await self._given(session, asked, now)
            if given:
                rows = [
                    {"id": new_id(), **issued(connection_id, token, by=by, now=now)}
                    for _, token, connection_id, by in given
                ]
                await (await session.connection()).execute(_AUDIT, rows)
        for each, token, _, _ in given:
            if not each.answer.done():
                each.answer.set_result(token)

    async def _given(
        self, session: AsyncSession, asked: Sequence[_TokenRequest], now: datetime
    ) -> list[tuple[_TokenRequest, IssuedToken, str, str]]:
        """Whoever gets a token: which, of which connection, and how the audit names them."""
        connection = await session.connection()
        digests = list({each.digest for each in asked})
        holders = {
            digest: KeyHolder(id_, name, frozenset(scopes), last_used_at)
            for digest, id_, name, scopes, last_used_at in await connection.execute(
                _KEYS, {"digests": digests}
            )
        }
        may = [each for each in asked if _may(holders.get(each.digest), now)]
        if not may:
            return []
        wanted = list({each.wanted for each in may})
        rows = await connection.execute(
            _CONNECTIONS, {"wanted": wanted, "ids": [name for name in wanted if is_id(name)]}
        )
        connections = plain_connections(wanted, [TokenHolder(*row) for row in rows])
        tokens = {
            connection.id: self._token(connection, now) for connection in connections.values()
        }
        given = []
        for each in may:
            wanted_connection = connections.get(each.wanted)
            token = tokens[wanted_connection.id] if wanted_connection is not None else None
            if wanted_connection is not None and token is not None:
                given.append((each, token, wanted_connection.id, holders[each.digest].by))
        return given

    def _token(self, connection: TokenHolder, now: datetime) -> IssuedToken | None:
        """Its token, if it can be read, doesn't end soon and isn't in doubt."""
        if connection.sealed is None or is_ending(connection.expires_at, now):
            return None
        if connection.renewing_since is not None:
            return None
        try:
            return IssuedToken(self._store.cipher.decrypt(connection.sealed), connection.expires_at)
        except KeyProblem:
            return None


def plain_connections(
    wanted: Sequence[str], rows: Sequence[TokenHolder]
) -> Mapping[str, TokenHolder]:
    """The one connection that is meant by each id or key, where its login is good. Pure."""
    by_id = {row.id: row for row in rows}
    by_key: dict[str, list[TokenHolder]] = {}
    for row in rows:
        if row.setup != "disconnected":
            by_key.setdefault(row.makini_key, []).append(row)
    plain: dict[str, TokenHolder] = {}
    for each in wanted:
        candidates = [by_id[each]] if each in by_id else by_key.get(each, [])
        if len(candidates) == 1 and _is_well(candidates[0]):
            plain[each] = candidates[0]
    return plain


def _is_well(connection: TokenHolder) -> bool:
    lost = Health.reauthorization_required.value
    return connection.setup != "disconnected" and connection.health != lost


def _may(holder: KeyHolder | None, now: datetime) -> bool:
    return holder is not None and SCOPE in holder.scopes and not holder.is_use_news(now)


def _leave(asked: Sequence[Any]) -> None:
    """Whoever has no answer is answered one by one."""
    for each in asked:
        if not each.answer.done():
            each.answer.set_result(None)
