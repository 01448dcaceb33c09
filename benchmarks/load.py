"""Ten minutes of webhooks with everything of `linekeeper up` running, then a backlog.

500 signed record events a second, each timed from the moment it was to be sent; once a second the
age of the oldest pending event, and each event's way until the product has it, to which all are
handed on. Then the consumer is stopped, 100,000 more come in, and it goes
on: how long until none is left. At the end every accepted event must be there once, and applied.

`BENCH_MINUTES`, `BENCH_RATE` and `BENCH_BACKLOG` make it shorter.
"""

import asyncio
import hashlib
import hmac
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.product import SECRET as FORWARD_SECRET
from benchmarks.product import Product, listening, percentile

MINUTES = float(os.environ.get("BENCH_MINUTES", "10"))
RATE = int(os.environ.get("BENCH_RATE", "500"))
BACKLOG = int(os.environ.get("BENCH_BACKLOG", "100000"))
CONNECTIONS, RECORDS = 200, 50
SENDERS = 64
SECRET = b"sandbox-webhook-secret"
GOALS = {
    "answer_p99_ms": 100.0,
    "forward_p95_s": 0.5,
    "forward_p99_s": 2.0,
    "oldest_pending_s": 5.0,
    "backlog_s": 300.0,
}


def run() -> dict[str, Any]:
    """The figures, with the goals beside them."""
    with tempfile.TemporaryDirectory(prefix="linekeeper-load-") as name:
        return {**asyncio.run(_run(Path(name))), "goals": GOALS}


async def _run(folder: Path) -> dict[str, Any]:
    async with listening() as product:
        everything = house(folder, product.url)
        place = await asyncio.to_thread(everything.__enter__)
        try:
            return await _measure(place, product)
        finally:
            await asyncio.to_thread(everything.__exit__, None, None, None)


class House:
    """A running `linekeeper up`: where its parts are."""

    def __init__(self, home: Path, receiver: int, sandbox: int, pid: int) -> None:
        self.home = home
        self.receiver = receiver
        self.sandbox = f"http://127.0.0.1:{sandbox}"
        self.pid = pid

    def consumers(self) -> list[Any]:
        """The consumer's processes."""
        import psutil

        children = psutil.Process(self.pid).children(recursive=True)
        return [verdict for verdict in children if "consumer" in verdict.cmdline()[1:]]


