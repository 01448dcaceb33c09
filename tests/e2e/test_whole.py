"""`linekeeper up` as people run it: its parts are kept running, and one signal ends them all.

It ends the house that all browser tests share, so it has to be the last that uses it: modules are
run in the order of their names, and `tests/house/test_shared_peers.py` looks.
"""

import asyncio
import os
import re
import signal

import psutil
import pytest

from tests.cli.commands import CommandLine
from tests.cli.conftest import command
from tests.cli.test_private import open_to_others
from tests.e2e.conftest import House, until

__all__ = ["command"]


def family(house: House) -> dict[int, str]:
    """Every process it started, with its command line."""
    found = psutil.Process(house.process.pid).children(recursive=True)
    return {child.pid: " ".join(child.cmdline()) for child in found}


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def says(house: House, pattern: str) -> str:
    """The first line that matches, once it is said."""

    async def said() -> str | None:
        return next((line for line in house.said if re.search(pattern, line)), None)

    return str(await until(said, seconds=240, what=pattern))


@pytest.mark.e2e
async def test_everything_starts_is_kept_running_and_ends_on_a_signal(
    house: House, command: CommandLine
) -> None:
    urls = re.findall(r"http://[^\s]+", await says(house, "^ready "))
    assert len(urls) == 4
    for url in urls:
        assert (await house.http.get(url)).status_code < 500

    assert "schedules are paused" in await says(house, "^no connection is listed yet")
    await says(house, "^the first sweep has listed 24 connections")

    assert open_to_others(house.home) == []
    command.set(HOME=str(house.home))
    second = await asyncio.to_thread(command, "up")
    assert second.code == 1
    assert "running already" in second.err

    started = family(house)
    (consumer,) = [pid for pid, words in started.items() if words.endswith(" consumer")]
    os.kill(consumer, signal.SIGKILL)
    await says(house, r"consumer ended \(killed by SIGKILL\): starting it again")
    await says(house, "consumer was started again")
    started |= family(house)

    house.process.terminate()
    await says(house, "^ended")
    assert await house.process.wait() == 0
    assert [words for pid, words in started.items() if is_alive(pid)] == []
