"""Reading a request's body without trusting its length, or its speed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from linekeeper.inbox.verify import Headers
from linekeeper.receiver.answers import BUSY, ENCODED, TOO_LARGE, TOO_SLOW, Message, Refusal

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

    async def read(self, receive: Receive) -> bytes | Refusal:
        """The body, or why it was not read to its end. Raises `Disconnected`."""
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
