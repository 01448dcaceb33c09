"""A successor takes over a hundred thousand records whose keys all changed, on both databases.

One in twenty has a twin with the same natural key. Both connections have been listed; what is
measured is finding out which record is which, and telling it.
"""

import asyncio
import json
import os
import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import func, select
from sqlmodel import col

from benchmarks.peers import create_database, postgres
from linekeeper.clock import utcnow
from linekeeper.customers.succession import succeed
from linekeeper.reconcile.known import successions_of
from linekeeper.reconcile.listing import Sizes
from linekeeper.reconcile.succession import take_over
from linekeeper.reconcile.target import load_targets
from linekeeper.reconcile.writer import ListingWriter
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.migrate import migrate
from linekeeper.store.tables import Change, Connection, Record

RECORDS = int(os.environ.get("BENCH_RECORDS", "100000"))
TWINS = 20
"""One record in so many has the natural key of the one before it."""
ENTITY = "eam/work-orders"
KEY = "LvnFJyaRMLl_GlESbT2b5VtjIKCEjxYyKIaHRGFmYyk="
GOALS = {
    "sqlite_seconds_s": 60.0,
    "postgresql_seconds_s": 60.0,
    "sqlite_mapped": 0.99,
    "postgresql_mapped": 0.99,
    "share_wrong": 0.0,
    "share_deleted": 0.0,
}


def records(count: int, seed: int) -> list[dict[str, Any]]:
    """Work orders of one system, under keys that `seed` makes."""
    chance = random.Random(seed)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    records = []
    for n in range(count):
        same = n - 1 if n % TWINS == TWINS - 1 else n
        records.append(
            {
                "key": f"{seed:02d}{chance.getrandbits(60):020d}",
                "code": f"WO-{same:07d}",
                "title": f"Inspect pump {same % 900}",
                "createdAt": (start + timedelta(minutes=same)).isoformat(),
                "updatedAt": (start + timedelta(minutes=n, days=30)).isoformat(),
                "status": ("Open", "Planned", "Closed")[n % 3],
                "assetKey": f"{seed:02d}{n % 997:012d}",
                "notes": "Lock out, tag out. Report findings.",
            }
        )
    return records


async def measure(rt: Runtime, count: int) -> dict[str, float]:
    """Take over `count` records; how long it took and what came of it."""
    async with rt.store.write() as session:
        rows = [
            Connection(app="default", makini_key=key, name=key, slug=key, setup="live")
            for key in ("before", "after")
        ]
        session.add_all(rows)
        await session.flush()
        before, after = (row.id for row in rows)
    old, new = records(count, 11), records(count, 97)
    await _listed(rt, before, old)
    async with rt.store.write() as session:
        await succeed(
            rt.store, session, before, after, source="reconnect", message="", now=utcnow()
        )
    shuffled = list(new)
    random.Random(5).shuffle(shuffled)
    await _listed(rt, after, shuffled, succeeds=True)
    app = await rt.app("default")
    (target,) = await load_targets(rt, app, [after])
    succession = (await successions_of(rt.store, after))[ENTITY]
    began, used, at = time.perf_counter(), time.process_time(), utcnow()
    await take_over(rt, target, succession, deleted=(), run_at=at)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    truth = {mine["key"]: theirs["key"] for mine, theirs in zip(old, new, strict=True)}
    twins = {old[n - d]["key"] for n in range(TWINS - 1, count, TWINS) for d in (0, 1)}
    async with rt.store.read() as session:
        changes = (
            await session.execute(
                select(col(Change.op), col(Change.old_key), col(Change.key)).where(
                    col(Change.connection_id) == after
                )
            )
        ).all()
        deleted = await session.scalar(
            select(func.count()).select_from(Record).where(col(Record.deleted_at).is_not(None))
        )
    mapped = {key: other for op, key, other in changes if op == "rekeyed"}
    return {
        "seconds_s": seconds,
        "cpu_s": cpu,
        "mapped": sum(key not in twins for key in mapped) / (count - len(twins)),
        "wrong": sum(truth[key] != other for key, other in mapped.items()),
        "deleted": (deleted or 0) + sum(op != "rekeyed" for op, _, _ in changes),
    }


async def _listed(
    rt: Runtime, connection_id: str, records: list[dict[str, Any]], *, succeeds: bool = False
) -> None:
    (target,) = await load_targets(rt, await rt.app("default"), [connection_id])
    started = utcnow()
    writer = ListingWriter(
        rt, target, ENTITY, None, started=started, run_at=started, cause=None,
        filter_refused_at=None,
        baseline=True, succeeds=succeeds,
    )  # fmt: skip
    batch, sizes = writer.batch(started), Sizes()
    for start in range(0, len(records), 500):
        if batch.is_full:
            await writer.write(batch)
            batch = writer.batch(started)
        batch.add(records[start : start + 500], bodies=False)
        sizes.record_total(len(records))
    await writer.finish(
        batch, sizes, listed=len(records), deleted=0, whole=True, shifted=False, inconsistent=False
    )


async def _on(home: Path, url: str) -> dict[str, float]:
    settings = Settings(
        home=home,
        encryption_keys=(SecretStr(KEY),),
        makini_api_url="http://127.0.0.1:9",
        makini_client_id="benchmark",
        makini_client_secret=SecretStr("benchmark"),
        database_url=SecretStr(url) if url else None,
    )
    async with Store.open(settings) as store:
        await migrate(store)
    async with Runtime.open(settings) as rt:
        return await measure(rt, RECORDS)


def run() -> dict[str, Any]:
    """The figures, with the goals beside them."""
    totals: dict[str, Any] = {"records": RECORDS, "share_wrong": 0.0, "share_deleted": 0.0}
    with tempfile.TemporaryDirectory(prefix="linekeeper-succession-") as name:
        folder = Path(name)
        with postgres(folder) as server:
            for engine in ("sqlite", "postgresql"):
                url = (
                    "" if engine == "sqlite" else asyncio.run(create_database(server, "succession"))
                )
                figures = asyncio.run(_on(folder / engine, url))
                totals |= {
                    f"{engine}_{key}": figures[key] for key in ("seconds_s", "cpu_s", "mapped")
                }
                totals["share_wrong"] += figures["wrong"] / RECORDS
                totals["share_deleted"] += figures["deleted"] / RECORDS
    return totals | {"goals": GOALS}


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
