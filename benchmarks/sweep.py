"""The health sweep of 10,000 connections, all due, as the real flow on a real Prefect server.

Beside it, in the same run: a bare asyncio loop with the same transport that reads the list and
each status and throws them away; the plain Prefect way, one mapped task per connection; and the
core alone at 10,000 and 100,000 connections with answers made in process, to see that it is linear.
"""

import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONNECTIONS = int(os.environ.get("BENCH_CONNECTIONS", "10000"))
PLAIN = 500
ROUNDS = 3
GOALS = {
    "vs_bare_loop": 0.8,
    "vs_plain_prefect": 20.0,
    "prefect_mb": 1.0,
    "peak_mb": 400.0,
    "linear_100k": 1.3,
}


def run() -> dict[str, Any]:
    """The figures, with the goals beside them."""
    from benchmarks.peers import figures_of, prefect_server, sandbox

    with (
        tempfile.TemporaryDirectory() as name,
        sandbox(Path(name), connections=CONNECTIONS) as url,
        prefect_server(Path(name)) as prefect,
    ):
        folder = Path(name)
        env = {
            **os.environ,
            **prefect,
            "LINEKEEPER_HOME": str(folder / "home"),
            "LINEKEEPER_MAKINI_API_URL": url,
            "LINEKEEPER_MAKINI_CLIENT_ID": "sandbox-client",
            "LINEKEEPER_MAKINI_CLIENT_SECRET": "sandbox-secret",
            "LINEKEEPER_MAKINI_MODE": "manage",
            "LINEKEEPER_MAKINI_PER_MINUTE": "0",
            "LINEKEEPER_PROBE_MINUTES": "0",
        }
        figures_of("benchmarks.sweep", "migrate", env)
        figures_of("benchmarks.sweep", "flow", env)  # adopts the fleet and gives it tokens
        bare, ours, grown, peak = [], [], [], []
        for _ in range(ROUNDS):
            bare.append(figures_of("benchmarks.sweep", "bare", env)["seconds"])
            before = _database_mb(folder)
            measured = figures_of("benchmarks.sweep", "flow", env)
            time.sleep(3)  # the server writes events a little later
            ours.append(measured["seconds"])
            peak.append(measured["peak_mb"])
            grown.append(_database_mb(folder) - before)
        plain = figures_of("benchmarks.sweep", "plain", env)["seconds"] / PLAIN * CONNECTIONS
    small, large = (
        figures_of("benchmarks.sweep", "core", {**os.environ, "BENCH_SIZE": "10000"}),
        figures_of("benchmarks.sweep", "core", {**os.environ, "BENCH_SIZE": "100000"}),
    )
    return {
        "connections": CONNECTIONS,
        "bare_loop_s": statistics.median(bare),
        "sweep_s": statistics.median(ours),
        "vs_bare_loop": statistics.median(b / o for b, o in zip(bare, ours, strict=True)),
        "vs_plain_prefect": plain / statistics.median(ours),
        "prefect_mb": statistics.median(grown),
        "peak_mb": max(peak),
        "linear_100k": large["seconds"] / small["seconds"] / 10,
        "peak_100k_mb": large["peak_mb"],
        "goals": GOALS,
    }


def _database_mb(folder: Path) -> float:
    files = (folder / "prefect").glob("prefect.db*")
    return sum(file.stat().st_size for file in files) / 1e6


async def _migrate() -> float:
    from linekeeper.settings import Settings
    from linekeeper.store import Store
    from linekeeper.store.migrate import migrate

    async with Store.open(Settings()) as store:
        await migrate(store)
    return 0.0


async def _flow() -> float:
    from flows.health_sweep import health_sweep

    begin = time.perf_counter()
    state = await health_sweep(return_state=True)
    seconds = time.perf_counter() - begin
    if not state.is_completed():
        raise RuntimeError(str(state.message))
    return seconds


async def _bare() -> float:
    import aiohttp
    import httpx
    import orjson
    from httpx_aiohttp import AiohttpTransport
    from sqlmodel import select

    from linekeeper.runtime import Runtime
    from linekeeper.store.tables import Credential
    from linekeeper.tokens.stored import load_tokens

    async with Runtime.open() as rt:
        async with rt.store.read() as session:
            ids = list(await session.scalars(select(Credential.connection_id)))
            tokens = [
                value.access for value in (await load_tokens(rt.store, session, ids)).values()
            ]
        app = await rt.app("default")
        admin = await rt.makini(app)._admin.get()
    begin = time.perf_counter()
    transport = AiohttpTransport(
        client=lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100))
    )
    async with httpx.AsyncClient(transport=transport) as client:
        headers = {"Authorization": f"Bearer {admin}"}
        page, last = 1, 1
        while page <= last:
            answer = await client.get(
                f"{app.api_url}/api/system/connections?page={page}&per_page=100", headers=headers
            )
            last = orjson.loads(answer.content)["meta"]["last_page"]
            page += 1
        gate = asyncio.Semaphore(100)

        async def look(token: str) -> None:
            async with gate:
                answer = await client.get(
                    f"{app.api_url}/api/integrations/current",
                    headers={"Authorization": f"Bearer {token}"},
                )
                orjson.loads(answer.content)

        await asyncio.gather(*(look(token) for token in tokens))
    return time.perf_counter() - begin


