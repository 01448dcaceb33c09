"""Long runs (`make soak`): flat memory over a million deliveries, and a constant cost per event.

They say what they saw; `SOAK_DELIVERIES`, `SOAK_REQUESTS` and `SOAK_ROWS` make them shorter.
"""

import asyncio
import hashlib
import hmac
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import func, insert, select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Connection, WebhookEvent
from tests.inbox.process.stage import Stage, about
from tests.receiver.conftest import SECRET
from tests.receiver.processes import part
from tests.receiver.rough import send_all

pytestmark = pytest.mark.soak

DELIVERIES = int(os.environ.get("SOAK_DELIVERIES", "1000000"))
ROWS = int(os.environ.get("SOAK_ROWS", "1000000"))
REQUESTS = int(os.environ.get("SOAK_REQUESTS", "100000"))
AT_ONCE = 50_000
SENDER = (sys.executable, "-m", "benchmarks.sender")


async def test_a_receivers_memory_is_flat_whatever_it_has_taken(
    settings: Settings, tmp_path: Path
) -> None:
    sizes = []
    async with part("receiver", settings, tmp_path / "receiver.log") as receiver:
        process = psutil.Process(receiver.process.pid)
        for start in range(0, DELIVERIES, AT_ONCE):
            await asyncio.to_thread(push, receiver.url, tmp_path / "load.raw", start)
            sizes.append(process.memory_info().rss / 1e6)
    async with Store.open(settings) as store, store.read() as session:
        rows = await session.scalar(select(func.count()).select_from(WebhookEvent))
    print(
        f"\nreceiver: {rows:,} deliveries, {sizes[0]:.0f} MB after the first {AT_ONCE:,}, "
        f"{max(sizes):.0f} MB at most"
    )
    assert rows == len(sizes) * AT_ONCE
    assert max(sizes) < sizes[0] + 25


async def test_a_hundred_thousand_rough_requests_cost_no_place_and_no_memory(
    settings: Settings, tmp_path: Path
) -> None:
    sizes = []
    answers: Counter[int] = Counter()
    async with part("receiver", settings, tmp_path / "receiver.log") as receiver:
        process = psutil.Process(receiver.process.pid)
        port = int(receiver.url.rpartition(":")[2])
        for number in range(10):
            answers += await send_all(port, random.Random(number), REQUESTS // 10)
            sizes.append(process.memory_info().rss / 1e6)
        async with httpx.AsyncClient(base_url=receiver.url, timeout=60) as http:
            assert (await http.get("/readyz")).status_code == 200
        async with asyncio.timeout(30):
            while process.net_connections():
                if {held.status for held in process.net_connections()} <= {psutil.CONN_LISTEN}:
                    break
                await asyncio.sleep(0.5)
    print(f"\nrough requests: {dict(answers)}; {sizes[0]:.0f} MB first, {max(sizes):.0f} at most")
    assert answers[500] == 0
    assert max(sizes) < sizes[0] + 25
    said = (tmp_path / "receiver.log").read_text()
    for trouble in ("Traceback", "a request failed"):  # an answer that came late was not counted
        assert trouble not in said, said[said.index(trouble) :][:3_000]


def push(url: str, file: Path, first: int) -> None:
    """`AT_ONCE` signed deliveries, each different, 64 at once."""
    length = 0
    with file.open("wb") as load:
        for number in range(first, first + AT_ONCE):
            body = b'{"event":"assets.updated","id":"evt_%09d","connection_id":"c1"}' % number
            signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest().encode()
            raw = (
                b"POST /webhooks/default HTTP/1.1\r\nHost: x\r\nX-Webhook-Signature: %b\r\n"
                b"Content-Length: %d\r\n\r\n%b"
            ) % (signature, len(body), body)
            length = len(raw)
            load.write(raw)
    done = subprocess.run(
        [*SENDER, url, "600", str(file), str(length), "0", os.devnull],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.rpartition("RESULT ")[2])
    assert (said["requests"], said["not_200"]) == (AT_ONCE, 0)


async def test_an_event_costs_the_same_whatever_was_settled_before(settings: Settings) -> None:
    async with Runtime.open(settings.model_copy(update={"makini_api_url": "http://x"})) as rt:
        connections = [
            Connection(
                id=new_id(),
                app="default",
                makini_key=f"c{number}",
                makini_id=f"c{number}",
                name=f"C{number}",
                slug=f"c{number}",
                provider="UpKeep",
                setup="live",
                health="healthy",
            )
            for number in range(50)
        ]
        async with rt.store.write() as session:
            session.add_all(connections)
        stage = Stage(rt, None, None, connections)  # type: ignore[arg-type]  # no Makini is asked
        await cost(stage)
        await settled(rt, connections[0].id, 10_000)
        few = min([await cost(stage) for _ in range(6)])
        await settled(rt, connections[0].id, ROWS)
        many = min([await cost(stage) for _ in range(6)])
        print(
            f"\nconsumer: {1e3 * few:.2f} ms an event with 10,000 rows before it, "
            f"{1e3 * many:.2f} ms with {ROWS:,}"
        )
        assert many < 2 * few


async def cost(stage: Stage, count: int = 2_000) -> float:
    """Seconds for each of `count` events about connections."""
    now = utcnow() - timedelta(seconds=1)
    await stage.deliver_all(
        [
            (about(connection, "connection.status_changed", now, to="online"), None)
            for connection in stage.connections * (count // len(stage.connections))
        ]
    )
    began = time.perf_counter()
    while await process_connection_events(stage.rt):
        pass
    seconds = (time.perf_counter() - began) / count
    assert {event.status for event in await pending(stage)} == set()
    return seconds


async def pending(stage: Stage) -> list[WebhookEvent]:
    async with stage.rt.store.read() as session:
        waiting = col(WebhookEvent.status) == "pending"
        return list(await session.scalars(select(WebhookEvent).where(waiting)))


async def settled(rt: Runtime, connection_id: str, count: int) -> None:
    """As if so many events had been applied before."""
    now = utcnow()
    for start in range(0, count, 5_000):
        rows = [
            {
                "id": new_id(),
                "app": "default",
                "delivery_key": f"old-{count}-{start + number}",
                "source": "webhook",
                "status": "processed",
                "connection_id": connection_id,
                "kind": "record.updated",
                "entity": "eam/assets",
                "ordering_key": "default/c0",
                "rank": 1,
                "received_at": now,
                "next_attempt_at": now,
                "processed_at": now,
                "attempts": 1,
                "body": b"{}",
            }
            for number in range(5_000)
        ]
        async with rt.store.write() as session:
            await session.execute(insert(WebhookEvent), rows)
