"""Requests and answers past any framework: made once, and read without trusting length or speed."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, TypeAlias, get_args

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from linekeeper.inbox.verify import Cause, Headers
from linekeeper.receiver.protocol import SCOPE_KEY, GuardedProtocol

Message: TypeAlias = dict[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

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


class Refusal(NamedTuple):
    """An answer that is not 200, with its cause for the sender, the counters and the sample."""

    cause: str
    status: int
    start: Message
    body: Message

    async def __call__(self, send: Send) -> None:
        await send(self.start)
        await send(self.body)


def refusal(status: int, cause: str, *, close: bool = False) -> Refusal:
    """`close` where the rest of the request is left unread."""
    extra: list[tuple[bytes, bytes]] = []
    if status == 503:
        extra.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    if status == 405:
        extra.append((b"allow", b"POST"))
    if close:
        extra.append((b"connection", b"close"))
    content = b'{"error":"%b"}' % cause.encode()
    return Refusal(
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


BODY_SECONDS = 10.0
HELD_BYTES = 64 * 1024 * 1024
"""Of bodies that are still arriving, all together."""

_TOO_SLOW = object()

Receive: TypeAlias = Callable[[], Awaitable[Message]]


class Disconnected(Exception):
    """The sender went away before the end of the body."""


class Bodies:
    """Reads bodies of at most `max_bytes`. What arrives in one piece costs nothing extra.

    When those that are still arriving hold `HELD_BYTES`, the one that takes longest gives way.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._reading: dict[asyncio.Task[Any], float] = {}
        """Until when each may take, the earliest first."""
        self._look: asyncio.TimerHandle | None = None
        self.seconds = BODY_SECONDS

    def give_up_longest(self) -> bool:
        """End the reading that has lasted longest (its sender is too slow); False if there is none.

        Whoever sends the whole of a request at once is never the one.
        """
        current = asyncio.current_task()
        for task in self._reading:
            if task is not current:
                del self._reading[task]
                task.cancel(_TOO_SLOW)
                return True
        return False

    def refused(self, headers: Headers) -> Refusal | None:
        """What can be said before reading. A body that is compressed is not unpacked: 415."""
        length = headers.get(b"content-length")
        if length is not None and length.isdigit() and int(length[:18]) > self._max_bytes:
            return TOO_LARGE
        if headers.get(b"content-encoding", b"identity") != b"identity":
            return ENCODED
        return None

    async def read(self, scope: Scope, receive: Receive) -> bytes | Refusal:
        """The body, or why it was not read to its end. Raises `Disconnected`."""
        connection: GuardedProtocol | None = scope.get(SCOPE_KEY)
        whole = None if connection is None else connection.take_body()
        if whole is not None:
            return whole if len(whole) <= self._max_bytes else TOO_LARGE
        task = asyncio.current_task()
        assert task is not None
        # One timer for all: a timer each, most of them for nothing, would cost every request 2 µs.
        loop = task.get_loop()
        self._reading[task] = end = loop.time() + self.seconds
        if self._look is None:
            self._look = loop.call_at(end, self._give_up_late, loop)
        try:
            message = await receive()
            if message["type"] != "http.request":
                raise Disconnected
            if message["more_body"]:
                return await self._read_on(message, receive)
            body: bytes = message["body"]
            return body if len(body) <= self._max_bytes else TOO_LARGE
        except asyncio.CancelledError as error:
            if error.args != (_TOO_SLOW,):
                raise
            task.uncancel()
            return TOO_SLOW
        finally:
            self._reading.pop(task, None)

    def _give_up_late(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look = None
        for task, end in list(self._reading.items()):
            if end > loop.time():
                self._look = loop.call_at(end, self._give_up_late, loop)
                return
            del self._reading[task]
            task.cancel(_TOO_SLOW)

    async def _read_on(self, message: Message, receive: Receive) -> bytes | Refusal:
        parts: list[bytes] = []
        held = 0
        try:
            while True:
                body = message["body"]
                parts.append(body)
                held += len(body)
                self._held += len(body)
                if held > self._max_bytes:
                    return TOO_LARGE
                if self._held > HELD_BYTES and not self.give_up_longest():
                    return BUSY
                if not message["more_body"]:
                    return b"".join(parts)
                message = await receive()
                if message["type"] != "http.request":
                    raise Disconnected
        finally:
            self._held -= held


async def read_body(request: Request, limit: int) -> bytes:
    """The body, at most `limit` bytes. Raises `HTTPException` 413 for a longer one."""
    body = b""
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise HTTPException(413, f"the body is longer than {limit} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "client disconnected while sending the body") from None
    return body