async def _plain() -> float:
    """One mapped task per connection, as one would write it first."""
    import httpx
    from prefect import flow, task
    from sqlmodel import select

    from linekeeper.runtime import Runtime
    from linekeeper.store.tables import Connection

    async with Runtime.open() as rt:
        async with rt.store.read() as session:
            keys = list(await session.scalars(select(Connection.makini_key).limit(PLAIN)))
        app = await rt.app("default")
    tokens = []
    async with httpx.AsyncClient() as client:
        for key in keys:
            answer = await client.get(f"{app.api_url}/_control/connections/{key}/tokens")
            tokens.append(answer.json()["access_token"])

    @task(retries=2)
    def check(token: str) -> str:
        answer = httpx.get(
            f"{app.api_url}/api/integrations/current",
            headers={"Authorization": f"Bearer {token}"},
        )
        return str(answer.json()["data"]["sync_status"])

    @flow
    def sweep(tokens: list[str]) -> None:
        check.map(tokens).result()

    begin = time.perf_counter()
    await asyncio.to_thread(sweep, tokens)
    return time.perf_counter() - begin


async def _core() -> float:
    """The core alone on `BENCH_SIZE` connections; Makini's answers are made in this process."""
    import httpx
    import orjson
    from sqlmodel import select

    from linekeeper.clock import utcnow
    from linekeeper.config import AppConfig
    from linekeeper.makini import MakiniClient, TokenPair
    from linekeeper.runtime import Runtime
    from linekeeper.settings import Settings
    from linekeeper.store import Store
    from linekeeper.store.migrate import migrate
    from linekeeper.store.tables import Connection
    from linekeeper.sweep.batch import probe_batch
    from linekeeper.sweep.sweep import due, take_list
    from linekeeper.tokens.stored import save_tokens

    size = int(os.environ["BENCH_SIZE"])
    status = orjson.dumps({"data": {"id": "x", "sync_status": "done", "provider": "SAP ECC"}})

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/integrations/current":
            return httpx.Response(200, content=status)
        if request.url.path == "/link/token":
            return httpx.Response(200, json={"access_token": "a", "expires_in": 3600})
        page = int(request.url.params["page"])
        rows = [
            {"key": f"k{n}", "name": f"C{n // 2} · SAP ECC", "status": "Active"}
            for n in range((page - 1) * 500, min(page * 500, size))
        ]
        return httpx.Response(200, json={"data": rows, "meta": {"last_page": -(-size // 500)}})

    with tempfile.TemporaryDirectory() as name:
        settings = Settings(home=Path(name), makini_client_id="c", probe_minutes=0)
        async with Store.open(settings) as store:
            await migrate(store)
        app = AppConfig(mode="manage", per_minute=0, per_page=500, api_url="http://makini.invalid")
        async with Runtime.open(settings) as rt:
            client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
            rt._clients[app.name, False] = (app, MakiniClient(app, client=client))
            await take_list(rt, app, now=utcnow())
            async with rt.store.write() as session:
                ids = list(await session.scalars(select(Connection.id)))
                pairs = {identifier: TokenPair("token") for identifier in ids}
                await save_tokens(rt.store, session, pairs, now=utcnow())
            for _ in range(2):  # the first finds a fleet nobody has judged yet
                begin = time.process_time()  # the database and Makini are in this process
                started = utcnow()
                await take_list(rt, app, now=started)
                work = await due(rt, app, (await rt.configuration()).policy, now=started)
                for batch in work.batches:
                    await probe_batch(rt, app, batch, started=started, last_try=True)
                seconds = time.process_time() - begin
            await client.aclose()
    return seconds


def _main() -> None:
    if len(sys.argv) == 1:
        print(json.dumps(run(), indent=2))
        return
    parts = {"migrate": _migrate, "flow": _flow, "bare": _bare, "plain": _plain, "core": _core}
    seconds = asyncio.run(parts[sys.argv[1]]())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))


if __name__ == "__main__":
    _main()
