"""A healthy connection's events beside sixty connections that hang.

The real receiver and consumer as processes. Makini answers for forty connections and lets sixty
wait; each of those has events all the time. Timed is the way of an event of a healthy connection,
from its POST until the product has it; by turns with the same events where nothing hangs.
"""

import asyncio
import hashlib
import hmac
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.peers import BIN, create_database, free_port, postgres, process
from benchmarks.product import SECRET, Product, listening, percentile

HANGING, HEALTHY = 60, 40
A_SECOND = 20
SECONDS = 10
ROUNDS = 5
DRAIN_SECONDS = 120
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
GOALS = {
    "sqlite_p95_s": 1.0,
    "sqlite_worst_s": 2.0,
    "postgresql_p95_s": 1.0,
    "postgresql_worst_s": 2.0,
}


def run() -> dict[str, Any]:
    """Seconds of the way, and how much longer it is than where nothing hangs."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="linekeeper-fair-") as name:
        folder = Path(name)
        with postgres(folder) as server:
            for kind in ("sqlite", "postgresql"):
                measured = asyncio.run(_measure(folder / f"home-{kind}", kind, server))
                figures |= {f"{kind}_{name}": round(value, 3) for name, value in measured.items()}
    return {**figures, "goals": GOALS}


async def _measure(home: Path, kind: str, server: str) -> dict[str, float]:
    home.mkdir(mode=0o700)
    url = f"sqlite+aiosqlite:///{home / 'linekeeper.db'}"
    if kind == "postgresql":
        url = await create_database(server, "fair")
    hangs = asyncio.Event()
    async with _makini(hangs) as makini, listening() as product:
        port = free_port()
        environment = {
            "LINEKEEPER_HOME": str(home),
            "LINEKEEPER_DATABASE_URL": url,
            "LINEKEEPER_ENCRYPTION_KEYS": KEY,
            "LINEKEEPER_PREFECT_PORT": "1",
            "LINEKEEPER_RECEIVER_PORT": str(port),
            "LINEKEEPER_MAKINI_API_URL": makini,
            "LINEKEEPER_MAKINI_CLIENT_ID": "id",
            "LINEKEEPER_MAKINI_CLIENT_SECRET": "secret",
            "LINEKEEPER_MAKINI_MODE": "manage",
            "LINEKEEPER_MAKINI_PER_MINUTE": "0",
            "LINEKEEPER_MAKINI_WEBHOOK_SECRETS": "benchmark",
            "LINEKEEPER_FORWARD_URL": product.url,
            "LINEKEEPER_FORWARD_SECRET": SECRET,
        }
        await _prepare(home, url)
        with _part("receiver", home, environment, port), _part("consumer", home, environment, port):
            alone: list[list[float]] = []
            beside: list[list[float]] = []
            await _round(port, product, "warm", seconds=1)
            for number in range(ROUNDS):
                alone.append(await _round(port, product, f"alone{number}"))
                hangs.set()
                beside.append(await _round(port, product, f"beside{number}"))
                hangs.clear()
    p95 = [percentile(seconds, 0.95) for seconds in beside]
    p95_alone = [percentile(seconds, 0.95) for seconds in alone]
    return {
        "p95_s": statistics.median(p95),
        "worst_s": statistics.median(max(seconds) for seconds in beside),
        "worst_of_all_rounds_s": max(max(seconds) for seconds in beside),
        "alone_p95_s": statistics.median(p95_alone),
        "beside_to_alone": statistics.median(
            mine / other for mine, other in zip(p95, p95_alone, strict=True)
        ),
    }


def _part(name: str, home: Path, environment: dict[str, str], port: int) -> Any:
    ready = f"http://127.0.0.1:{port}/healthz"
    command = [str(BIN / "linekeeper"), name]
    return process(command, ready=ready, log=home / f"{name}.log", env=environment)


async def _round(
    port: int, product: Product, prefix: str, *, seconds: int = SECONDS
) -> list[float]:
    """Seconds of the way of each event of a healthy connection."""
    import httpx

    sent: dict[str, float] = {}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:

        async def post(identity: str, connection: int) -> None:
            body = json.dumps({"id": identity, "event": "assets.updated", "body": [identity]})
            signature = hmac.new(b"benchmark", body.encode(), hashlib.sha256).hexdigest()
            answer = await http.post(
                f"/webhooks/default/c{connection}",
                content=body,
                headers={"x-webhook-signature": signature},
            )
            answer.raise_for_status()

        posting = [
            asyncio.create_task(post(f"{prefix}-first{number}-{n}", number))
            for number in range(HANGING)
            for n in range(3)
        ]
        await asyncio.gather(*posting)
        began = time.perf_counter()
        for number in range(A_SECOND * seconds):
            await asyncio.sleep(max(0.0, began + number / A_SECOND - time.perf_counter()))
            identity = f"{prefix}-{number}"
            sent[identity] = time.perf_counter()
            posting.append(asyncio.create_task(post(identity, HANGING + number % HEALTHY)))
            if number % (2 * A_SECOND) == 0:
                posting += [
                    asyncio.create_task(post(f"{prefix}-more{hanging}-{number}", hanging))
                    for hanging in range(HANGING)
                ]
        await asyncio.gather(*posting)
    deadline = time.perf_counter() + DRAIN_SECONDS
    while not sent.keys() <= product.came.keys():
        if time.perf_counter() > deadline:
            missing = len(sent.keys() - product.came.keys())
            raise SystemExit(
                f"benchmarks.fair: {missing} events of healthy connections are missing"
            )
        await asyncio.sleep(0.05)
    return [product.came[identity] - at for identity, at in sent.items()]


@asynccontextmanager
async def _makini(hangs: asyncio.Event) -> AsyncIterator[str]:
    """Answers any record that is asked for; to sixty connections not while it `hangs`."""
    hanging = {f"token-c{number}" for number in range(HANGING)}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, _, fields = head.partition("\r\n")
                token = fields.lower().partition("authorization: bearer ")[2].split("\r\n")[0]
                while token in hanging and hangs.is_set():
                    await asyncio.sleep(0.5)
                where = urlsplit(line.split(" ")[1])
                wanted = parse_qs(where.query).get("filter[key]")
                if wanted is None:
                    data: Any = _record(unquote(where.path.rpartition("/")[2]))
                    body = json.dumps({"data": data})
                else:
                    data = [_record(key) for key in wanted]
                    body = json.dumps({"data": data, "meta": {"last_page": 1}})
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(body), body.encode())
                )
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def _record(key: str) -> dict[str, Any]:
    return {"key": key, "name": key, "updatedAt": "2026-01-01T00:00:00Z"}


async def _prepare(home: Path, url: str) -> None:
    from benchmarks.plain import healthy_connections
    from linekeeper.clock import utcnow
    from linekeeper.makini import TokenPair
    from linekeeper.settings import Settings
    from linekeeper.store import Store
    from linekeeper.store.migrate import migrate
    from linekeeper.tokens.stored import save_tokens

    settings = Settings(home=home, database_url=url, encryption_keys=KEY, _env_file=None)
    connections = healthy_connections(HANGING + HEALTHY)
    pairs = {
        connection.id: TokenPair(f"token-{connection.makini_key}") for connection in connections
    }
    async with Store.open(settings) as store:
        await migrate(store)
        async with store.write() as session:
            session.add_all(connections)
            await session.flush()
            await save_tokens(store, session, pairs, now=utcnow())


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
