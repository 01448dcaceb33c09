"""A customer's page among 5,000 customers with years of links and steps: how soon is it there?

The receiver serves over HTTP, with a real database behind it; the client is in the same process, so
that what it costs is in the figures, too. Each page is of another customer.
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from benchmarks.crowd import write
from benchmarks.peers import create_database, postgres
from linekeeper.access.page_links import page_url
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.receiver import serve
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.migrate import migrate
from linekeeper.store.tables import (
    Connection,
    ConnectLink,
    Customer,
    CustomerLink,
    Gate,
    Implementation,
)

CUSTOMERS = int(os.environ.get("BENCH_CUSTOMERS", "5000"))
SYSTEMS, STEPS, LINKS = 3, 12, 20
ASKED = 200
KEY = "LvnFJyaRMLl_GlESbT2b5VtjIKCEjxYyKIaHRGFmYyk="
GOALS = {"sqlite_p95_ms": 100.0, "postgresql_p95_ms": 100.0}


def run() -> dict[str, Any]:
    """Milliseconds until the page is whole, on each database, with the goals."""
    figures: dict[str, Any] = {"customers": CUSTOMERS, "links": CUSTOMERS * LINKS, "goals": GOALS}
    with tempfile.TemporaryDirectory(prefix="linekeeper-page-") as name:
        folder = Path(name)
        figures |= asyncio.run(_on(folder, f"sqlite+aiosqlite:///{folder}/line.db", "sqlite"))
        with postgres(folder) as server:
            figures |= asyncio.run(_with(folder, server))
    return figures


async def _with(folder: Path, server: str) -> dict[str, Any]:
    return await _on(folder, await create_database(server, "page"), "postgresql")


async def _on(folder: Path, url: str, kind: str) -> dict[str, Any]:
    settings = Settings(
        home=folder / kind,
        database_url=SecretStr(url),
        encryption_keys=(SecretStr(KEY),),
        receiver_port=0,
        _env_file=None,
    )
    async with Store.open(settings) as store:
        await migrate(store)
        paths = await _fill(store, utcnow())
    walls: list[float] = []
    processor: list[float] = []
    async with Runtime.open(settings) as rt:
        with serve.listening(settings) as listener:
            base = serve.address(listener)
            async with serve.serving(rt, listener), httpx.AsyncClient(base_url=base) as http:
                for path in paths[:ASKED]:
                    began, spent = time.perf_counter(), time.process_time()
                    answer = await http.get(f"{path}.json" if len(walls) % 2 else path)
                    walls.append(time.perf_counter() - began)
                    processor.append(time.process_time() - spent)
                    if answer.status_code != 200 or "Maximo" not in answer.text:
                        raise SystemExit(f"benchmarks.page: {answer.status_code}")
    return {
        f"{kind}_p95_ms": _p95(walls),
        f"{kind}_median_ms": round(statistics.median(walls) * 1e3, 1),
        f"{kind}_cpu_p95_ms": _p95(processor),
    }


def _p95(seconds: list[float]) -> float:
    return round(statistics.quantiles(seconds, n=20)[-1] * 1e3, 1)


async def _fill(store: Store, now: datetime) -> list[str]:
    """Customers, each with systems, an implementation and many links; the paths of their pages."""
    customers = [{"id": new_id(), "name": f"C {n}", "slug": f"c-{n}"} for n in range(CUSTOMERS)]
    ids = [customer["id"] for customer in customers]
    await write(store, Customer, customers)
    await write(store, Connection, [_connection(n, own) for n in range(SYSTEMS) for own in ids])
    projects = [_implementation(own, now) for own in ids]
    await write(store, Implementation, projects)
    await write(store, Gate, [_gate(each["id"], n) for each in projects for n in range(STEPS)])
    for number in range(LINKS):
        ends = now + timedelta(days=7 if number == 0 else -number)
        await write(store, ConnectLink, [_link(own, ends) for own in ids])
    links = [
        {"id": new_id(), "customer_id": own, "created_at": now, "created_by": "bench"}
        for own in ids[:: max(CUSTOMERS // ASKED, 1)]
    ]
    await write(store, CustomerLink, links)
    signer = await load_signer(store)
    return [page_url(signer, "", str(link["id"])) for link in links]


def _connection(number: int, customer: str) -> dict[str, Any]:
    own = new_id()
    return {
        "id": own,
        "app": "default",
        "makini_key": own,
        "name": own,
        "slug": own,
        "provider": ("Maximo", "SAP ECC", "UpKeep")[number],
        "customer_id": customer,
        "setup": "live",
        "health": "healthy",
    }


def _implementation(customer: str, now: datetime) -> dict[str, Any]:
    own = new_id()
    return {
        "id": own,
        "key": own,
        "slug": own,
        "customer_id": customer,
        "title": own,
        "complexity": "standard",
        "hosting": "cloud",
        "kickoff": now.date(),
        "owner": "Petra",
        "started_by": "bench",
        "planned_p50": now.date(),
        "planned_p80": now.date(),
        "p50": now.date(),
        "p80": now.date(),
    }


def _gate(implementation: str, number: int) -> dict[str, Any]:
    return {
        "id": new_id(),
        "implementation_id": implementation,
        "gate": f"validation-{number}",
        "title": f"Step {number}",
        "status": "open" if number == 0 else "pending",
        "owner": "customer" if number % 2 == 0 else "us",
        "assignee": "Petra",
    }


def _link(customer: str, ends: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "app": "default",
        "customer_id": customer,
        "system": "Infor",
        "created_at": ends - timedelta(days=7),
        "created_by": "bench",
        "expires_at": ends,
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
