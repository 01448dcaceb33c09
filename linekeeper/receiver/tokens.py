"""`GET /api/connections/{connection}/token` where nothing but the token is to be given.

A product asks for a token before each of its calls, so this is a hot path, and raw ASGI as
`webhooks` is. Whatever is not plain (`access.issue_together`) goes the way of every other route.
"""

import asyncio
import re
from typing import Any

import orjson

from linekeeper.access.issue_together import TokenIssuer
from linekeeper.receiver import protocol
from linekeeper.receiver.protocol import Scope, Send

_ROUTE = re.compile(rb"/api/connections/([A-Za-z0-9_.~-]{1,200})/token")
_MAX_KEY = 200
_WITH_BODY = (b"content-length", b"transfer-encoding", b"content-encoding", b"expect")
_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


class Tokens:
    """The ASGI app that is asked first; says whether it has answered."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self._issuer = issuer

    async def __call__(self, scope: Scope, send: Send) -> bool:
        """Answer the request if it is for a token, and a plain one."""
        route = _ROUTE.fullmatch(scope["raw_path"])
        if route is None or scope["method"] != "GET":
            return False
        key = _key(scope["headers"])
        if key is None:
            return False
        try:
            given = await self._issuer.issue(key, route[1].decode())
        except TimeoutError:
            await protocol.STORAGE(send)
            return True
        except asyncio.CancelledError:
            await protocol.STOPPING(send)  # the server ends; the product asks again
            return True
        if given is None:
            return False
        expires_at = given.expires_at.isoformat() if given.expires_at is not None else None
        content = orjson.dumps({"access_token": given.access_token, "expires_at": expires_at})
        length = (b"content-length", b"%d" % len(content))
        start = {"type": "http.response.start", "status": 200, "headers": [*_HEADERS, length]}
        await send(start)
        await send({"type": "http.response.body", "body": content})
        return True


def _key(headers: Any) -> str | None:
    """The key that came, of a request without a body."""
    key = None
    for name, value in headers:
        if name in _WITH_BODY:
            return None
        if name == b"authorization":
            scheme, _, text = value.partition(b" ")
            if key is not None or scheme.lower() != b"bearer":
                return None
            key = text.strip().decode("latin-1")
    return key if key and len(key) <= _MAX_KEY else None
