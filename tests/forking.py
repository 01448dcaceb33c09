"""Processes of ours that start in a moment: forked from one that has imported everything already.

They are processes like any other, with a memory, a standard output and an end of their own; only
the seconds are saved in which each would import the same. What tests how a command itself starts
starts it as people do.
"""

import asyncio
import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn, Self

ROOT = Path(__file__).parents[1]
PRELOADED = (
    "linekeeper.cli.consumer",
    "linekeeper.cli.receiver",
    "tasks.prefect_adapter.orchestrator",
    "linekeeper.consumer.service",
    "linekeeper.receiver.serve",
    "linekeeper.watch.alerts",
    "linekeeper.sweep.batch",
    "linekeeper.reconcile.service",
    "linekeeper.reconnect.process",
    "linekeeper.outbox.senders.slack",
    "aiosqlite",
    "asyncpg",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvloop",
)
_LARGEST = 1_000_000


class Forked:
    """A forked process, as `asyncio.subprocess.Process` shows one."""

    def __init__(self, pid: int, stdin: IO[bytes] | None, stdout: asyncio.StreamReader | None):
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = stdin
        self.stdout = stdout
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    async def communicate(self) -> tuple[bytes, None]:
        """All that it says until it ends."""
        said = await self.stdout.read() if self.stdout is not None else b""
        await self.wait()
        return said, None

    def send_signal(self, number: int) -> None:
        """Raises `ProcessLookupError` where it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def _watch(self, status: asyncio.StreamReader) -> None:
        line = await status.readline()
        self.returncode = int(line) if line else -signal.SIGKILL
        self._ended.set()


class Zygote:
    """The process that forks the others; it ends with this one."""

    def __init__(self, control: socket.socket, wait: Callable[[], object]) -> None:
        self._control = control
        self._wait = wait
        self._settings = _read_at_import(os.environ)

    @classmethod
    def start(cls) -> Self:
        """A new process, which imports everything first."""
        ours, theirs = _pair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        return cls(ours, process.wait)

    @classmethod
    def fork(cls, *foreign: int) -> Self:
        """One with what this process has imported, in which no thread runs yet; without the
        descriptors `foreign`."""
        ours, theirs = _pair()
        pid = os.fork()
        if pid == 0:
            try:
                for descriptor in (ours.fileno(), *foreign):
                    os.close(descriptor)
                serve(theirs)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        theirs.close()
        return cls(ours, lambda: os.waitpid(pid, 0))

    def can_start(self, environment: Mapping[str, str]) -> bool:
        """What is read as modules are imported has to be as it is here, or needs a new process."""
        return _read_at_import(environment) == self._settings

    async def run(
        self,
        *words: str,
        env: Mapping[str, str],
        stdout: IO[bytes] | None,
        stderr: IO[bytes] | None,
        has_stdin: bool,
    ) -> Forked:
        """See `python`."""
        status, status_end = os.pipe()
        output, output_end = os.pipe() if stdout is None else (-1, os.dup(stdout.fileno()))
        input_end, given = os.pipe() if has_stdin else (os.open(os.devnull, os.O_RDONLY), -1)
        errors = output_end if stderr is None else stderr.fileno()
        order = {"words": words, "env": dict(env), "cwd": str(Path.cwd())}
        socket.send_fds(
            self._control,
            [json.dumps(order).encode()],
            [input_end, output_end, errors, status_end],
        )
        for end in (input_end, output_end, status_end):
            os.close(end)
        news = await _reader(status)
        if not (line := await news.readline()):
            raise RuntimeError("The process that forks others has ended; its error output says why")
        pid = int(line)
        stdin = os.fdopen(given, "wb", buffering=0) if has_stdin else None
        forked = Forked(pid, stdin, await _reader(output) if stdout is None else None)
        watching = asyncio.create_task(forked._watch(news))
        _WATCHING.add(watching)
        watching.add_done_callback(_WATCHING.discard)
        return forked

    def close(self) -> None:
        """End it, and whatever of it still runs."""
        self._control.close()
        self._wait()


_WATCHING: set[asyncio.Task[None]] = set()
_ZYGOTES: list[Zygote] = []


def zygote() -> Zygote:
    """The one of this process."""
    if not _ZYGOTES:
        keep(Zygote.start())
    return _ZYGOTES[0]


def keep(made: Zygote) -> None:
    """Let it be the one of this process."""
    _ZYGOTES.append(made)
    atexit.register(made.close)


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


async def python(
    *words: str,
    env: Mapping[str, str],
    stdout: IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
    has_stdin: bool = False,
) -> Forked:
    """`python -m WORDS`, forked. What it says can be read, or goes to `stdout`; errors likewise."""
    return await zygote().run(*words, env=env, stdout=stdout, stderr=stderr, has_stdin=has_stdin)


def _read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    names = ("PREFECT_", "LINEKEEPER_PREFIX")
    return {name: value for name, value in environment.items() if name.startswith(names)}


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader


# What follows runs in the process that forks.


def serve(control: socket.socket) -> None:
    """Fork whatever is asked for, until nobody can ask any more."""
    gc.disable()  # what is imported stays
    for name in PRELOADED:
        importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()  # a fork takes no thread along
    gc.collect()
    gc.freeze()
    gc.enable()
    waking, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    running: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([control, waking], [], [])
        if waking in readable:
            with suppress(BlockingIOError):
                os.read(waking, 4096)
            _reap(running)
        if control not in readable:
            continue
        message, descriptors, _, _ = socket.recv_fds(control, _LARGEST, 4)
        if not message:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            return
        *standard, status = descriptors
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            for descriptor in (waking, woken, status, *running.values()):
                os.close(descriptor)
            become(json.loads(message), standard)
        running[pid] = status
        for descriptor in set(standard):
            os.close(descriptor)
        os.write(status, f"{pid}\n".encode())


def _reap(running: dict[int, int]) -> None:
    while running:
        pid, ended = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        status = running.pop(pid)
        with suppress(BrokenPipeError):
            os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
        os.close(status)


def become(order: dict[str, object], standard: list[int]) -> None:
    """Be the process that was asked for, to its end."""
    code = 1
    try:
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
        for descriptor in set(standard):
            os.close(descriptor)
        environment, words = order["env"], order["words"]
        assert isinstance(environment, dict)
        assert isinstance(words, list)
        # A worker of pytest-xdist has another object there, which is at its end.
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process lives
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(str(order["cwd"]))
        sys.argv = [words[0], *words[1:]]
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        end_process(code)


def end_process(code: int) -> NoReturn:
    """End a forked process with what an interpreter does at its own end, and `os._exit` not."""
    with suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
