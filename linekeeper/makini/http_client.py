"""The HTTP client that Makini and the product are called with: httpx on aiohttp's transport."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream

import linekeeper

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_IN_FLIGHT = 100
KEEP_IDLE_SECONDS = 4.0
"""Shorter than what common servers keep (5 s), so that none closes under a request."""
_USER_AGENT = f"linekeeper/{linekeeper.__version__}"
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


class Received(NamedTuple):
    """An answer, read to its end; `body` is None where it is over `MAX_BODY_BYTES`."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


async def exchange(
    client: httpx.AsyncClient,
    method: str,
    url: httpx.URL,
    headers: Mapping[str, str],
    body: bytes = b"",
) -> Received:
    """Ask once; of the answer no more is read than `MAX_BODY_BYTES`. No redirect is followed.

    With a client of `open_client`, aiohttp is asked without httpx's request and answer, which
    cost half as much as the call itself. Raises what httpx or aiohttp raise.
    """
    if isinstance(client, _Direct) and (session := client.session()) is not None:
        answer = await session.request(
            method,
            str(url),
            headers={"User-Agent": _USER_AGENT, **headers},
            data=body or None,
            allow_redirects=False,
            auto_decompress=False,
            timeout=_NO_TIMEOUT,
        )
        if "Content-Encoding" not in answer.headers:
            return Received(answer.status, answer.headers, await _read_plain(answer))
        response = httpx.Response(
            answer.status, headers=answer.raw_headers, stream=AiohttpResponseStream(answer)
        )
    else:
        raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        request = bare_request(method, url, raw, body)
        response = await client.send(request, stream=True, auth=None, follow_redirects=False)
    return Received(response.status_code, response.headers, await _read(response))


async def _read_plain(answer: aiohttp.ClientResponse) -> bytes | None:
    """The body as it came; the connection is given back, or closed where it was not read whole."""
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := await answer.content.readany():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                return None
            chunks.append(chunk)
    finally:
        answer.release()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _read(response: httpx.Response) -> bytes | None:
    """The body, unpacked; the connection is given back, or closed where it was not read whole."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                return None
            chunks.append(chunk)
    finally:
        await response.aclose()
    return b"".join(chunks)


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
    given = headers if named else [*headers, (b"User-Agent", _USER_AGENT.encode())]
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

    def session(self) -> aiohttp.ClientSession | None:
        """The session of its transport, made with the first call; None where a proxy is used."""
        transport = self._direct
        if not isinstance(transport, AiohttpTransport) or transport.proxy is not None:
            return None
        if not isinstance(transport.client, aiohttp.ClientSession):
            transport.client = transport.get_client()
        return transport.client

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


def _proxy(base_url: str) -> httpx.Proxy | None:
    parts = urlsplit(base_url)
    known = getproxies()
    address = known.get(parts.scheme) or known.get("all")
    if not address or proxy_bypass(parts.hostname or ""):
        return None
    return httpx.Proxy(address)
