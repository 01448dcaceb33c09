"""Parts of Linekeeper as the processes they are in production, to be killed."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from linekeeper.settings import Settings
from tests.forking import Forked, python, zygote
from tests.receiver.conftest import SECRET

NOBODY = "1"
"""A port where no Prefect is: what must work then is what is tested."""


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Part:
    """A running `linekeeper receiver` or `consumer`."""

    process: asyncio.subprocess.Process | Forked
    url: str

    async def kill(self) -> None:
        """`kill -9`, and wait for the end."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


async def start(
    name: str,
    settings: Settings,
    log: Path,
    *,
    port: int = 0,
    extra: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
    arguments: Sequence[str] = (),
    within: Sequence[str] = (),
) -> Part:
    """Start `linekeeper {name}` on the database of `settings`; returns when it says ready.

    `within` is a command that becomes the one named after it.
    """
    environment = {
        **{key: value for key, value in os.environ.items() if "LINEKEEPER" not in key},
        "LINEKEEPER_HOME": str(settings.home),
        "LINEKEEPER_DATABASE_URL": settings.resolved_database_url,
        "LINEKEEPER_ENCRYPTION_KEYS": settings.encryption_keys[0].get_secret_value(),
        "LINEKEEPER_RECEIVER_PORT": str(port),
        "LINEKEEPER_PREFECT_PORT": NOBODY,
        "LINEKEEPER_MAKINI_API_URL": "http://127.0.0.1:9",
        "LINEKEEPER_MAKINI_WEBHOOK_SECRETS": SECRET,
        **(extra or {}),
    }
    words = ("linekeeper.cli", name, *arguments)
    process: asyncio.subprocess.Process | Forked
    with log.open("ab") as errors:
        if before is None and not within and zygote().can_start(environment):
            process = await python(*words, env=environment, stderr=errors)
        else:
            process = await asyncio.create_subprocess_exec(
                *(*within, sys.executable, "-m", *words),
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                preexec_fn=before,
            )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    if "ready" not in line:
        await process.wait()
        raise RuntimeError(f"{name} did not start: {line}{log.read_text()[-2000:]}")
    url = next((word for word in line.split() if word.startswith("http://")), "")
    return Part(process, url)


@asynccontextmanager
async def part(
    name: str,
    settings: Settings,
    log: Path,
    *,
    port: int = 0,
    extra: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
    arguments: Sequence[str] = (),
) -> AsyncIterator[Part]:
    """`start`, and the end of it after the block."""
    running = await start(
        name, settings, log, port=port, extra=extra, before=before, arguments=arguments
    )
    try:
        yield running
    finally:
        await running.kill()
