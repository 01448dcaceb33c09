"""uvicorn's HTTP protocol with an end to heads that never end.

uvicorn bounds neither the size of a request's head nor the time it takes (with httptools), so a
client could hold a connection, or fill the memory, without ever making a request.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536
HEAD_SECONDS = 10.0


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose head is too long (400) or takes too long."""

    head_seconds = HEAD_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._head_since: float | None = None
        self._guard: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # The override is uvicorn's own: its transport is always a `Transport`.
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._guard = self.loop.call_later(self.head_seconds, self._look)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        in_body = before is not None and before.more_body
        super().data_received(data)
        if self.cycle is not before or in_body:
            self._head_bytes = 0
            self._head_since = None
            return
        if self._head_since is None:
            self._head_since = self.loop.time()
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._guard is not None:
            self._guard.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        now = self.loop.time()
        if self._head_since is not None and now - self._head_since >= self.head_seconds:
            self.transport.close()
            return
        self._guard = self.loop.call_later(self.head_seconds, self._look)
