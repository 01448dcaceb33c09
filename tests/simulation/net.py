"""The network of a universe: requests that are late, lost, or answered after the caller is gone."""

import asyncio
import contextvars
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from tests.simulation.loop import HOST, Host, VirtualLoop
from tests.simulation.makini.answers import Answer

HANG_SECONDS = 3600.0


@dataclass(frozen=True)
class Fault:
    """What happens to one request: `kind` is refuse, hang, lose, slow, status or html."""

    kind: str
    status: int = 0
    seconds: float = 0.0
    retry_after: str | None = None


@dataclass(frozen=True)
class Request:
    """A request as a peer sees it."""

    method: str
    host: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


Handler = Callable[[Request], Answer]
Decide = Callable[[Request], Fault | None]
Answered = Callable[[Request, Answer, Fault | None, Host | None], None]
Came = Callable[[Request, Answer, Host | None], None]
PEERS = contextvars.Context()  # peers outlive every host of ours


class Network:
    """Routes by host name."""

    def __init__(self, loop: VirtualLoop, rng: Random, say: Callable[[str], None]) -> None:
        self._loop = loop
        self._rng = rng
        self._say = say
        self.peers: dict[str, Handler] = {}
        self.decide: Decide = lambda _: None
        self.answered: Answered = lambda *_: None
        self.came: Came = lambda *_: None
        """Hears of each answer that came back, and to which process."""
        self.sent: list[Request] = []
        """Every request, whether it arrives or not."""
        self.pause: Callable[[str, float], dict[str, str]] = lambda *_: {}
        """How a host asks for a pause of so many seconds."""

    async def send(self, request: Request) -> Answer:
        """The peer's answer. Raises what httpx raises when there is none."""
        self.sent.append(request)
        fault = self.decide(request)
        peer = self.peers.get(request.host)
        said = f"→ {request.method} {request.host}{request.path}"
        if peer is None or (fault and fault.kind == "refuse"):
            self._say(f"{said} ✗ refused")
            await asyncio.sleep(0.001)
            raise httpx.ConnectError("connection refused")
        answered: asyncio.Future[Answer | None] = self._loop.create_future()
        there = self._rng.uniform(0.005, 0.08) + (fault.seconds if fault else 0.0)
        back = self._rng.uniform(0.005, 0.08)
        host = HOST.get()

        def arrive() -> None:
            if fault and fault.kind in ("status", "html", "hang"):
                answer = _made_up(fault)
                if fault.retry_after is not None:
                    answer.headers |= self.pause(request.host, float(fault.retry_after))
            else:
                answer = peer(request)
            self.answered(request, answer, fault, host)
            lost = fault is not None and fault.kind in ("lose", "hang")
            tail = f" ({fault.kind})" if fault else ""
            self._say(f"{said} {answer.status}{tail}")
            wait = HANG_SECONDS if fault and fault.kind == "hang" else back
            outcome = None if lost else answer
            self._loop.call_later(wait, settle, outcome, context=PEERS)

        def settle(outcome: Answer | None) -> None:
            if outcome is not None:
                self.came(request, outcome, host)
            if not answered.done():
                answered.set_result(outcome)

        self._loop.call_later(there, arrive, context=PEERS)
        answer = await answered
        if answer is None:
            raise httpx.ReadError("connection lost")
        return answer


def _made_up(fault: Fault) -> Answer:
    if fault.kind == "html":
        return Answer(200, b"<html>Please wait</html>", {"content-type": "text/html"})
    body = json.dumps({"code": "SIMULATED", "message": f"simulated {fault.status}"}).encode()
    return Answer(fault.status or 500, body, {"content-type": "application/json"})


class SimTransport(httpx.AsyncBaseTransport):
    """httpx on the simulated network."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        answer = await self._network.send(
            Request(
                request.method,
                request.url.host,
                request.url.path,
                request.url.query.decode(),
                {name.lower(): value for name, value in request.headers.items()},
                body,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer.body))


class _Body(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> Any:
        yield self._body


async def call_asgi(
    app: Any, method: str, path: str, query: str, headers: dict[str, str], body: bytes
) -> Answer:
    """One request to an ASGI app, as uvicorn hands it over."""
    sent: list[Any] = []
    length = {"content-length": str(len(body))} if body or method != "GET" else {}
    given_headers = {"host": "linekeeper.sim", **length, **headers}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "root_path": "", "client": ("192.0.2.1", 40000), "server": ("linekeeper.sim", 80),
        "headers": [(name.encode(), value.encode()) for name, value in given_headers.items()],
        "state": {},
    }  # fmt: skip
    given = False
    never = asyncio.get_running_loop().create_future()

    async def receive() -> Any:
        nonlocal given
        if given:
            await never
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    parts = [
        message.get("body", b"") for message in sent if message["type"] == "http.response.body"
    ]
    answered = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], b"".join(parts), answered)
