"""Processing webhooks: ours beside procrastinate and pgqueuer on the same PostgreSQL.

The same upsert with the same guarantees: each event reads a record (answered in process, so that
what is measured is the queue) and brings it into the index and the change feed once, in one
transaction with the word that it is done; ours and procrastinate in order for each connection,
which pgqueuer has no means for. By turns, so that all meet the same machine.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from benchmarks.peers import create_database, postgres
from benchmarks.queues import pgqueuer, procrastinate

CONNECTIONS = 100
OURS = 4_000
PROCRASTINATE = 400
PGQUEUER = 2_000
BATCHES = (10, 50, 100, 200, 500)
"""Of pgqueuer: the best of them is what ours is compared with."""
ROUNDS = 5
SETTLED = 200_000
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
GOALS = {
    "of_pgqueuer": 1.0,
    "of_procrastinate": 10.0,
    "linear_backlog": 1.5,
    "backlog_100k_s": 300.0,
}


def run() -> dict[str, Any]:
    """Events a second and the ratio, with the goals beside them."""
    with tempfile.TemporaryDirectory(prefix="linekeeper-process-") as name:
        folder = Path(name)
        with postgres(folder) as url:
            beside = asyncio.run(_beside_peers(folder, url))
    return {**beside, "goals": GOALS}


async def _beside_peers(folder: Path, server: str) -> dict[str, Any]:
    url = await create_database(server, "beside")
    async with (
        linekeeper_on(folder, url) as rt,
        procrastinate(url, CONNECTIONS) as other,
        pgqueuer(url, CONNECTIONS) as third,
    ):
        await drain(rt, await deliver(rt, 500, "warm"))
        batches = {size: await third(PGQUEUER, f"b{size}-", size) for size in BATCHES}
        batch = max(batches, key=lambda size: batches[size])
        ours, procrastinates, pgqueuers = [], [], []
        for number in range(ROUNDS):
            procrastinates.append(await other(PROCRASTINATE, f"r{number}-"))
            pgqueuers.append(await third(PGQUEUER, f"r{number}-", batch))
            ours.append(await drain(rt, await deliver(rt, OURS, f"r{number}-")))
        await _settle_many(rt)
        large = await drain(rt, await deliver(rt, OURS, "large"))
    return {
        "of_pgqueuer": round(_median_ratio(ours, pgqueuers), 2),
        "of_procrastinate": round(_median_ratio(ours, procrastinates), 1),
        "per_second": round(statistics.median(ours)),
        "pgqueuer_per_second": round(statistics.median(pgqueuers)),
        "pgqueuer_batch": batch,
        "procrastinate_per_second": round(statistics.median(procrastinates)),
        "linear_backlog": round(statistics.median(ours) / large, 2),
        "backlog_100k_s": round(100_000 / large, 1),
    }


def _median_ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


@asynccontextmanager
async def linekeeper_on(folder: Path, url: str, **forward: Any) -> AsyncIterator[Any]:
    """Linekeeper on the database `url`, with connections; `forward` says to whom it forwards."""
    import httpx
    import orjson

    from benchmarks.plain import healthy_connections
    from linekeeper.clock import utcnow
    from linekeeper.config import AppConfig
    from linekeeper.makini import MakiniClient, TokenPair
    from linekeeper.orchestrator import Blocks
    from linekeeper.runtime import Runtime
    from linekeeper.settings import Settings
    from linekeeper.store import Store
    from linekeeper.store.configuration import save_blocks
    from linekeeper.store.migrate import migrate
    from linekeeper.tokens.stored import save_tokens

    def answer(request: httpx.Request) -> httpx.Response:
        keys = request.url.params.get_list("filter[key]")
        keys = keys or [request.url.path.rpartition("/")[2]]
        records = [_record(key) for key in keys]
        if request.url.path.count("/") > 3:
            return httpx.Response(200, content=orjson.dumps({"data": records[0]}))
        return httpx.Response(
            200, content=orjson.dumps({"data": records, "meta": {"last_page": 1}})
        )

    settings = Settings(
        home=folder / "home",
        database_url=SecretStr(url),
        encryption_keys=(SecretStr(KEY),),
        _env_file=None,
    )
    async with Store.open(settings) as store:
        await migrate(store)
    app = AppConfig(mode="manage", per_minute=0, api_url="http://makini.invalid", **forward)
    async with Runtime.open(settings) as rt:
        await save_blocks(rt.store, Blocks(apps=[app]), now=utcnow())
        async with rt.store.write() as session:
            session.add_all(healthy_connections(CONNECTIONS))
        async with rt.store.write() as session:
            ids = await _ids(session)
            pairs = {identifier: TokenPair("token") for identifier in ids.values()}
            await save_tokens(rt.store, session, pairs, now=utcnow())
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            app = (await rt.configuration()).apps["default"]
            rt._clients[app.name, False] = (app, MakiniClient(app, client=client))
            yield rt


async def _ids(session: Any) -> dict[str, str]:
    from sqlmodel import select

    from linekeeper.store.tables import Connection

    rows = await session.execute(select(Connection.makini_key, Connection.id))
    return dict(map(tuple, rows))


def _record(key: str) -> dict[str, Any]:
    return {"key": key, "name": f"Pump {key}", "updatedAt": "2026-01-01T00:00:00Z"}


async def deliver(rt: Any, count: int, prefix: str) -> int:
    """Store `count` record events as the receiver does, over all connections."""
    from linekeeper.clock import utcnow
    from linekeeper.inbox.identify import identify, make_delivery
    from linekeeper.inbox.intake import Intake
    from linekeeper.inbox.meaning import EventNames
    from linekeeper.store import new_id

    names = EventNames(("eam/assets",), {})
    async with Intake.open(rt.store) as intake:
        for start in range(0, count, 1_000):
            deliveries = []
            for number in range(start, min(start + 1_000, count)):
                now = utcnow()
                body = json.dumps(
                    {
                        "id": f"{prefix}-{number}",
                        "event": "assets.updated",
                        "body": [f"{prefix}{number:07d}"],
                    }
                ).encode()
                who = f"c{number % CONNECTIONS}"
                identity = identify("default", names, {}, who, body, now=now)
                deliveries.append(
                    make_delivery(new_id(), "default", identity, body, received_at=now)
                )
            await asyncio.gather(*(intake.store(delivery) for delivery in deliveries))
    return count


async def drain(rt: Any, count: int) -> float:
    """Apply what is there; events a second. Verifies that each was applied, once."""
    from sqlalchemy import text

    from linekeeper.consumer.record_events import process_record_events

    before = await _count(rt, "SELECT count(*) FROM change")
    began = time.perf_counter()
    while await process_record_events(rt):
        pass
    seconds = time.perf_counter() - began
    applied = await _count(rt, "SELECT count(*) FROM change") - before
    async with rt.store.read() as session:
        left = await session.scalar(
            text("SELECT count(*) FROM webhook_event WHERE status <> 'processed'")
        )
    if applied != count or left:
        raise SystemExit(f"benchmarks.process: {applied} of {count} applied, {left} left")
    return count / seconds


async def _count(rt: Any, statement: str) -> int:
    from sqlalchemy import text

    async with rt.store.read() as session:
        return int(await session.scalar(text(statement)) or 0)


async def _settle_many(rt: Any) -> None:
    """As if `SETTLED` more events had been applied before."""
    from sqlalchemy import text

    async with rt.store.write() as session:
        await session.execute(
            text(
                "INSERT INTO webhook_event (id, app, delivery_key, source, status, kind, entity,"
                " lane, rank, received_at, next_attempt_at, attempts, processed_at, body)"
                " SELECT gen_random_uuid(), app, 'old-' || n, source, status, kind, entity, lane,"
                " rank, received_at, next_attempt_at, attempts, processed_at, body"
                f" FROM generate_series(1, {SETTLED}) n,"
                " (SELECT * FROM webhook_event LIMIT 1) one"
            )
        )
    async with rt.store.engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(text("ANALYZE webhook_event"))


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
