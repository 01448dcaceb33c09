"""An operator at a shell of their own, who types what the pages say."""

import asyncio
import os
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.docs.test_commands import commands, inline

TRIES = 3


@dataclass
class Operator:
    """Somebody at a shell, in their checkout."""

    place: Path
    environment: dict[str, str]

    def reads(self, page: str, line: str) -> None:
        """The page has this line, to be typed."""
        path = self.place / (page if page == "README.md" else f"docs/{page}")
        given = [*commands(path), *inline(path)]
        assert shlex.split(line, comments=True) in given, f"{page} does not say: {line}"

    async def types(self, page: str, line: str) -> str:
        """Type a line as the page has it; it succeeds, and this is what it says."""
        self.reads(page, line)
        return await self.does(line)

    async def does(self, line: str) -> str:
        """Type a line; it succeeds, and this is what it says."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", line),
            cwd=self.place,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, f"{line}: {said.decode()}"
        return said.decode()

    def exports(self, page: str, line: str, **values: str) -> None:
        """Follow an `export` of the page; `values` in place of the page's own."""
        self.reads(page, line)
        for word in shlex.split(line)[1:]:
            name, _, value = word.partition("=")
            self.environment[name] = values.get(name, value)


@asynccontextmanager
async def terminal(operator: Operator, line: str, ready: str) -> AsyncIterator[Any]:
    """A line that stays in the foreground of a terminal of its own; Ctrl-C at the end.

    Typed again if it gives up, as it does on a machine too busy to start a server in time.
    """
    for _ in range(TRIES):
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"exec {line}"),
            cwd=operator.place,
            env=operator.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        said = await _until_said(process, ready)
        if ready in said:
            break
        await process.wait()
    assert ready in said, (line, said)
    assert process.stdout is not None
    reading = asyncio.create_task(process.stdout.read())
    try:
        yield process
        assert process.returncode is None, (line, (await reading).decode())
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGINT)
        await asyncio.wait_for(process.wait(), 120)
        await reading


async def _until_said(process: asyncio.subprocess.Process, ready: str) -> str:
    """What it says up to a line with `ready`, or to its end."""
    assert process.stdout is not None
    said = ""
    while ready not in said and (heard := await process.stdout.readline()):
        said += heard.decode()
    return said
