"""uvicorn's HTTP protocol with bounds: for heads, trailers, pipelines, connections, slow readers.
And the answers that are given past any framework, each made once.

uvicorn (with httptools) bounds neither the size of a request's head and of what follows its body,
nor the time they take, nor how many requests wait in a pipeline. So a client could hold a
connection, or fill the memory, without ever making a request. The body's bounds are the app's
(`webhooks.Bodies`).

It also offers an app shorter ways than ASGI's: to a body that is here whole (`take_body`), and to
an answer in one write to the socket, where uvicorn makes two (`answer_at_once`, `stored`).
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, TypeAlias, cast, get_args

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from linekeeper.inbox.verify import Cause

Message: TypeAlias = dict[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[Message]]

MAX_HEAD_BYTES = 65_536
"""The limit for a head; also for trailers, or of what frames chunks, without a byte of body in
between."""
HEAD_SECONDS = 10.0
MAX_PIPELINED = 64
SCOPE_KEY = "linekeeper.protocol"
"""The key under which a request's scope holds its `GuardedProtocol`; another server's has none."""
UNREAD_LOOKS = 3
"""Looks, one each `HEAD_SECONDS`, at which a client has read nothing of what waits for it."""


class TooMuch(Exception):
    """A client sends more than is taken; the parser then answers 400."""


class _Parser(httptools.HttpRequestParser):
    """Reads a request that offers another protocol as it is: none is spoken here (RFC 9110, 7.8).

    Java's own client offers HTTP/2 in each request that isn't encrypted. httptools takes what
    follows the head of such a request for that protocol, and uvicorn would drop the body, or read
    what comes of it later as the next request.
    """

    def __init__(self, protocol: "GuardedProtocol") -> None:
        super().__init__(protocol)
        # As uvicorn does: the first request of a pipeline is answered.
        self.set_dangerous_leniencies(lenient_data_after_close=True)
        self._protocol = protocol

    def feed_data(self, data: Any) -> None:
        """Parse `data`; what comes after an offer with a new parser, as this one has ended."""
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._protocol.parser = _Parser(self._protocol)
            head = self._protocol.take_declined()
            self._protocol.parser.feed_data(head + data[offer.args[0] :])


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose head is too long (400) or takes too long, or that reads nothing.

    When there are more than `most` connections, the one that has kept us waiting longest for its
    request gives way: whoever sends a request at once always finds room.
    """

    head_seconds = HEAD_SECONDS
    most = 4_096

    _head: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")
    """The head of a 200, with the headers that are the server's own; made anew as those change."""
    waiting: dict["GuardedProtocol", None]
    """Connections we wait for, the longest first: idle, in a head or in a body. Shared by those of
    one server; see `guarded`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.parser = _Parser(self)
        self._declined = b""
        """The head of a request that offered another protocol, without the offer."""
        self._quiet_bytes = 0
        """Since the last byte of a body, or the last end of a head or of a message."""
        self._head_since: float | None = None
        self._progress = False
        self._in_body = False
        self._unread = self._unread_looks = 0
        self._guard: asyncio.TimerHandle | None = None
        self._answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # The override is uvicorn's own: its transport is always a `Transport`.
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._guard = self.loop.call_later(self.head_seconds, self._look)
        if len(self.connections) > self.most:
            longest = next(iter(self.waiting), self)
            self.waiting.pop(longest, None)
            longest.transport.abort()
            if longest is self:
                return
        self.waiting[self] = None

    def data_received(self, data: bytes) -> None:
        self._progress = False
        super().data_received(data)
        if self._progress:
            self._quiet_bytes = 0
            return
        if self._head_since is None and not self._in_body:
            self._head_since = self.loop.time()
        self._quiet_bytes += len(data)
        if self._quiet_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    def send_400_response(self, msg: str) -> None:
        """Refuse what came, and end; the answer to an earlier request of a pipeline is dropped."""
        answering = self._answering
        if answering is None or answering.response_complete or not answering.response_started:
            super().send_400_response(msg)
        self._end()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # what follows a body is dropped: nobody may add a signature there
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise TooMuch
        if self.parser.should_upgrade():
            self._declined = self._head_without_offer()
            return
        self._progress = self._in_body = True
        self._head_since = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._declined:
            return
        self._progress = True
        self._in_body = False
        self.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self.waiting.pop(self, None)
            self.waiting[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._guard is not None:
            self._guard.cancel()
        self.waiting.pop(self, None)
        self._end()
        super().connection_lost(exc)

    def take_declined(self) -> bytes:
        """The head that is to be read in place of the one that was just read; once."""
        head, self._declined = self._declined, b""
        return head

    def _head_without_offer(self) -> bytes:
        """The head that was just read without its offer. Raises `TooMuch` where it asks for a
        tunnel (CONNECT), which has no other request in it."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise TooMuch
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def take_body(self) -> bytes | None:
        """The body of the request under way if it is here whole, as small ones are; else None."""
        cycle = self._answering
        if cycle is None or cycle.more_body or cycle.disconnected:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        cycle.message_event.clear()
        return body

    def answer_at_once(self, rest: bytes) -> bool:
        """Answer 200 to the request under way; `rest` is its own headers and its body.

        uvicorn writes head and body to the socket one after the other, and checks each header
        again. False, and nothing is done, where more than one write is called for: `send` it then.
        """
        cycle = self._answering
        if cycle is None or cycle.response_started or cycle.disconnected or not cycle.keep_alive:
            return False
        if self.flow.write_paused:
            return False
        defaults = self.server_state.default_headers
        if self._head[0] is not defaults:
            lines = b"".join(b"%b: %b\r\n" % header for header in defaults)
            type(self)._head = (defaults, b"HTTP/1.1 200 OK\r\n" + lines)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(self._head[1] + rest)
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        cast("dict[str, Any]", cycle.scope)[SCOPE_KEY] = self
        super()._start_asgi_task(cycle, app)

    def _end(self) -> None:
        """Close, and signal to whoever is answering that nobody listens.

        uvicorn signals that only to the last request of a pipeline; the others would write into
        what is closed.
        """
        self.pipeline.clear()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        self.transport.close()

    def _look(self) -> None:
        now = self.loop.time()
        if self._head_since is not None and now - self._head_since >= self.head_seconds:
            self._end()
        unread = self.transport.get_write_buffer_size()
        self._unread_looks = self._unread_looks + 1 if unread >= self._unread > 0 else 0
        self._unread = unread
        if self._unread_looks >= UNREAD_LOOKS:
            self.transport.abort()
            return
        self._guard = self.loop.call_later(self.head_seconds, self._look)