@contextmanager
def house(folder: Path, forward_url: str) -> Iterator[House]:
    """Everything, on free ports, for the block; what is accepted is handed on to `forward_url`."""
    from benchmarks.peers import BIN, free_port, process

    prefect, receiver, sandbox = free_port(), free_port(), free_port()
    home = folder / "home"
    environment = {
        "LINEKEEPER_HOME": str(home),
        "LINEKEEPER_PREFECT_PORT": str(prefect),
        "LINEKEEPER_RECEIVER_PORT": str(receiver),
        "LINEKEEPER_SANDBOX_PORT": str(sandbox),
        "LINEKEEPER_FORWARD_URL": forward_url,
        "LINEKEEPER_FORWARD_SECRET": FORWARD_SECRET,
    }
    command = [str(BIN / "linekeeper"), "up", "--scenario", "quiet"]
    command += ["--connections", str(CONNECTIONS)]
    ready = f"http://127.0.0.1:{receiver}/readyz"
    log = folder / "up.log"
    with process(command, ready=ready, log=log, env=environment) as up:
        deadline = time.monotonic() + 90
        while "ready in" not in log.read_text():
            if time.monotonic() > deadline or up.poll() is not None:
                raise RuntimeError(f"not ready: {log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield House(home, receiver, sandbox, up.pid)


async def _measure(place: House, product: Product) -> dict[str, Any]:
    bodies = await _bodies(place)
    await _adopted(place, len({key for key, _ in bodies}))
    total = int(MINUTES * 60 * RATE)
    ages: list[float] = []
    watching = asyncio.create_task(_watch(place, ages))
    sent: dict[int, float] = {}
    times = await _send(place, bodies, 0, total, rate=RATE, sent=sent)
    watching.cancel()
    await _drained(place)
    ways = await _handed_on(product, sent)
    consumers = place.consumers()
    for consumer in consumers:
        consumer.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    await _send(place, bodies, total, total + BACKLOG, rate=None)
    stored = time.monotonic() - began
    waiting = await _number(place, "SELECT count(*) FROM webhook_event WHERE status = 'pending'")
    began = time.monotonic()
    for consumer in consumers:
        consumer.send_signal(signal.SIGCONT)
    await _drained(place)
    drained = time.monotonic() - began
    applied = await _number(
        place,
        "SELECT count(*) FROM webhook_event"
        " WHERE status = 'processed' AND delivery_key LIKE '%load-%'",
    )
    if applied != total + BACKLOG:
        others = await _number(
            place,
            "SELECT group_concat(status || ' ' || n || ' ' || coalesce(error, ''), ', ') FROM"
            " (SELECT status, error, count(*) n FROM webhook_event GROUP BY status, error"
            " ORDER BY n DESC LIMIT 10)",
        )
        raise SystemExit(f"benchmarks.load: {applied} of {total + BACKLOG} applied ({others})")
    times.sort()
    return {
        "minutes": MINUTES,
        "a_second": RATE,
        "answer_p50_ms": 1000 * statistics.median(times),
        "answer_p99_ms": 1000 * times[int(len(times) * 0.99)],
        "answer_worst_ms": 1000 * times[-1],
        "forward_p50_s": percentile(ways, 0.5),
        "forward_p95_s": percentile(ways, 0.95),
        "forward_p99_s": percentile(ways, 0.99),
        "forward_worst_s": max(ways),
        "forward_repeated": product.repeated,
        "oldest_pending_s": max(ages),
        "oldest_pending_p99_s": sorted(ages)[int(len(ages) * 0.99)],
        "applied": applied,
        "backlog": waiting,
        "backlog_stored_a_second": BACKLOG / stored,
        "backlog_s": drained,
    }


async def _handed_on(product: Product, sent: dict[int, float]) -> list[float]:
    """Seconds of the way of each event from when it was to be sent until the product had it."""
    deadline = time.monotonic() + 300
    missing = set(sent)
    while missing := {number for number in missing if f"load-{number}" not in product.came}:
        if time.monotonic() > deadline:
            raise SystemExit(f"benchmarks.load: the product lacks {len(missing)} events")
        await asyncio.sleep(0.2)
    return [product.came[f"load-{number}"] - at for number, at in sent.items()]


async def _bodies(place: House) -> list[tuple[str, str]]:
    """Connections and records of theirs: (Makini's key, the record's key)."""
    import httpx

    records = []
    async with httpx.AsyncClient(base_url=place.sandbox, timeout=60) as http:
        listed = (await http.get("/_control/connections")).json()
        keys = [
            deployment["key"] for deployment in listed["data"] if deployment["state"] == "healthy"
        ]
        for key in keys:
            answer = await http.post(
                "/_control/records",
                json={
                    "connection": key,
                    "entity": "eam/assets",
                    "make": RECORDS,
                    "announce": False,
                },
            )
            [made] = answer.json()["records"][key].values()
            records += [(key, record) for record in made["made"]]
    return records


async def _adopted(place: House, count: int) -> None:
    """Wait for the first sweep: nothing is read for a connection without a token."""
    live = "SELECT count(*) FROM connection JOIN credential ON connection_id = connection.id"
    deadline = time.monotonic() + 300
    while await _number(place, live) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"benchmarks.load: {count} connections are not adopted")
        await asyncio.sleep(1)


async def _send(
    place: House,
    bodies: list[tuple[str, str]],
    start: int,
    end: int,
    *,
    rate: int | None,
    sent: dict[int, float] | None = None,
) -> list[float]:
    """Send events `start` to `end`, at `rate` a second; seconds each answer took.

    `sent` is told when each was to be sent.
    """
    numbers = iter(range(start, end))
    began = time.perf_counter()
    times: list[float] = []

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.receiver)
        for number in numbers:
            key, record = bodies[number * 7919 % len(bodies)]
            request = _request(number, key, record)
            due = began + (number - start) / rate if rate else time.perf_counter()
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if sent is not None:
                sent[number] = due
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"benchmarks.load: {head.splitlines()[0]!r}")
            times.append(time.perf_counter() - due)
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(SENDERS):
            group.create_task(work())
    return times


def _request(number: int, key: str, record: str) -> bytes:
    body = json.dumps({"id": f"load-{number}", "event": "assets.updated", "body": [record]})
    signature = hmac.new(SECRET, body.encode(), hashlib.sha256).hexdigest()
    return (
        f"POST /webhooks/default/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nX-Webhook-Signature: {signature}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def _watch(place: House, ages: list[float]) -> None:
    """Once a second, how old the oldest pending event is."""
    from datetime import datetime

    from linekeeper.clock import utcnow

    while True:
        oldest = await _number(
            place, "SELECT min(received_at) FROM webhook_event WHERE status = 'pending'"
        )
        ages.append((utcnow() - datetime.fromisoformat(oldest)).total_seconds() if oldest else 0.0)
        await asyncio.sleep(1)


async def _drained(place: House) -> None:
    pending = "SELECT count(*) FROM webhook_event WHERE status = 'pending'"
    deadline = time.monotonic() + 900
    while await _number(place, pending):
        if time.monotonic() > deadline:
            raise SystemExit("benchmarks.load: events are left after 15 minutes")
        await asyncio.sleep(0.2)


async def _number(place: House, statement: str) -> Any:
    from sqlalchemy import text

    from linekeeper.settings import Settings
    from linekeeper.store import Store

    settings = Settings(home=place.home, _env_file=None)
    async with Store.open(settings) as store, store.read() as session:
        return await session.scalar(text(statement))


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
