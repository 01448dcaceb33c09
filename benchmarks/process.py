"""Processing webhooks: ours beside procrastinate on the same PostgreSQL.

The same upsert with the same guarantees: each event reads a record (answered in process, so that
what is measured is the queue) and brings it into the index and the change feed once, in order for
each connection, in one transaction with the word that it is done. By turns, so that both meet the
same machine.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from benchmarks.peers import create_database, postgres

CONNECTIONS = 100
OURS = 4_000
PEERS = 400
ROUNDS = 3
SETTLED = 200_000
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
GOALS = {
    "of_procrastinate": 5.0,
    "linear_backlog": 1.5,
    "backlog_100k_s": 300.0,
}


def run() -> dict[str, Any]:
    """Events a second and the ratio, with the goals beside them."""
    with tempfile.TemporaryDirectory(prefix="linekeeper-process-") as name:
        folder = Path(name)
        with postgres(folder) as url:
            beside = asyncio.run(_beside_procrastinate(folder, url))
    return {**beside, "goals": GOALS}


async def _beside_procrastinate(folder: Path, server: str) -> dict[str, Any]:
    url = await create_database(server, "beside")
    async with _ours(folder, url) as rt, _procrastinate(url) as peer:
        await _drain(rt, await _deliver(rt, 500, "warm"))
        ratios, ours, theirs = [], [], []
        for number in range(ROUNDS):
            theirs.append(await peer(PEERS, f"r{number}"))
            ours.append(await _drain(rt, await _deliver(rt, OURS, f"r{number}")))
            ratios.append(ours[-1] / theirs[-1])
        await _settle_many(rt)
        large = await _drain(rt, await _deliver(rt, OURS, "large"))
    return {
        "of_procrastinate": round(statistics.median(ratios), 1),
        "per_second": round(statistics.median(ours)),
        "procrastinate_per_second": round(statistics.median(theirs)),
        "linear_backlog": round(statistics.median(ours) / large, 2),
        "backlog_100k_s": round(100_000 / large, 1),
    }


@asynccontextmanager
async def _ours(folder: Path, url: str) -> AsyncIterator[Any]:
    import httpx
    import orjson

    from linekeeper.access.tokens import save_tokens
    from linekeeper.clock import utcnow
    from linekeeper.config import AppConfig
    from linekeeper.makini import MakiniClient, TokenPair
    from linekeeper.orchestrator import Blocks
    from linekeeper.runtime import Runtime
    from linekeeper.settings import Settings
    from linekeeper.store import Store, new_id
    from linekeeper.store.configuration import save_blocks
    from linekeeper.store.migrate import migrate
    from linekeeper.store.tables import Connection

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
        home=folder, database_url=SecretStr(url), encryption_keys=(SecretStr(KEY),), _env_file=None
    )
    async with Store.open(settings) as store:
        await migrate(store)
    app = AppConfig(mode="manage", per_minute=0, api_url="http://makini.invalid")
    async with Runtime.open(settings) as rt:
        await save_blocks(rt.store, Blocks(apps=[app]), now=utcnow())
        async with rt.store.write() as session:
            for number in range(CONNECTIONS):
                session.add(
                    Connection(
                        id=new_id(),
                        app="default",
                        makini_key=f"c{number}",
                        name=f"C{number}",
                        slug=f"c{number}",
                        provider="SAP ECC",
                        setup="live",
                        health="healthy",
                    )
                )
        async with rt.store.write() as session:
            ids = await _ids(session)
            pairs = {one: TokenPair("token") for one in ids.values()}
            await save_tokens(rt.store, session, pairs, now=utcnow())
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            app = (await rt.configuration()).apps["default"]
            rt._clients[app.name] = (app, MakiniClient(app, client=client))
            yield rt


async def _ids(session: Any) -> dict[str, str]:
    from sqlmodel import select

    from linekeeper.store.tables import Connection

    rows = await session.execute(select(Connection.makini_key, Connection.id))
    return dict(map(tuple, rows))


def _record(key: str) -> dict[str, Any]:
    return {"key": key, "name": f"Pump {key}", "updatedAt": "2026-01-01T00:00:00Z"}


async def _deliver(rt: Any, count: int, prefix: str) -> int:
    """Store `count` record events as the receiver does, over all connections."""
    from linekeeper.clock import utcnow
    from linekeeper.inbox.delivery import make_delivery
    from linekeeper.inbox.identify import identify
    from linekeeper.inbox.intake import Intake
    from linekeeper.inbox.kinds import EventNames
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
            await asyncio.gather(*(intake.store(one) for one in deliveries))
    return count


async def _drain(rt: Any, count: int) -> float:
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


@asynccontextmanager
async def _procrastinate(url: str) -> AsyncIterator[Any]:
    """The same with procrastinate: a job for each event, a lock for each connection."""
    import asyncpg
    import procrastinate

    plain = url.replace("+asyncpg", "")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=plain, max_size=20))
    pool = await asyncpg.create_pool(plain, min_size=10, max_size=20)
    from uuid import UUID

    from linekeeper.store import new_id

    async with pool.acquire() as connection:
        rows = await connection.fetch("SELECT makini_key, id FROM connection")
        ids = {row[0]: row[1] for row in rows}
        await connection.execute(
            "CREATE TABLE peer_done (id text PRIMARY KEY, at timestamptz);"
            "CREATE TABLE peer_record (LIKE record INCLUDING ALL);"
            "CREATE TABLE peer_change (LIKE change INCLUDING ALL);"
            "CREATE TABLE peer_feed (LIKE feed INCLUDING ALL);"
        )

    @app.task(name="apply", pass_context=False)
    async def apply(event: str, who: str, key: str) -> None:
        record = _record(key)
        now = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
        at = datetime.fromisoformat(record["updatedAt"])
        async with pool.acquire() as connection, connection.transaction():
            done = await connection.fetchval(
                "INSERT INTO peer_done VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id",
                event,
                now,
            )
            if done is None:
                return
            seq = await connection.fetchval(
                "INSERT INTO peer_feed VALUES ($1, 1) ON CONFLICT (connection_id)"
                " DO UPDATE SET last_seq = peer_feed.last_seq + 1 RETURNING last_seq",
                ids[who],
            )
            newer = await connection.fetchval(
                "INSERT INTO peer_record (connection_id, entity, key, updated_at, hash, seen_at)"
                " VALUES ($1, 'eam/assets', $2, $3, $4, $5)"
                " ON CONFLICT (connection_id, entity, key) DO UPDATE SET"
                " updated_at = excluded.updated_at, hash = excluded.hash"
                " WHERE peer_record.updated_at < excluded.updated_at RETURNING key",
                ids[who],
                key,
                at,
                str(hash(json.dumps(record))),
                now,
            )
            if newer:
                await connection.execute(
                    "INSERT INTO peer_change (id, connection_id, seq, entity, key, op, updated_at,"
                    " at, source, recovered)"
                    " VALUES ($1, $2, $3, 'eam/assets', $4, 'inserted', $5, $6, 'webhook', false)",
                    UUID(new_id()),
                    ids[who],
                    seq,
                    key,
                    at,
                    now,
                )

    async def go(count: int, prefix: str) -> float:
        for start in range(0, count, 15):
            async with asyncio.TaskGroup() as group:
                for number in range(start, min(start + 15, count)):
                    who, key = f"c{number % CONNECTIONS}", f"{prefix}{number:07d}"
                    deferrer = apply.configure(lock=who)
                    group.create_task(
                        deferrer.defer_async(event=f"{prefix}-{number}", who=who, key=key)
                    )
        began = time.perf_counter()
        await app.run_worker_async(wait=False, concurrency=50, install_signal_handlers=False)
        seconds = time.perf_counter() - began
        async with pool.acquire() as connection:
            done = await connection.fetchval(
                "SELECT count(*) FROM peer_change WHERE key LIKE $1 || '%'", prefix
            )
        if done != count:
            raise SystemExit(f"benchmarks.process: procrastinate did {done} of {count}")
        return count / seconds

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        try:
            yield go
        finally:
            await pool.close()


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
