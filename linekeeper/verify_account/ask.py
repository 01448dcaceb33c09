"""Putting a question to Makini: within the budget, redacted at once, never repeated."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
import httpx
import orjson

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.exact import read
from linekeeper.makini import Budget, ErrorKind, MakiniError
from linekeeper.makini.budget import Paused
from linekeeper.makini.failures import from_exception, kind_of_status, retry_after, their_now
from linekeeper.makini.fields import mapping
from linekeeper.makini.http_client import MAX_BODY_BYTES, Received, exchange, open_client
from linekeeper.makini.wire import DEFAULT_PENALTY
from linekeeper.verify_account.recording import (
    ERROR_WORDS,
    EVENT_WORDS,
    MAKINIS_WORDS,
    Exchange,
    Redactor,
)

NO_TOKEN_AT_ALL = "linekeeper-verify-account-no-token"  # noqa: S105 - it is none, on purpose
_WHOLE_ROWS = 3
_KEPT_OF_THE_REST = {"key", "id", "status", "createdAt", "updatedAt", "created_at", "updated_at"}
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError)


_LOGIN_REFUSED = dict.fromkeys((400, 401, 403, 422), ErrorKind.unauthorized)
"""Answers by which a login is refused; any other says something about the address."""


class OutOfCalls(Exception):
    """All the calls that were allowed were made; what is recorded stays."""


class Unanswered(Exception):
    """What came says nothing about the account, so it is not recorded and asked for again."""

    def __init__(self, what: int | str) -> None:
        super().__init__(f"Makini answered {what}")


class NotAllowed(Unanswered):
    """The list of connections is not allowed to this client."""


class RecordedReply(NamedTuple):
    """An answer as it came, for this run only, and as it is recorded."""

    status: int
    body: Any
    exchange: Exchange


class Asker:
    """Asks in the name of the app or of one of its connections; use as `async with`."""

    def __init__(self, app: AppConfig, budget: Budget, redactor: Redactor, *, calls: int) -> None:
        self.app = app
        self.left = calls
        self._budget = budget
        self._redactor = redactor
        self._client = open_client(app.api_url)
        self._admin: str | None = None
        self._granted = 0
        """Calls that were granted and not made yet."""
        self._waits = True

    @asynccontextmanager
    async def at_once(self, calls: int) -> AsyncIterator[None]:
        """For the block, in which a lease may be held: `calls` are granted before it.

        A call that Makini answers with 429 is not made again in it. Raises `OutOfCalls` where not
        as many are left.
        """
        if self.left < calls:
            raise OutOfCalls
        for _ in range(calls):
            await self._take()
        self._granted, self._waits = calls, False
        try:
            yield
        finally:
            self._granted, self._waits = 0, True

    async def __aenter__(self) -> "Asker":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def admin_token(self, step: str) -> RecordedReply:
        """Fetch the app's own token, which changes nothing at Makini."""
        reply = await self._call(
            step,
            "app",
            "/link/token",
            method="POST",
            body={
                "grant_type": "client_credentials",
                "client_id": self.app.client_id,
                "client_secret": self.app.client_secret.get_secret_value(),
            },
        )
        fields = mapping(reply.body)
        inner = mapping(fields.get("data", fields))
        token = inner.get("access_token") or inner.get("token")
        if reply.status >= 400 or not isinstance(token, str):
            raise MakiniError(
                _LOGIN_REFUSED.get(reply.status, kind_of_status(reply.status)),
                "it gave no token for client_id and client_secret",
                app=self.app.name,
                status=reply.status,
            )
        self._admin = token
        return reply

    async def as_app(
        self,
        step: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        method: str = "GET",
        shown: str | None = None,
    ) -> RecordedReply:
        """Ask with the app's token; `shown` is the path as it is recorded."""
        if self._admin is None:
            await self.admin_token(step)
        return await self._call(
            step, "app", path, query, method=method, shown=shown, token=self._admin
        )

    async def as_nobody(self, step: str, path: str) -> RecordedReply:
        """Ask with a token that is none, to see the refusal."""
        return await self._call(step, "nobody", path, token=NO_TOKEN_AT_ALL)

    async def as_connection(
        self,
        step: str,
        who: str,
        token: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        shown: str | None = None,
    ) -> RecordedReply:
        """Ask with the token of a connection, always reading."""
        return await self._call(step, who, path, query, shown=shown, token=token)

    def webhook(self, step: str, event: object, note: str, at: datetime) -> Exchange:
        """A webhook that came, as it is recorded."""
        body = self._redactor.body(event, EVENT_WORDS)
        stamp = at.isoformat()
        return Exchange(step, "webhook", "WEBHOOK", "", {}, 0, {}, body, stamp, note)

    async def _call(
        self,
        step: str,
        who: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        method: str = "GET",
        shown: str | None = None,
        token: str | None = None,
        body: Mapping[str, str] | None = None,
    ) -> RecordedReply:
        answer = await self._send(method, path, query, token, body)
        if answer.status == 429:
            there = their_now(answer.headers, utcnow())
            wait = retry_after(answer.headers.get("retry-after"), there)
            until = utcnow() + (DEFAULT_PENALTY if wait is None else timedelta(seconds=wait))
            await self._budget.penalise(self.app.name, until)
            if self._waits:
                answer = await self._send(method, path, query, token, body)
        if answer.body is None:
            raise Unanswered(f"with more than {MAX_BODY_BYTES >> 20} MiB")
        value = read(answer.body)
        words = ERROR_WORDS
        if answer.status < 400:
            own = path.startswith(("/api/system/", "/api/integrations/", "/link/"))
            words = MAKINIS_WORDS if own else frozenset()
        recorded = Exchange(
            step=step,
            who=who,
            method=method,
            path=shown or path,
            query=self._query(query),
            status=answer.status,
            headers=self._redactor.headers(answer.headers),
            body=self._redactor.body(_slim(value), words),
            at=utcnow().isoformat(timespec="seconds"),
        )
        return RecordedReply(answer.status, value, recorded)

    def _query(self, query: Sequence[tuple[str, str]]) -> dict[str, str]:
        hidden: Collection[str] = {"filter[key]", "cursor"}
        return {
            name: self._redactor.pseudonym(value) if name in hidden else value
            for name, value in query
        }

    async def _send(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        token: str | None,
        body: Mapping[str, str] | None,
    ) -> Received:
        if self.left <= 0:
            raise OutOfCalls
        if self._granted:
            self._granted -= 1
        else:
            await self._take()
        self.left -= 1
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = f"{self.app.api_url}{path}{'?' if query else ''}{urlencode(query)}"
        timeout = self.app.timeout_seconds
        try:
            async with asyncio.timeout(timeout):
                sent = orjson.dumps(body) if body is not None else b""
                return await exchange(self._client, method, httpx.URL(url), headers, sent)
        except _FAILURES as error:
            raise from_exception(
                error, app=self.app.name, connection=None, timeout=timeout
            ) from error

    async def _take(self) -> None:
        try:
            await self._budget.take(self.app.name, self.app.calls_a_minute)
        except Paused as pause:
            raise MakiniError(
                ErrorKind.rate_limited,
                "it asked for a pause that is not over",
                app=self.app.name,
                retry_after=pause.seconds,
            ) from pause


def _slim(value: object) -> object:
    """A listing with three rows whole; of the others only what pages are compared by."""
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        return value
    rows = [
        {name: row[name] for name in row.keys() & _KEPT_OF_THE_REST}
        if isinstance(row, dict) and position >= _WHOLE_ROWS
        else row
        for position, row in enumerate(value["data"])
    ]
    return {**value, "data": rows}
