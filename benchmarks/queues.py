"""Two job queues on PostgreSQL, each job with the effects that a record event of ours has."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

NOW = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
Run = Callable[..., Awaitable[float]]
"""Does so many jobs with keys that begin so; returns how many a second."""


class _Effects:
    """The tables of a peer, and what one of its jobs does, in one transaction."""

    def __init__(self, pool: Any, prefix: str, ids: dict[str, str]) -> None:
        self._pool = pool
        self._prefix = prefix
        self._ids = ids

    @classmethod
    async def prepare(cls, pool: Any, prefix: str) -> "_Effects":
        async with pool.acquire() as connection:
            rows = await connection.fetch("SELECT makini_key, id FROM connection")
            await connection.execute(
                f"CREATE TABLE {prefix}_done (id text PRIMARY KEY, at timestamptz);"
                f"CREATE TABLE {prefix}_record (LIKE record INCLUDING ALL);"
                f"CREATE TABLE {prefix}_change (LIKE change INCLUDING ALL);"
                f"CREATE TABLE {prefix}_feed (LIKE feed INCLUDING ALL);"
            )
        return cls(pool, prefix, {row[0]: row[1] for row in rows})

    async def apply(self, event: str, who: str, key: str) -> None:
        from linekeeper.store import new_id

        record = {"key": key, "name": f"Pump {key}", "updatedAt": "2026-01-01T00:00:00Z"}
        prefix = self._prefix
        async with self._pool.acquire() as connection, connection.transaction():
            done = await connection.fetchval(
                f"INSERT INTO {prefix}_done VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id",
                event,
                NOW,
            )
            if done is None:
                return
            seq = await connection.fetchval(
                f"INSERT INTO {prefix}_feed VALUES ($1, 1) ON CONFLICT (connection_id)"
                f" DO UPDATE SET last_seq = {prefix}_feed.last_seq + 1 RETURNING last_seq",
                self._ids[who],
            )
            newer = await connection.fetchval(
                f"INSERT INTO {prefix}_record"
                " (connection_id, entity, key, updated_at, hash, seen_at)"
                " VALUES ($1, 'eam/assets', $2, $3, $4, $5)"
                " ON CONFLICT (connection_id, entity, key) DO UPDATE SET"
                " updated_at = excluded.updated_at, hash = excluded.hash"
                f" WHERE {prefix}_record.updated_at < excluded.updated_at RETURNING key",
                self._ids[who],
                key,
                datetime.fromisoformat(record["updatedAt"]),
                str(hash(json.dumps(record))),
                NOW,
            )
            if newer:
                await connection.execute(
                    f"INSERT INTO {prefix}_change (id, connection_id, seq, entity, key, op,"
                    " updated_at, at, source, recovered)"
                    " VALUES ($1, $2, $3, 'eam/assets', $4, 'inserted', $5, $6, 'webhook', false)",
                    UUID(new_id()),
                    self._ids[who],
                    seq,
                    key,
                    NOW,
                    NOW,
                )

    async def verify(self, count: int, prefix: str) -> None:
        async with self._pool.acquire() as connection:
            done = await connection.fetchval(
                f"SELECT count(*) FROM {self._prefix}_change WHERE key LIKE $1 || '%'", prefix
            )
        if done != count:
            raise SystemExit(f"benchmarks.process: {self._prefix} did {done} of {count}")


@asynccontextmanager
async def procrastinate(url: str, connections: int) -> AsyncIterator[Run]:
    """A job for each event, a lock for each connection."""
    import asyncpg
    import procrastinate

    plain = url.replace("+asyncpg", "")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=plain, max_size=20))
    pool = await asyncpg.create_pool(plain, min_size=10, max_size=20)
    effects = await _Effects.prepare(pool, "procrastinate_peer")

    @app.task(name="apply", pass_context=False)
    async def apply(event: str, who: str, key: str) -> None:
        await effects.apply(event, who, key)

    async def go(count: int, prefix: str) -> float:
        for start in range(0, count, 15):
            async with asyncio.TaskGroup() as group:
                for number in range(start, min(start + 15, count)):
                    who, key = f"c{number % connections}", f"{prefix}{number:07d}"
                    deferrer = apply.configure(lock=who)
                    group.create_task(
                        deferrer.defer_async(event=f"{prefix}-{number}", who=who, key=key)
                    )
        began = time.perf_counter()
        await app.run_worker_async(wait=False, concurrency=50, install_signal_handlers=False)
        seconds = time.perf_counter() - began
        await effects.verify(count, prefix)
        return count / seconds

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        try:
            yield go
        finally:
            await pool.close()


@asynccontextmanager
async def pgqueuer(url: str, connections: int) -> AsyncIterator[Run]:
    """A job for each event, all side by side: it has no order for each connection."""
    import asyncpg
    from pgqueuer import PgQueuer
    from pgqueuer.db import AsyncpgPoolDriver
    from pgqueuer.models import Job
    from pgqueuer.queries import Queries
    from pgqueuer.types import QueueExecutionMode

    plain = url.replace("+asyncpg", "")
    own = await asyncpg.create_pool(plain, min_size=5, max_size=10)
    pool = await asyncpg.create_pool(plain, min_size=10, max_size=20)
    effects = await _Effects.prepare(pool, "pgqueuer_peer")
    queries = Queries(AsyncpgPoolDriver(own))
    await queries.install()

    async def go(count: int, prefix: str, batch: int) -> float:
        jobs: list[bytes | None] = [
            json.dumps(
                {
                    "event": f"{prefix}-{number}",
                    "who": f"c{number % connections}",
                    "key": f"{prefix}{number:07d}",
                }
            ).encode()
            for number in range(count)
        ]
        await queries.enqueue(["apply"] * count, jobs, [0] * count)
        worker = PgQueuer(AsyncpgPoolDriver(own))

        @worker.entrypoint("apply")
        async def apply(job: Job) -> None:
            await effects.apply(**json.loads(job.payload or b"{}"))

        began = time.perf_counter()
        await worker.qm.run(mode=QueueExecutionMode.drain, batch_size=batch)
        seconds = time.perf_counter() - began
        await effects.verify(count, prefix)
        return count / seconds

    try:
        yield go
    finally:
        await pool.close()
        await own.close()
