"""Serving the receiver with uvicorn, in one process or in several that share the port."""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import uvicorn

from linekeeper.alive import reporting_alive
from linekeeper.receiver.app import Receiver
from linekeeper.receiver.away import until_it_comes
from linekeeper.receiver.protocol import guarded
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.usable import has_come

BACKLOG = 2048
MAX_CONNECTIONS = 4096
STOP_SECONDS = 3
"""What requests in progress have; with what comes after it a stop takes under 5 s."""
KEEP_ALIVE_SECONDS = 15
SWITCH_SECONDS = 0.0001


class PortTaken(Exception):
    """The receiver's address can't be listened on; the message says which setting to change."""


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The receiver's socket (port 0: any free one). Raises `PortTaken`."""
    host, port = settings.receiver_host, settings.receiver_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise PortTaken(
                f"the receiver can't listen on {host}:{port} ({error.strerror}): "
                "set LINEKEEPER_RECEIVER_PORT or LINEKEEPER_RECEIVER_HOST"
            ) from error
        listener.listen(BACKLOG)
        yield listener


def address(listener: socket.socket) -> str:
    """The URL `listener` answers at, without a slash at its end."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def serving(runtime: Runtime, listener: socket.socket) -> AsyncIterator[None]:
    """Answer on `listener` for the block, in this event loop.

    Afterwards requests that are under way have `STOP_SECONDS`, then they are answered that they
    should come again.
    """
    async with Receiver.open(runtime) as app, _answering(app, listener):
        yield


@contextlib.asynccontextmanager
async def _answering(
    app: Callable[..., Awaitable[None]], listener: socket.socket
) -> AsyncIterator[None]:
    server = _Server(
        uvicorn.Config(
            app,
            http=guarded(_connections()),
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]), name="receiver")
    try:
        up = asyncio.create_task(server.up.wait())
        await asyncio.wait({task, up}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        yield
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def _asking_to_come_again(listener: socket.socket) -> AsyncIterator[None]:
    """Say for the block that the database is away. The port stays open after it."""
    with listener.dup() as ours:  # uvicorn closes what it listens on
        async with _answering(until_it_comes, ours):
            yield


async def database_or_stop(settings: Settings, listener: socket.socket) -> asyncio.Event:
    """Wait for the database, or for SIGINT or SIGTERM; returns the event that these set.

    Whoever asks meanwhile is told so. Raises `StoreError` or `KeyProblem` for a database that
    does not come, or can't be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await has_come(settings, stop, lambda: _asking_to_come_again(listener))
    return stop


async def until_stopped(
    settings: Settings, listener: socket.socket, ready: Callable[[], None]
) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called when the first request can be answered.

    Raises as `database_or_stop` does.
    """
    stop = await database_or_stop(settings, listener)
    if stop.is_set():
        return
    async with Runtime.open(settings, kind="receiver") as runtime, serving(runtime, listener):
        _tune_python()
        async with reporting_alive(settings.alive_file):
            ready()
            await stop.wait()


def _tune_python() -> None:
    """Tune Python for many short-lived requests beside modules that never go, and for a thread
    that commits: with 5 ms, Python's default, a busy loop is slow to let go of its lock, for which
    the thread asks a few times in each commit."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _connections() -> int:
    """Return how many connections the system lets us hold open, up to `MAX_CONNECTIONS`.

    Pages and the API take `gate.SLOTS` of them at most; all others are the webhooks'.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + 256
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(MAX_CONNECTIONS, soft - 256)


class _Server(uvicorn.Server):
    """Says when it is up, and leaves the signals to whoever runs it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
