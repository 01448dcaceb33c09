"""Reconciling beside its limits: a bare insert, a bare download, an unchanged fleet, two workers.

All against the sandbox over loopback. Ratios are of two measurements in the same run.
"""

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.peers import BIN, create_database, figures_of, free_port, postgres, process

RECORDS = int(os.environ.get("BENCH_RECORDS", "1000000"))
ROWS, MERGED, BATCH, ROUNDS = 20_000, 1_000, 500, 5
FLEET, SMALL, LARGE = 16, 200, 4_000
SHARED, DELAY_MS = 64, 300
KEY = "LvnFJyaRMLl_GlESbT2b5VtjIKCEjxYyKIaHRGFmYyk="
ENTITIES = "eam/work-orders,eam/assets,eam/sites,erp/purchase-orders"
GOALS = {
    "sqlite_upsert_of_bare_insert": 0.5,
    "sqlite_upsert_of_merge": 10.0,
    "postgresql_upsert_of_bare_insert": 0.5,
    "postgresql_upsert_of_merge": 10.0,
    "full_load_of_bare_loop": 0.7,
    "full_load_peak_mb": 300.0,
    "linear_full_load_peak": 1.5,
    "linear_nothing_requests": 1.0,
    "linear_nothing_writes": 0.0,
    "linear_nothing_by_records": 1.5,
    "linear_two_workers": 0.6,
}


def run() -> dict[str, Any]:
    """The figures, with the goals beside them."""
    with tempfile.TemporaryDirectory(prefix="linekeeper-reconcile-") as name:
        folder = Path(name)
        figures: dict[str, Any] = {}
        with postgres(folder) as url:
            figures |= _upserts(folder, url)
            figures |= _two_workers(folder, url)
        figures |= _nothing(folder)
        figures |= _full_load(folder)
    return figures | {"goals": GOALS}


def _upserts(folder: Path, postgres_url: str) -> dict[str, float]:
    figures = {}
    for engine, url in (("sqlite", ""), ("postgresql", postgres_url)):
        home = folder / f"upsert-{engine}"
        rates = figures_of("benchmarks.reconcile", "upserts", _env(home, "http://127.0.0.1:9", url))
        figures[f"{engine}_upserts_a_second"] = rates["upsert"]
        figures[f"{engine}_upsert_of_bare_insert"] = rates["of_bare"]
        figures[f"{engine}_upsert_of_merge"] = rates["upsert"] / rates["merge"]
    return figures


def _nothing(folder: Path) -> dict[str, float]:
    """A fleet in which nothing changed: calls, writes, seconds, with few and with many records."""
    seconds, figures = {}, {}
    for records in (SMALL, LARGE):
        with sandbox(folder, connections=FLEET, records=records) as url:
            home = folder / f"nothing-{records}"
            measured = figures_of("benchmarks.reconcile", "nothing", _env(home, url, ""))
            seconds[records] = measured["seconds"]
            figures = measured
    return {
        "nothing_fleet": FLEET,
        "nothing_seconds": seconds[LARGE],
        "linear_nothing_requests": figures["requests"] / figures["entities"],
        "linear_nothing_writes": figures["writes"],
        "linear_nothing_by_records": seconds[LARGE] / seconds[SMALL],
    }


