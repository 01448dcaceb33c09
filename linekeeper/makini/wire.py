"""One exchange with one Makini over HTTP: bounded in time, size and number; no retries."""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

import linekeeper
from linekeeper.clock import monotonic
from linekeeper.config import AppConfig
from linekeeper.makini.budget import Budget, Paused, closed_until, stated_limit
from linekeeper.makini.errors import ErrorKind, MakiniError
from linekeeper.makini.failures import from_answer, from_exception, stated_failure
from linekeeper.makini.fields import clean
from linekeeper.makini.models import is_token

MAX_BODY_BYTES = 8 * 1024 * 1024
TOO_LARGE = "ANSWER_TOO_LARGE"
OTHER_SHAPE = "UNEXPECTED_ANSWER"
"""An answer that is JSON, and not what was asked for."""
"""Our code for an answer over `MAX_BODY_BYTES`: ask for fewer records a page."""
PAUSED = "PAUSED"
"""Our code for a call not made: Makini asked for a pause longer than is waited for."""
CONNECTION_PAUSED = "CONNECTION_PAUSED"
"""The same, where Makini asked for it in the answer to a call on this one connection."""
NEW_LOGIN = "(new login)"
"""Stands for the connection of a login of which nobody knows yet whose it is."""
MAX_IN_FLIGHT = 100
KEEP_IDLE_SECONDS = 4.0
"""Shorter than what common servers keep (5 s), so that none closes under a request."""
DEFAULT_PENALTY = timedelta(seconds=30)
"""How long nobody calls after a 429 that doesn't say; limits are per minute (MAKINI)."""
_USER_AGENT = f"linekeeper/{linekeeper.__version__}".encode()
BEFORE_SENDING: ContextVar[Callable[[], None] | None] = ContextVar("before_sending", default=None)
"""Called right before a request of this context leaves: until then, also while it waits for the
budget, nothing has happened at the peer."""


class MakiniAnswer(NamedTuple):
    """A 2xx answer, read to its end. `latency` in seconds, from sending to the last byte."""

    status: int
    body: bytes
    request_id: str | None
    latency: float


def open_client(base_url: str) -> httpx.AsyncClient:
    """Return an httpx client that follows no redirect, on the transport of `open_transport`."""
    return _Direct(open_transport(base_url))


def bare_request(
    method: str, url: httpx.URL, headers: Sequence[tuple[bytes, bytes]], body: bytes = b""
) -> httpx.Request:
    """The request as it is given, for `open_client`; its headers are ASCII or Latin-1.

    `httpx.AsyncClient.build_request` merges, searches and parses, a fifth of the cost of a call:
    here the body is read already, and nothing is added but who asks.
    """
    named = any(name.lower() == b"user-agent" for name, _ in headers)
    given = headers if named else [*headers, (b"User-Agent", _USER_AGENT)]
    request = httpx.Request(method, url, headers=list(given), stream=httpx.ByteStream(body))
    request.read()
    return request


def open_transport(base_url: str) -> httpx.AsyncBaseTransport:
    """Return a transport on aiohttp that keeps no cookies.

    A cookie set for one connection would go out with the next one's token. Environment proxies
    and `SSL_CERT_FILE` are honoured, as httpx does by itself.
    """
    tls = httpx.create_ssl_context()

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MAX_IN_FLIGHT, keepalive_timeout=KEEP_IDLE_SECONDS, ssl=tls
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    return AiohttpTransport(verify=tls, client=session, proxy=_proxy(base_url))


class _Direct(httpx.AsyncClient):
    """An httpx client whose `send` goes straight to the transport.

    `httpx.AsyncClient.send` looks for redirects, authentication, cookies and hooks, a fifth of the
    cost of a call; `Wire` wants none of them and times the whole exchange itself.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        super().__init__(transport=transport, trust_env=False, timeout=None)
        self._direct = transport

    async def send(
        self, request: httpx.Request, *, stream: bool = False, **_options: object
    ) -> httpx.Response:
        """The answer to `request` as the transport gives it; with `stream`, its body unread."""
        response = await self._direct.handle_async_request(request)
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response


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


def _proxy(base_url: str) -> httpx.Proxy | None:
    parts = urlsplit(base_url)
    known = getproxies()
    address = known.get(parts.scheme) or known.get("all")
    if not address or proxy_bypass(parts.hostname or ""):
        return None
    return httpx.Proxy(address)


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
        self._host = httpx.URL(app.api_url).netloc

    async def exchange(
        self,
        method: str,
        url: httpx.URL,
        *,
        token: str | None = None,
        body: bytes | None = None,
        content_type: bytes | None = None,
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
        headers = [
            (b"Host", self._host),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"gzip"),
        ]
        if token is not None:
            headers.append((b"Authorization", b"Bearer " + token.encode("ascii")))
        if content_type is not None:
            headers.append((b"Content-Type", content_type))
        request = bare_request(method, url, headers, body or b"")
        request.headers.encoding = "ascii"  # httpx needn't search for it
        if self._budget is not None:
            await self._take(self._budget, connection, paused_with)
        async with self._turns:
            if (sending := BEFORE_SENDING.get()) is not None:
                sending()
            started = monotonic()
            response, content = await self._send(request, connection)
            latency = monotonic() - started
        await self._obey(response.headers, paused_with)
        status = response.status_code
        if 200 <= status < 300:
            request_id = _request_id(response.headers)
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
            response.headers,
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

    async def _obey(self, headers: httpx.Headers, paused_with: str | None) -> None:
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

    async def _take(self, budget: Budget, connection: str | None, paused_with: str | None) -> None:
        try:
            await budget.take(self.app.name, self.app.calls_a_minute, connection=paused_with)
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
        self, request: httpx.Request, connection: str | None
    ) -> tuple[httpx.Response, bytes | None]:
        timeout = self.app.timeout_seconds
        try:
            async with asyncio.timeout(timeout):
                response = await self._client.send(
                    request, stream=True, auth=None, follow_redirects=False
                )
                return response, await _read(response)
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


async def _read(response: httpx.Response) -> bytes | None:
    """Return the body, or None when it is over the cap; the connection is given back or closed."""
    chunks: list[bytes] = []
    size = 0
    is_encoded = any(name.lower() == b"content-encoding" for name, _ in response.headers.raw)
    try:
        # What isn't encoded needs no decoder: two layers less for each of many small answers.
        async for chunk in response.aiter_bytes() if is_encoded else _stream(response):
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                return None
            chunks.append(chunk)
    finally:
        await response.aclose()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _stream(response: httpx.Response) -> httpx.AsyncByteStream:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return response.stream


def _request_id(headers: httpx.Headers) -> str | None:
    for name, value in headers.raw:
        if name.lower() == b"x-request-id":
            return clean(value.decode("latin-1"), 100) or None
    return None
