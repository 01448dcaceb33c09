"""What `explain` costs the event path: the same events with and without what it needs.

An event is stored as the receiver does, read, applied and forwarded to a product in another
process. `explain` needs of that the attempts to forward with their answers (a row each), and, where
logs are for machines, a line for each group of events that passed a hop. By turns in one run;
what is compared is this process's own processor time, for other work on the machine adds none.
"""

import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from benchmarks.peers import create_database, postgres
from benchmarks.process import deliver, drain, linekeeper_on
from benchmarks.product import SECRET

EVENTS = int(os.environ.get("BENCH_EVENTS", "2000"))
ROUNDS = 5
GOALS = {"share_sqlite": 0.1, "share_postgresql": 0.1}
Way = Literal["without", "with", "logs"]
_PRODUCT = (
    "import asyncio\n"
    "from benchmarks.product import listening\n"
    "async def main():\n"
    "    async with listening() as product:\n"
    "        print(product.url, flush=True)\n"
    "        await asyncio.Event().wait()\n"
    "asyncio.run(main())\n"
)


def run() -> dict[str, Any]:
    """The share of an event's processor time that is due to `explain`, with the goals."""
    figures: dict[str, Any] = {"events": EVENTS, "goals": GOALS}
    with tempfile.TemporaryDirectory(prefix="linekeeper-traces-") as name, _product() as product:
        folder = Path(name)
        url = f"sqlite+aiosqlite:///{folder}/line.db"
        figures |= asyncio.run(_on(folder, url, "sqlite", product))
        with postgres(folder) as server:
            url = asyncio.run(create_database(server, "traces"))
            figures |= asyncio.run(_on(folder, url, "postgresql", product))
    return figures


@contextmanager
def _product() -> Iterator[str]:
    """The address of a product in a process of its own."""
    process = subprocess.Popen([sys.executable, "-c", _PRODUCT], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


async def _on(folder: Path, url: str, database: str, product: str) -> dict[str, Any]:
    ways: tuple[Way, ...] = ("without", "with", "logs")
    spent: dict[Way, list[float]] = {way: [] for way in ways}
    async with linekeeper_on(folder, url, forward_url=product, forward_secret=SECRET) as rt:
        await _events(rt, "warm", "with")
        for number in range(ROUNDS):
            for way in ways[number % 3 :] + ways[: number % 3]:
                spent[way].append(await _events(rt, f"{way}{number}-", way))
    middle = {way: statistics.median(times) for way, times in spent.items()}
    return {
        f"share_{database}": round(middle["with"] / middle["without"] - 1, 3),
        f"share_with_logs_{database}": round(middle["logs"] / middle["without"] - 1, 3),
        f"event_cpu_us_{database}": round(middle["with"] / EVENTS * 1e6),
    }


async def _events(rt: Any, prefix: str, way: Way) -> float:
    """Store, apply and forward events; the processor time of it."""
    from linekeeper.outbox.senders.forward import ForwardSender, forwarding

    with _logs(way):
        silent = mock.patch.object(ForwardSender, "_attempted", return_value=None)
        if way == "without":
            silent.start()
        try:
            began = time.process_time()
            await drain(rt, await deliver(rt, EVENTS, prefix))
            async with forwarding(rt) as dispatcher:
                while await dispatcher.deliver():
                    pass
            return time.process_time() - began
        finally:
            if way == "without":
                silent.stop()


@contextmanager
def _logs(way: Way) -> Iterator[None]:
    """Logs as a machine reads them, or none."""
    from linekeeper.logs import WAY, set_up

    if way != "logs":
        WAY.setLevel(logging.WARNING)
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        set_up("json", stream=nowhere)
        WAY.setLevel(logging.INFO)
        try:
            yield
        finally:
            WAY.setLevel(logging.WARNING)


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
