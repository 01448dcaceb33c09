"""One exchange with one Makini over HTTP: bounded in time, size and number; no retries."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import NamedTuple

import aiohttp
import httpx

from linekeeper.clock import monotonic
from linekeeper.config import AppConfig
from linekeeper.makini.at_once import IN_HAND, NoCallLeft, ReservedCall
from linekeeper.makini.budget import Budget, NothingLeft, Paused, closed_until, stated_limit
from linekeeper.makini.errors import ErrorKind, MakiniError
from linekeeper.makini.failures import from_answer, from_exception, stated_failure
from linekeeper.makini.fields import clean
from linekeeper.makini.http_client import MAX_BODY_BYTES, MAX_IN_FLIGHT, Received, exchange
from linekeeper.makini.models import WrongShape, is_token

TOO_LARGE = "ANSWER_TOO_LARGE"
"""Our code for an answer over `MAX_BODY_BYTES`: ask for fewer records a page."""
OTHER_SHAPE = "UNEXPECTED_ANSWER"
"""Our code for an answer that is JSON, and not what was asked for."""
PAUSED = "PAUSED"
"""Our code for a call not made: Makini asked for a pause longer than is waited for."""
CONNECTION_PAUSED = "CONNECTION_PAUSED"
"""The same, where Makini asked for it in the answer to a call on this one connection."""
NEW_LOGIN = "(new login)"
"""Stands for the connection of a login of which nobody knows yet whose it is."""
DEFAULT_PENALTY = timedelta(seconds=30)
"""How long nobody calls after a 429 that doesn't say; limits are per minute (MAKINI)."""
LATE = 1.0
"""A timer that is late by more seconds shows that this process stood still, or was too busy."""
BEFORE_SENDING: ContextVar[Callable[[], None] | None] = ContextVar("before_sending", default=None)
"""Called right before a request of this context leaves: until then, also while it waits for the
budget, nothing has happened at the peer."""


class MakiniAnswer(NamedTuple):
    """A 2xx answer, read to its end. `latency` in seconds, from sending to the last byte."""

    status: int
    body: bytes
    request_id: str | None
    latency: float


def refuse_unusable_address(app: AppConfig) -> None:
    """Raise MakiniError unless `app.api_url` is scheme, host, perhaps port and path, only."""
    try:
        url = httpx.URL(app.api_url)
        usable = bool(url.host) and not (url.userinfo or url.query or url.fragment)
    except httpx.InvalidURL:
        usable = False
    if not usable:
        raise MakiniError(
            ErrorKind.rejected,
            "api_url is not an address such as https://api.makini.io",
            app=app.name,
        )


def refuse_unusable_token(app: AppConfig, token: str, connection: str) -> None:
    """Raise MakiniError (`unauthorized`) if `token` can't be sent in a header."""
    if not is_token(token):
        raise MakiniError(
            ErrorKind.unauthorized,
            "the stored token has characters that no token has",
            app=app.name,
            connection=connection,
        )


@contextmanager
def reading(answer: MakiniAnswer, *, app: str, connection: str | None) -> Iterator[None]:
    """Turn an answer of another shape, for the block, into an error like Makini's others."""
    try:
        yield
    except WrongShape as error:
        raise MakiniError(
            ErrorKind.malformed,
            str(error),
            app=app,
            connection=connection,
            status=answer.status,
            code=OTHER_SHAPE,
            request_id=answer.request_id,
            fault=error.fault,
        ) from error


