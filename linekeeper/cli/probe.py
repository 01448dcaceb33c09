"""Whether something on this machine answers over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

_SECONDS = 2.0


def answers(url: str) -> Callable[[], Awaitable[bool]]:
    """The question whether `url` (`http://…`) answers 200 now; never raises."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    request = f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"

    async def ask() -> bool:
        try:
            async with asyncio.timeout(_SECONDS):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(request.encode())
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError):
            return False

    return ask
