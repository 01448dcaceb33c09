"""What every request to a page or to the product's API passes before anything of it is looked at.

Its body is whole and within bounds, there are few at once, and it is answered in time. Webhooks
have their own way (`webhooks`): nothing that goes on here takes their places.
"""

import asyncio
import logging
import traceback
from collections.abc import Awaitable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from linekeeper.customer_page.words import words_of
from linekeeper.receiver import protocol
from linekeeper.receiver.html import asked_locale, page
from linekeeper.receiver.protocol import ErrorAnswer, Message, Receive, Scope, Send
from linekeeper.receiver.webhooks import Bodies, Disconnected

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 4 * 1024 * 1024
"""The limit for any route; most accept less (`read_body`)."""
SLOTS = 256
ANSWER_SECONDS = 60.0

FOR_CUSTOMERS = ("/connect/", "/customer/", "/oauth/")
"""Routes that always answer with a page for people."""


class RequestLimit:
    """The ASGI app before `site`, with `slots` requests at once.

    When all are taken, the request that has kept us waiting longest for its body gives way (408);
    if none does, the new one is asked to come again (503).
    """

    def __init__(
        self, site: Any, *, slots: int = SLOTS, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._site = site
        self._slots = slots
        self._answer_seconds = answer_seconds
        self._bodies = Bodies(MAX_BODY_BYTES)
        self.taken = 0
        """Slots in use."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self.taken >= self._slots and not self._bodies.give_up_longest():
            await _refuse(protocol.BUSY, scope, receive, send)
            return
        self.taken += 1
        answering = None
        try:
            refused = self._bodies.refused(dict(scope["headers"]))
            body = refused or await self._bodies.read(scope, receive)
            if not isinstance(body, bytes):
                await _refuse(body, scope, receive, send)
                return
            exchange = _Exchange(body, receive, send)
            answering = asyncio.create_task(
                _answer(self._site(scope, exchange.receive, exchange.send))
            )
            answering.add_done_callback(self._release_slot)
            await self._answered(answering, exchange, scope)
        except Disconnected:
            return
        finally:
            if answering is None:
                self.taken -= 1

    def _release_slot(self, answering: "asyncio.Task[None]") -> None:
        self.taken -= 1
        if not answering.cancelled() and (error := answering.exception()) is not None:
            # Where and of what kind it is, without its message: that may quote what was sent.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("receiver: a request failed: %s\n%s", type(error).__name__, frames)

    async def _answered(
        self, answering: "asyncio.Task[None]", exchange: "_Exchange", scope: Scope
    ) -> None:
        """Wait for the answer. A late one goes on unawaited: it may be half done."""
        try:
            await asyncio.wait({answering}, timeout=self._answer_seconds)
        except asyncio.CancelledError:  # the server ends; whoever asked comes again
            answering.cancel()
            await asyncio.wait({answering})
            await exchange.end(protocol.STOPPING, scope)
            return
        if not answering.done():
            await exchange.end(protocol.BUSY, scope)
        elif answering.exception() is not None:
            await exchange.end(protocol.FAILED, scope)


class _Exchange:
    """One request whose body is here, and whether its answer has begun."""

    def __init__(self, body: bytes, receive: Receive, send: Send) -> None:
        self._body: bytes | None = body
        self._receive = receive
        self._send = send
        self._has_begun = self._has_ended = False

    async def receive(self) -> Message:
        """The body, once; then what else comes (that the client went away)."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer, unless another was given in its place."""
        if not self._has_ended:
            self._has_begun = True
            await self._send(message)

    async def end(self, refusal: ErrorAnswer, scope: Scope) -> None:
        """Answer with `refusal` where no answer has begun; whatever comes later is dropped."""
        self._has_ended = True
        if not self._has_begun:
            await _refuse(refusal, scope, self._receive, self._send)


async def _answer(answering: Awaitable[None]) -> None:
    await answering


async def _refuse(refusal: ErrorAnswer, scope: Scope, receive: Receive, send: Any) -> None:
    """Refuse; customers get a page. (Starlette has its own type for what `send` takes.)"""
    if scope["path"].startswith(FOR_CUSTOMERS):
        shown = try_again(scope, refusal.status)
        shown.headers["Connection"] = "close"
        await shown(scope, receive, send)
    else:
        await refusal(send)


def try_again(scope: Scope, status: int) -> Response:
    """The page for a customer who can't be answered now, in the language that the browser asks
    for: whose page it is can't be looked up."""
    words = words_of(asked_locale(Request(scope)))
    texts = [words.say("try_again", name) for name in ("title", "text")]
    return page(*texts, status=status, language=words.language)


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