class Wire:
    """Sends requests of one app. At most `MAX_IN_FLIGHT` at once; waiting for a turn or for the
    budget isn't held against the peer's time."""

    def __init__(
        self,
        app: AppConfig,
        client: httpx.AsyncClient,
        budget: Budget | None,
        clock: Callable[[], datetime],
    ) -> None:
        self.app = app
        self._client = client
        self._budget = budget if app.per_minute else None
        self._clock = clock
        self._turns = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._headers = {
            "Host": httpx.URL(app.api_url).netloc.decode("ascii"),
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        }

    async def exchange(
        self,
        method: str,
        url: httpx.URL,
        *,
        token: str | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        connection: str | None = None,
        as_admin: bool = False,
        secrets: Sequence[str] = (),
    ) -> MakiniAnswer:
        """Return the 2xx answer. Raises MakiniError for every other outcome, errors in it too.

        `secrets` never show in the error, should the peer echo them. `as_admin`: it is a call of
        the app, whichever connection it is about. A 429 pauses until Retry-After what was refused:
        the app, or the connection. Where that is far off, a call is `rate_limited` with the code
        `PAUSED` or `CONNECTION_PAUSED` at once.
        """
        paused_with = None if as_admin else connection
        headers = self._headers.copy()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if content_type is not None:
            headers["Content-Type"] = content_type
        if self._budget is not None:
            await self._take(self._budget, connection, paused_with)
        async with self._turns:
            if (sending := BEFORE_SENDING.get()) is not None:
                sending()
            started = monotonic()
            status, said, content = await self._send(method, url, headers, body or b"", connection)
            latency = monotonic() - started
        await self._obey(said, paused_with)
        if 200 <= status < 300:
            request_id = _request_id(said)
            if content is None:
                raise MakiniError(
                    ErrorKind.malformed,
                    f"it is larger than {MAX_BODY_BYTES >> 20} MiB",
                    app=self.app.name,
                    connection=connection,
                    code=TOO_LARGE,
                    status=status,
                    request_id=request_id,
                )
            stated = stated_failure(status, content)
            if stated is None:
                return MakiniAnswer(status, content, request_id, latency)
            status = stated
        now = self._clock()
        error = from_answer(
            status,
            said,
            content or b"",
            app=self.app.name,
            connection=connection,
            now=now,
            secrets=(*secrets, token) if token else secrets,
        )
        if error.kind is ErrorKind.rate_limited and self._budget is not None:
            wait = error.retry_after
            until = now + (DEFAULT_PENALTY if wait is None else timedelta(seconds=wait))
            if paused_with != NEW_LOGIN:
                await self._budget.penalise(self.app.name, until, connection=paused_with)
        raise error

    async def _obey(self, headers: Mapping[str, str], paused_with: str | None) -> None:
        """Note what the answer says of the limit; where nothing is left of it, wait for its end."""
        if self._budget is None or not (
            "x-ratelimit-remaining" in headers or "ratelimit-remaining" in headers
        ):
            return
        now = self._clock()
        stated = stated_limit(headers, now)
        if stated is None:
            return
        await self._budget.note_limit(self.app.name, stated)
        until = closed_until(stated, now)
        if until is not None and paused_with != NEW_LOGIN:
            await self._budget.penalise(
                self.app.name, until, connection=paused_with, is_refused=False
            )

    async def reserve(self, connection: str | None, *, as_admin: bool = False) -> ReservedCall:
        """Wait until a call may be made, and keep it for who takes a lease then."""
        if self._budget is not None:
            await self._take(self._budget, connection, None if as_admin else connection)
        return ReservedCall()

    async def _take(self, budget: Budget, connection: str | None, paused_with: str | None) -> None:
        reserved = IN_HAND.get()
        if reserved is not None and reserved.use():
            return
        app = self.app
        try:
            await budget.take(
                app.name, app.calls_a_minute, connection=paused_with, waits=reserved is None
            )
        except NothingLeft:
            raise NoCallLeft(app.name, connection) from None
        except Paused as pause:
            whose = "" if pause.connection is None else " for this connection"
            raise MakiniError(
                ErrorKind.rate_limited,
                f"it asked for a pause{whose} that is not over",
                app=self.app.name,
                connection=connection,
                code=PAUSED if pause.connection is None else CONNECTION_PAUSED,
                retry_after=pause.seconds,
            ) from pause

    async def _send(
        self,
        method: str,
        url: httpx.URL,
        headers: dict[str, str],
        body: bytes,
        connection: str | None,
    ) -> Received:
        timeout = self.app.timeout_seconds
        try:
            async with _time_limit(timeout):
                return await exchange(self._client, method, url, headers, body)
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            aiohttp.ClientError,
            OSError,
            ValueError,
        ) as error:
            raise from_exception(
                error, app=self.app.name, connection=connection, timeout=timeout
            ) from error


@asynccontextmanager
async def _time_limit(seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout`, which starts once more where it is over `LATE` seconds ago already.

    Then this process stood still, not the peer: the answer may lie there unread. That of a refresh
    is the only one that says what the new pair is.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds

    def end() -> None:
        stood_still = loop.time() - due > LATE
        limit.reschedule(loop.time() + (seconds if stood_still else 0.0))

    async with asyncio.timeout(None) as limit:
        timer = loop.call_at(due, end)
        try:
            yield
        finally:
            timer.cancel()


def _request_id(headers: Mapping[str, str]) -> str | None:
    return clean(headers.get("x-request-id", ""), 100) or None