def guarded(most: int) -> type[GuardedProtocol]:
    """The protocol for one server that keeps at most `most` connections."""
    return type("Protocol", (GuardedProtocol,), {"most": most, "waiting": {}})


RETRY_AFTER_SECONDS = 5
_ID_LENGTH = 36


def _start(status: int, length: int, *extra: tuple[bytes, bytes]) -> Message:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % length),
            *extra,
        ],
    }


def _own(template: bytes) -> bytes:
    """The headers of such an answer, and after them the answer with a place for its id."""
    length = len(template) - 2 + _ID_LENGTH
    return b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % length + template


_ACCEPTED = b'{"status":"accepted","id":"%b"}'
_DUPLICATE = b'{"status":"duplicate","id":"%b"}'
_START = {
    template: _start(200, len(template) - 2 + _ID_LENGTH) for template in (_ACCEPTED, _DUPLICATE)
}
_OWN = {template: _own(template) for template in _START}


async def stored(scope: Scope, send: Send, identifier: str, *, is_new: bool) -> None:
    """200: it is durable, as a new event or as one that was there before."""
    template = _ACCEPTED if is_new else _DUPLICATE
    connection: GuardedProtocol | None = scope.get(SCOPE_KEY)
    if connection is None or not connection.answer_at_once(_OWN[template] % identifier.encode()):
        await send(_START[template])
        await send({"type": "http.response.body", "body": template % identifier.encode()})


class ErrorAnswer(NamedTuple):
    """An answer that is not 200, with its cause for the sender, the counters and the sample."""

    cause: str
    status: int
    start: Message
    body: Message

    async def __call__(self, send: Send) -> None:
        await send(self.start)
        await send(self.body)


def refusal(status: int, cause: str, *, close: bool = False) -> ErrorAnswer:
    """`close` where the rest of the request is left unread."""
    extra: list[tuple[bytes, bytes]] = []
    if status == 503:
        extra.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    if status == 405:
        extra.append((b"allow", b"POST"))
    if close:
        extra.append((b"connection", b"close"))
    content = b'{"error":"%b"}' % cause.encode()
    return ErrorAnswer(
        cause,
        status,
        _start(status, len(content), *extra),
        {"type": "http.response.body", "body": content},
    )


NOT_POST = refusal(405, "method", close=True)
NO_ROUTE = refusal(404, "unknown_route", close=True)
UNKNOWN_APP = refusal(404, "unknown_app", close=True)
TOO_LARGE = refusal(413, "too_large", close=True)
ENCODED = refusal(415, "content_encoding", close=True)
TOO_SLOW = refusal(408, "too_slow", close=True)
BUSY = refusal(503, "busy", close=True)
FAILED = refusal(500, "internal", close=True)
STOPPING = refusal(503, "stopping", close=True)
STORAGE = refusal(503, "storage")
UNVERIFIED = {cause: refusal(401, cause) for cause in get_args(Cause)}
