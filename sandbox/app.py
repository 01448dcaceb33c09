"""The sandbox as one ASGI app, and the ways to run it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from . import admin, control, data, link, pages, slack_api, slack_page, status, truth
from .answers import Refused, error, world_of
from .keeping import keeping
from .limit import Limit
from .quirks import answer_oddly
from .scenario import play
from .settings import Settings, is_loopback
from .world import World

_LOCAL_ONLY = ("/_control", "/slack")


class Sandbox(Starlette):
    """Makini, a Slack, and the controls over both; its state is `world`."""

    def __init__(self, settings: Settings) -> None:
        self.world = World(settings)
        self._limit = Limit(self.world.now)
        super().__init__(
            routes=[
                *pages.ROUTES,
                *status.ROUTES,
                *admin.ROUTES,
                *link.ROUTES,
                *slack_api.ROUTES,
                *slack_page.ROUTES,
                *truth.ROUTES,
                *control.ROUTES,
                *data.ROUTES,
                Route("/healthz", _alive),
            ],
            exception_handlers={Refused: _refused, HTTPException: _http_error},
            lifespan=_lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        path: str = scope["path"]
        if self.world.settings.quirks and path.startswith(("/api/", "/link/")):
            quirks = self.world.settings.quirks
            await answer_oddly(self._answer, quirks, scope, receive, send)
            return
        await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        world = self.world
        if path.startswith(("/api/", "/link/")):
            method: str = scope["method"]
            world.calls[method, route_of(path)] += 1
            if world.settings.latency_ms:
                await asyncio.sleep(world.settings.latency_ms / 1000)
            if path.startswith("/api/") and world.settings.per_minute:
                wait = self._limit.wait(world.settings.per_minute)
                if wait:
                    world.calls["ANSWERED", "429"] += 1
                    too_many = Refused(
                        429,
                        "RATE_LIMIT_EXCEEDED",
                        f"More than {world.settings.per_minute} calls a minute.",
                        {"Retry-After": str(wait)},
                    )
                    await error(world, too_many)(scope, receive, send)
                    return
            if (
                path == status.PATH
                and method == "GET"
                and await status.answer_status(world, scope, send)
            ):
                return
        elif path.startswith(_LOCAL_ONLY) and not _from_here(scope):
            refused = Refused(403, "FORBIDDEN", "Only this machine may control the sandbox.")
            await error(world, refused)(scope, receive, send)
            return
        await super().__call__(scope, receive, send)


def route_of(path: str) -> str:
    """The path with its variable parts named, for counting."""
    parts = path.strip("/").split("/")
    if parts[:2] == ["api", "system"]:
        if len(parts) > 3:
            parts[3] = "{key}"
    elif parts[0] == "api" and parts[1:2] != ["integrations"] and len(parts) > 3:
        parts[3:] = ["{key}"]
    return "/" + "/".join(part[:60] for part in parts[:6])


def create_app(settings: Settings) -> Starlette:
    """The app; its lifespan starts the webhook sender and the scenario."""
    return Sandbox(settings)


def run(settings: Settings) -> None:
    """Serve in the foreground until SIGINT or SIGTERM, then return.

    Raises:
        ValueError: the port is taken.
    """
    fastest = uvicorn.Config("").get_loop_factory()
    with asyncio.Runner(loop_factory=fastest) as runner:
        runner.run(_run(settings))


@dataclass(slots=True, frozen=True)
class Served:
    """A sandbox that is up; `url` has no slash at its end."""

    url: str
    world: World
    app: Starlette


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Served]:
    """A sandbox in this event loop; `settings.port` 0 lets the system choose the port."""
    app = Sandbox(settings)
    with _listening(settings) as listener:
        server = _Server(
            uvicorn.Config(
                app,
                lifespan="on",
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                timeout_graceful_shutdown=1,
            )
        )
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                if task.done():
                    task.result()
                    raise RuntimeError("The sandbox ended before it was up.")
                await asyncio.sleep(0.005)
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            yield Served(f"http://{shown}:{port}", app.world, app)
        finally:
            server.should_exit = True
            await task


class _Server(uvicorn.Server):
    """A server that leaves the signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings):
        await stop.wait()


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is named; without, 40 ms an answer.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as problem:
            raise ValueError(
                f"The sandbox can't listen on {settings.host}:{settings.port} "
                f"({problem.strerror}): set LINEKEEPER_SANDBOX_PORT to a free port."
            ) from None
        listener.listen(1024)
        yield listener


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    assert isinstance(app, Sandbox)
    world = app.world
    async with keeping(world, world.settings.state_path):
        await world.webhooks.start()
        script = (
            asyncio.create_task(play(world), name="sandbox scenario")
            if world.settings.scenario == "demo"
            else None
        )
        try:
            yield
        finally:
            if script is not None:
                script.cancel()
                await asyncio.gather(script, return_exceptions=True)
            await world.webhooks.stop()


def _from_here(scope: Scope) -> bool:
    """The client is this machine, and no foreign page is behind its browser."""
    client = scope.get("client")
    if client is None or not is_loopback(client[0]):
        return False
    for name, value in scope["headers"]:
        if name in (b"host", b"origin"):
            host = value.decode("latin-1").rpartition("//")[2]
            if not is_loopback(host if host.endswith("]") else host.rsplit(":", 1)[0]):
                return False
    return True


async def _alive(_request: Request) -> Response:
    return PlainTextResponse("ok")


async def _refused(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Refused)
    return error(world_of(request), problem)


async def _http_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    code = "NOT_FOUND" if problem.status_code == 404 else "INVALID_REQUEST"
    message = f"{request.method} {request.url.path}: {problem.detail}"
    return error(world_of(request), Refused(problem.status_code, code, message))
