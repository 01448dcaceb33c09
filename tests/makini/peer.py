"""A Makini by its published contract, on loopback: each test says what it answers."""

import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Handler = Callable[[Request], Response | Awaitable[Response]]
CLIENT_SECRET = "shh-very-secret"
METHODS = ["GET", "POST", "DELETE"]


@dataclass(frozen=True)
class Seen:
    """One request as it came in."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def parameters(self) -> dict[str, str]:
        return dict(self.query)


@dataclass
class Peer:
    """Answers `(method, path)` with what a test put into `answers`; anything else is 404."""

    url: str = ""
    answers: dict[tuple[str, str], Handler] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    tokens_made: int = 0
    token_lifetime: Any = 3600

    def reset(self) -> None:
        self.answers = {("POST", "/link/token"): self._token}
        self.seen = []
        self.tokens_made = 0
        self.token_lifetime = 3600

    def answer(self, method: str, path: str, handler: Handler | object) -> None:
        """Answer with a handler, or with this JSON value each time."""
        if not callable(handler):
            value = handler
            self.answers[method, path] = lambda _: JSONResponse(value)
        else:
            self.answers[method, path] = handler

    def asked(self, path: str) -> list[Seen]:
        return [request for request in self.seen if request.path == path]

    def _token(self, _: Request) -> Response:
        self.tokens_made += 1
        return JSONResponse(
            {"access_token": f"admin-{self.tokens_made}", "expires_in": self.token_lifetime}
        )

    async def _handle(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode()
        query = parse_qsl(request.url.query, keep_blank_values=True)
        self.seen.append(
            Seen(request.method, path, query, dict(request.headers), await request.body())
        )
        handler = self.answers.get((request.method, path))
        if handler is None:
            return JSONResponse({"message": "Not Found"}, 404)
        response = handler(request)
        return response if isinstance(response, Response) else await response


class PeerServer:
    """Runs a Peer in a thread of its own, so that a stuck client can't stall it."""

    def __init__(self) -> None:
        self.peer = Peer()
        app = Starlette(routes=[Route("/{path:path}", self.peer._handle, methods=METHODS)])
        # What time it is there, an answer says itself.
        config = uvicorn.Config(
            app, log_level="critical", ws="none", lifespan="off", date_header=False
        )
        self._server = uvicorn.Server(config)
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.peer.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))

    def start(self) -> Peer:
        self._socket.listen(200)
        self._thread.start()
        return self.peer

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)
        self._socket.close()
