"""Child processes: started, waited for, kept running, ended; none outlives its supervisor."""

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from linekeeper.cli.output import Output
from linekeeper.cli.reaper import marked
from linekeeper.private import make_private_folder
from linekeeper.refusal import UserError

MARK = "LINEKEEPER_UP_ID"
"""The variable that every child and whatever it starts inherits, so that the reaper finds all."""
END_SECONDS = 4.0
LAST_END_SECONDS = 2.5
"""What those with `ends_last` have once the others have ended; with the reaper under 10 s."""
STABLE_SECONDS = 60.0
MAX_DELAY = 60.0
PROBE_SECONDS = 0.1


class ChildFailed(UserError):
    """A child ended, or took too long, before it was ready; the message is one line."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process to run. It is ready once `is_ready` says so, or its output has `ready_text`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    is_ready: Callable[[], Awaitable[bool]] | None = None
    ready_text: str | None = None
    ready_seconds: float = 240.0
    levels: tuple[str, ...] = ("WARNING", "ERROR", "CRITICAL")
    """Lines of its output with one of these words reach the terminal; all reach its log."""
    ends_last: bool = False


@dataclass(slots=True)
class _Running:
    child: Child
    process: asyncio.subprocess.Process
    output: Output
    reading: asyncio.Task[None]
    started: float


def restart_delay(deaths: int) -> float:
    """Seconds to wait before the start after `deaths` deaths in a row: 1, 2, 4 … 60."""
    return min(2.0 ** min(deaths - 1, 10), MAX_DELAY)


def is_worth_saying(deaths: int) -> bool:
    """Whether people are notified of a death: of the first, the third and every tenth in a row."""
    return deaths in (1, 3) or deaths % 10 == 0


class Supervisor:
    """Use as `async with Supervisor(logs, report) as supervisor`; leaving it ends every child.

    `report` gets a line for people. Every child leads a process group of its own, so that Ctrl-C in
    the terminal reaches only the supervisor. Should the supervisor be killed, a reaper process
    ends the children and what they started.
    """

    def __init__(
        self,
        logs: Path,
        report: Callable[[str], None],
        restarted: Callable[[str, str], Awaitable[None]] | None = None,
    ) -> None:
        self._logs = logs
        self._report = report
        self._restarted = restarted
        """Gets the name of a child that was started again, and how it had ended."""
        self._mark = secrets.token_hex(8)
        self._running: dict[str, _Running] = {}
        self._hanging: set[str] = set()
        """Those that were killed because they hang, until they have ended."""
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._reaper: asyncio.subprocess.Process | None = None
        self.starting = True
        """Until this is unset, what children say goes to their logs only: who waits for another
        part complains, and what fails for good is raised."""

    async def __aenter__(self) -> Self:
        make_private_folder(self._logs)
        self._reaper = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", str(Path(__file__).with_name("reaper.py")), f"{MARK}={self._mark}"),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, child: Child) -> None:
        """Start `child` and return when it is ready; from then on it is restarted if it dies.

        Raises `ChildFailed` if it ends before, or isn't ready in time.
        """
        running = await self._spawn(child)
        ended = asyncio.create_task(running.process.wait())
        try:
            async with asyncio.timeout(child.ready_seconds):
                while not await _is_ready(running):
                    done, _ = await asyncio.wait({ended}, timeout=PROBE_SECONDS)
                    if done:
                        raise await self._failed(running)
        except TimeoutError:
            raise ChildFailed(
                f"{child.name} is not ready after {child.ready_seconds:.0f} s; "
                f"see {running.output.path}"
            ) from None
        finally:
            ended.cancel()
        self._keepers[child.name] = asyncio.create_task(self._keep(running), name=child.name)

    async def run(self, child: Child) -> None:
        """Run `child` to its end. Raises `ChildFailed` unless it ends well."""
        running = await self._spawn(child)
        if await running.process.wait() != 0:
            raise await self._failed(running, "failed")
        await self._ended(running)

    async def stop(self) -> None:
        """End every child: asked first, killed if that takes long; the `ends_last` after that."""
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        for last in (False, True):
            await asyncio.gather(
                *(
                    self._end(running)
                    for running in list(self._running.values())
                    if running.child.ends_last is last
                )
            )
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            await self._reaper.wait()

    async def _spawn(self, child: Child) -> _Running:
        output = Output(child.name, self._logs, child.levels, self._report, lambda: self.starting)
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *child.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env={**child.environment, MARK: self._mark, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        except OSError:
            os.close(read_end)
            output.close()
            raise
        finally:
            os.close(write_end)
        reading = asyncio.create_task(output.read(read_end))
        running = _Running(child, process, output, reading, time.monotonic())
        self._running[child.name] = running
        self._register(process.pid)
        return running

    async def _keep(self, running: _Running) -> None:
        child, deaths = running.child, 0
        while True:
            how = _how(await running.process.wait())
            if child.name in self._hanging:
                self._hanging.discard(child.name)
                how = "it hung, and was killed"
            if time.monotonic() - running.started >= STABLE_SECONDS:
                deaths = 0
            deaths += 1
            delay = restart_delay(deaths)
            self._report(
                f"{child.name} ended ({how}): starting it again in {delay:.0f} s; "
                f"see {running.output.path}"
            )
            await self._ended(running)
            running = await self._spawn_again(child, delay)
            self._report(f"{child.name} was started again")
            if self._restarted is not None and is_worth_saying(deaths):
                await self._restarted(child.name, how)

    async def _spawn_again(self, child: Child, delay: float) -> _Running:
        """Start `child` in `delay` seconds; where the machine can't, as often as it takes."""
        while True:
            await asyncio.sleep(delay)
            try:
                return await self._spawn(child)
            except OSError as error:
                delay = MAX_DELAY
                again = f"it is tried again in {delay:.0f} s"
                self._report(f"{child.name} can't be started: {error.strerror}; {again}")

    def pid(self, name: str) -> int | None:
        """The process of the child `name`, while it runs."""
        running = self._running.get(name)
        return running.process.pid if running else None

    def kill(self, name: str, pid: int | None = None, *, older: float = 0.0) -> None:
        """Kill the child `name` that hangs (if it is process `pid`): it is started again.

        One that runs for less than `older` seconds is left: what is silent is the one before it.
        """
        there = self.pid(name)
        if there is None or (pid is not None and there != pid):
            return
        if time.monotonic() - self._running[name].started < older:
            return
        self._report(f"{name} hangs: it is killed and started again")
        self._hanging.add(name)
        with suppress(ProcessLookupError):
            self._running[name].process.kill()

    def kill_process(self, pid: int | None, *, older: float = 0.0) -> None:
        """Kill the process `pid` that hangs, if it is a child, or was started by one."""
        names = [name for name, each in self._running.items() if each.process.pid == pid]
        if names:
            self.kill(names[0], pid, older=older)
        elif pid in marked(f"{MARK}={self._mark}".encode()):
            self._report(f"process {pid}, which a part has started, hangs: it is killed")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def restart(self, name: str, why: str) -> None:
        """Ask the child `name` to end, if there is one: it is started again."""
        if name in self._running:
            self._report(f"{why}: {name} is started again")
            with suppress(ProcessLookupError):
                self._running[name].process.terminate()

    async def _failed(
        self, running: _Running, what: str = "ended before it was ready"
    ) -> ChildFailed:
        code = await running.process.wait()
        await self._ended(running)
        last = running.output.last_words()
        return ChildFailed(
            f"{running.child.name} {what} ({_how(code)})"
            f"{': ' + last if last else ''}; see {running.output.path}"
        )

    async def _end(self, running: _Running) -> None:
        with suppress(ProcessLookupError):
            running.process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(
                LAST_END_SECONDS if running.child.ends_last else END_SECONDS
            ):
                await running.process.wait()
        await self._ended(running)

    async def _ended(self, running: _Running) -> None:
        """Kill what is left of its group and let its last output be written."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(running.process.pid, signal.SIGKILL)
        await running.process.wait()
        self._register(running.process.pid)
        if self._running.get(running.child.name) is running:
            del self._running[running.child.name]
        try:
            await asyncio.wait({running.reading}, timeout=0.5)
        finally:
            running.reading.cancel()  # a grandchild may hold the pipe open
            running.output.close()

    def _register(self, group: int) -> None:
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.write(b"%d\n" % group)


async def _is_ready(running: _Running) -> bool:
    child = running.child
    if child.ready_text is not None:
        return child.ready_text in running.output.seen
    return child.is_ready is None or await child.is_ready()


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