def _full_load(folder: Path) -> dict[str, float]:
    """The first listing of one connection, beside a loop that throws the same pages away."""
    tenth, peak = 0.0, 0.0
    ours: dict[str, float] = {}
    bare: dict[str, float] = {}
    for records in (RECORDS // 10, RECORDS):
        with sandbox(folder, connections=1, records=records) as url:
            home = folder / f"load-{records}"
            ours = figures_of("benchmarks.reconcile", "load", _env(home, url, ""))
            bare = figures_of("benchmarks.reconcile", "bare", _env(home, url, ""))
            tenth, peak = peak, ours["peak_mb"]
    return {
        "full_load_records": ours["records"],
        "full_load_seconds": ours["seconds"],
        "full_load_bare_loop_seconds": bare["seconds"],
        "full_load_of_bare_loop": bare["seconds"] / ours["seconds"],
        # Processor time a record, which also says something where others have the machine.
        "full_load_us": ours["cpu"] / ours["records"] * 1e6,
        "full_load_in_event_loop_us": ours["cpu_in_loop"] / ours["records"] * 1e6,
        "full_load_bare_loop_us": bare["cpu"] / bare["records"] * 1e6,
        "full_load_peak_mb": peak,
        "linear_full_load_peak": peak / tenth,
    }


def _two_workers(folder: Path, postgres_url: str) -> dict[str, float]:
    """One worker and two on PostgreSQL, with a source that takes its time."""
    with sandbox(folder, connections=SHARED, records=SMALL, latency_ms=DELAY_MS) as url:
        env = _env(folder / "shared", url, postgres_url, database="shared")
        figures_of("benchmarks.reconcile", "prepare", env)
        single = statistics.median(_together(env, 1) for _ in range(3))
        two = statistics.median(_together(env, 2) for _ in range(3))
    return {
        "one_worker_seconds": single,
        "two_workers_seconds": two,
        "linear_two_workers": two / single,
    }


def _together(env: dict[str, str], workers: int) -> float:
    """Seconds until all of so many workers are through one run they share."""
    command = [sys.executable, "-m", "benchmarks.reconcile", "worker"]
    children = [
        subprocess.Popen(
            [*command, str(number)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(workers)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "ready"
    begin = time.perf_counter()
    for child in children:
        assert child.stdin is not None
        child.stdin.write(f"{time.time()}\n")
        child.stdin.flush()
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()  # "done", or nothing where it failed
    seconds = time.perf_counter() - begin
    codes = [child.wait() for child in children]
    if any(codes):
        raise RuntimeError(f"workers ended with {codes}")
    return seconds


# In a process of its own


async def _prepare() -> dict[str, float]:
    async with _adopted() as rt:
        await _run(rt)
    return {}


async def _worker(shard: str) -> None:
    from datetime import UTC, datetime

    from linekeeper.reconcile.run import reconcile
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt:
        await rt.configuration()
        print("ready", flush=True)
        said = await asyncio.to_thread(sys.stdin.readline)
        started = datetime.fromtimestamp(float(said), UTC)
        run = await reconcile(rt, shard=shard, started=started)
        if run.failures:
            raise RuntimeError(run.failures[0].message)
        print("done", flush=True)


async def _nothing_changed() -> dict[str, float]:
    from sqlalchemy import event
    from sqlmodel import col, func, select

    from linekeeper.store.tables import Watermark

    async with _adopted() as rt:
        await _run(rt)
        await _run(rt)
        control = f"{(await rt.app('default')).api_url}/_control/calls"
        async with httpx.AsyncClient() as http:
            async with rt.store.read() as session:
                entities = await session.scalar(
                    select(func.count()).select_from(Watermark).where(col(Watermark.offered))
                )
            writes = 0

            def look(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
                nonlocal writes
                verb, *rest = statement.replace('"', "").split()
                tables = ("record", "change", "feed", "drift", "deletion", "outbox")
                writes += verb in ("INSERT", "UPDATE", "DELETE") and any(
                    word in tables for word in rest[:2]
                )

            event.listen(rt.store.engine.sync_engine, "before_cursor_execute", look)
            await http.delete(control)
            times = []
            for _ in range(ROUNDS):
                begin = time.perf_counter()
                await _run(rt)
                times.append(time.perf_counter() - begin)
            calls = (await http.get(control)).json()["total"]
    return {
        "seconds": statistics.median(times),
        "requests": calls / ROUNDS,
        "entities": float(entities or 0),
        "writes": float(writes),
    }


async def _load() -> dict[str, float]:
    async with _adopted() as rt:
        begin, all_before, loop_before = (
            time.perf_counter(),
            time.process_time(),
            time.thread_time(),
        )
        run = await _run(rt)
        return {
            "seconds": time.perf_counter() - begin,
            "cpu": time.process_time() - all_before,
            "cpu_in_loop": time.thread_time() - loop_before,
            "records": float(run.records),
        }


async def _bare() -> dict[str, float]:
    """The same pages with the same client, thrown away."""
    from sqlmodel import select

    from linekeeper.runtime import Runtime
    from linekeeper.store.tables import Connection

    async with Runtime.open() as rt:
        app = await rt.app("default")
        async with rt.store.read() as session:
            key = (await session.scalars(select(Connection.makini_key))).one()
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    transport = AiohttpTransport(client=aiohttp.ClientSession)
    async with httpx.AsyncClient(transport=transport) as http:
        measured = await http.get(f"{app.api_url}/_control/connections/{key}/tokens")
        headers = {"Authorization": f"Bearer {measured.json()['access_token']}"}
        begin, before, count = time.perf_counter(), time.process_time(), 0
        for entity in app.entities:
            page, last = 1, 1
            while page <= last:
                query = f"per_page={app.per_page}&page={page}"
                answer = await http.get(f"{app.api_url}/api/{entity}?{query}", headers=headers)
                if answer.status_code == 404:
                    break
                listing = answer.json()
                last, page = listing["meta"]["last_page"], page + 1
                count += len(listing["data"])
        seconds, cpu = time.perf_counter() - begin, time.process_time() - before
    return {"seconds": seconds, "cpu": cpu, "records": float(count)}


async def _upsert_rates() -> dict[str, float]:
    """Rows a second: our way, a bare bulk insert in the same pieces, and a merge each."""
    from sqlalchemy import delete, insert
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlmodel import select

    from linekeeper.clock import utcnow
    from linekeeper.reconcile.listing import WriteBatch
    from linekeeper.reconcile.target import load_targets
    from linekeeper.reconcile.writer import ListingWriter
    from linekeeper.runtime import Runtime
    from linekeeper.settings import Settings
    from linekeeper.store import Store
    from linekeeper.store.migrate import migrate
    from linekeeper.store.tables import Connection, Record, Watermark

    async with Store.open(Settings()) as store:
        await migrate(store)
        async with store.write() as session:
            row = Connection(app="default", makini_key="k", name="Acme", slug="acme", setup="live")
            session.add(row)
            await session.flush()
    source = [
        {
            "key": f"{n:014d}",
            "updatedAt": f"2026-01-{n % 28 + 1:02d}T10:{n % 60:02d}:00.{n % 1_000_000:06d}Z",
            "title": f"Replace the seal of pump {n}",
            "status": "open",
            "siteKey": f"{n % 40:08d}",
            "assetKey": f"{n % 4000:010d}",
            "tasks": [{"key": str(task), "done": task % 2 == 0} for task in range(3)],
            "notes": "It leaks when it is cold. " * 4,
        }
        for n in range(ROWS)
    ]
    pieces = [source[start : start + BATCH] for start in range(0, ROWS, BATCH)]

    async with Runtime.open() as rt:
        app = await rt.app("default")
        [target] = await load_targets(rt, app, [row.id])

        async def empty() -> None:
            async with rt.store.write() as session:
                await session.execute(delete(Record))
                await session.execute(delete(Watermark))

        async def ours() -> float:
            await empty()
            begin = time.perf_counter()
            started = utcnow()
            writer = ListingWriter(
                rt, target, "eam/work-orders", None,
                started=started, run_at=started, cause=None, filter_refused_at=None, baseline=True,
            )  # fmt: skip
            for piece in pieces:
                batch = WriteBatch(asked_at=started)
                batch.add(piece, bodies=False)
                await writer.write(batch)
            return time.perf_counter() - begin

        async def rows() -> list[list[dict[str, Any]]]:
            async with rt.store.read() as session:
                rows = [record.model_dump() for record in await session.scalars(select(Record))]
            return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]

        async def bare(prepared: list[list[dict[str, Any]]]) -> float:
            await empty()
            begin = time.perf_counter()
            for piece in prepared:
                async with rt.store.write() as session:
                    connection = await session.connection()
                    await connection.execute(insert(Record), piece)
            return time.perf_counter() - begin

        async def merge(prepared: list[list[dict[str, Any]]]) -> float:
            await empty()
            begin = time.perf_counter()
            records = [record for piece in prepared for record in piece][:MERGED]
            for record in records:
                async with AsyncSession(rt.store.engine) as session:
                    await session.merge(Record(**record))
                    await session.commit()
            return time.perf_counter() - begin

        await ours()
        prepared = await rows()
        pairs = [(await ours(), await bare(prepared)) for _ in range(ROUNDS)]
        merging = await merge(prepared)
    return {
        "upsert": ROWS / statistics.median(own for own, _ in pairs),
        "of_bare": statistics.median(other / own for own, other in pairs),
        "merge": MERGED / merging,
    }


@asynccontextmanager
async def _adopted() -> AsyncIterator[Any]:
    """A runtime whose fleet is in the books."""
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime
    from linekeeper.settings import Settings
    from linekeeper.store import Store
    from linekeeper.store.migrate import migrate
    from linekeeper.sweep.sweep import take_list

    async with Store.open(Settings()) as store:
        await migrate(store)
    async with Runtime.open() as rt:
        await take_list(rt, await rt.app("default"), now=utcnow())
        yield rt


async def _run(rt: Any) -> Any:
    from linekeeper.reconcile.run import reconcile

    run = await reconcile(rt)
    if run.failures:
        raise RuntimeError(run.failures[0].message)
    return run


# Around it


def _env(home: Path, url: str, postgres_url: str, *, database: str = "") -> dict[str, str]:
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("LINEKEEPER_")},
        "LINEKEEPER_HOME": str(home),
        "LINEKEEPER_ENCRYPTION_KEYS": KEY,
        "LINEKEEPER_MAKINI_API_URL": url,
        "LINEKEEPER_MAKINI_CLIENT_ID": "sandbox-client",
        "LINEKEEPER_MAKINI_CLIENT_SECRET": "sandbox-secret",
        "LINEKEEPER_MAKINI_MODE": "manage",
        "LINEKEEPER_MAKINI_PER_MINUTE": "0",
        "LINEKEEPER_MAKINI_ENTITIES": ENTITIES,
    }
    if postgres_url:
        env["LINEKEEPER_DATABASE_URL"] = asyncio.run(
            create_database(postgres_url, database or "upserts")
        )
    return env


@contextmanager
def sandbox(
    folder: Path, *, connections: int, records: int, latency_ms: float = 0.0
) -> Iterator[str]:
    """A quiet sandbox with so many records in each connection; its URL."""

    port = free_port()
    command = [str(BIN / "linekeeper"), "sandbox", "--port", str(port), "--scenario", "quiet"]
    command += ["--connections", str(connections), "--records", str(records)]
    command += ["--per-minute", "0"]
    url = f"http://127.0.0.1:{port}"
    with process(command, ready=f"{url}/healthz", log=folder / "sandbox.log"):
        httpx.post(f"{url}/_control/settings", json={"latency_ms": latency_ms})
        yield url


def _main() -> None:
    if len(sys.argv) == 1:
        print(json.dumps(run(), indent=2))
        return
    if sys.argv[1] == "worker":
        asyncio.run(_worker(sys.argv[2]))
        return
    parts = {
        "prepare": _prepare,
        "nothing": _nothing_changed,
        "load": _load,
        "bare": _bare,
        "upserts": _upsert_rates,
    }
    figures = asyncio.run(parts[sys.argv[1]]())
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


if __name__ == "__main__":
    _main()
