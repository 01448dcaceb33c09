"""`linekeeper up` that is interrupted or can't begin; tests/e2e/test_whole.py has one that runs."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.cli.commands import CommandLine

ROOT = Path(__file__).parents[2]
PARTS = ("PREFECT", "RECEIVER", "SANDBOX")


class Up:
    """A running `linekeeper up` and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def says(self, pattern: str) -> str:
        """The next line that matches `pattern`."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            self.said.append(line.rstrip())
            if re.search(pattern, line):
                return line
        raise AssertionError(f"ended without {pattern!r}: {self.said}")

    def family(self) -> dict[int, str]:
        """Every process it started, with its command line."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return {child.pid: " ".join(child.cmdline()) for child in found}


@asynccontextmanager
async def _up(home: Path) -> AsyncIterator[Up]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "linekeeper.cli", "up", "--sandbox", "--scenario", "quiet"),
        *("--connections", "3"),
        env={
            **os.environ,
            "LINEKEEPER_HOME": str(home),
            **{f"LINEKEEPER_{part}_PORT": str(_free_port()) for part in PARTS},
        },
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Up(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.e2e
@pytest.mark.repeats(
    "cli/test_supervisor.py::test_leaving_the_block_ends_the_children_and_their_output_is_kept",
    "e2e/test_whole.py::test_everything_starts_is_kept_running_and_ends_on_a_signal",
)
async def test_ctrl_c_while_it_starts_ends_what_was_started(tmp_path: Path) -> None:
    async with _up(tmp_path / "home") as up:
        await up.says("database")
        family = up.family()
        assert family
        up.process.send_signal(signal.SIGINT)
        await up.says("^ended")
        assert await up.process.wait() == 0
    assert [words for pid, words in family.items() if _alive(pid)] == []


@pytest.mark.parametrize(
    ("setting", "what"), [("PREFECT_PORT", "the Prefect server"), ("RECEIVER_PORT", "the receiver")]
)
def test_a_taken_port_is_one_line_and_nothing_starts(
    command: CommandLine, setting: str, what: str
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        command.set(PREFECT_PORT=str(_free_port()), RECEIVER_PORT=str(_free_port()))
        command.set(**{setting: port})
        said = command("up")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert f"port {port}" in said.err
    assert what in said.err
    assert f"LINEKEEPER_{setting}" in said.err


def test_a_server_open_to_the_network_is_refused(command: CommandLine) -> None:
    command.set(PREFECT_HOST="0.0.0.0")
    said = command("up")
    assert said.code == 1
    assert "PREFECT_SERVER_API_AUTH_STRING" in said.err
