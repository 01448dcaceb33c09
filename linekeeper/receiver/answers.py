"""The answers of the webhooks routes, made once: the hot path only fills in an id."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeAlias, get_args

from linekeeper.inbox.verify import Cause

Message: TypeAlias = dict[str, Any]
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


_ACCEPTED = b'{"status":"accepted","id":"%b"}'
_DUPLICATE = b'{"status":"duplicate","id":"%b"}'
_START_ACCEPTED = _start(200, len(_ACCEPTED) - 2 + _ID_LENGTH)
_START_DUPLICATE = _start(200, len(_DUPLICATE) - 2 + _ID_LENGTH)


async def stored(send: Send, identifier: str, *, is_new: bool) -> None:
    """200: it is durable, as a new event or as one that was there before."""
    await send(_START_ACCEPTED if is_new else _START_DUPLICATE)
    template = _ACCEPTED if is_new else _DUPLICATE
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
