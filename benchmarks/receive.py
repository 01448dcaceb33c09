"""Receiving webhooks: ours beside an app that does nothing and beside the usual handler; with
20 KB also beside the least that keeps bytes (`benchmarks.bare`).

Signed bodies, each different, 64 at once, one server process (`benchmarks.sender`). Two phases:
push and measure, then push again with every answer written down and verify that each id that got
a 200 is in the database, once.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bare import Bare
from benchmarks.peers import create_database, postgres
from benchmarks.sender import Load, send, sender

SECRET = "benchmark"
SIZES = {200: 250_000, 2_000: 200_000, 20_000: 50_000}
"""Bytes of a body → how many different ones are made: enough that none is sent to us twice."""
LARGE = 20_000
SECONDS = 2
ROUNDS = 5
VERIFY = 5_000
GOALS = {
    "sqlite_200b_of_nothing": 0.40,
    "sqlite_2000b_of_nothing": 0.40,
    "postgresql_200b_of_nothing": 0.40,
    "postgresql_2000b_of_nothing": 0.35,
    "sqlite_20000b_of_bare": 0.7,
    "postgresql_20000b_of_bare": 0.7,
    "sqlite_2000b_of_usual": 10.0,
    "postgresql_2000b_of_usual": 10.0,
    "sqlite_2000b_p99_ms": 12.0,
    "postgresql_2000b_p99_ms": 12.0,
}


class Address(str):
    """Where a server answers, and how much processor time it has used."""

    pid = 0

    def processor_seconds(self) -> float:
        """So far, without what the database's own processes used."""
        import psutil

        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


def run() -> dict[str, Any]:
    """Rates a second, p99 in ms, ratios, and how many answers were verified."""
    figures: dict[str, Any] = {"sender": sender()}
    with tempfile.TemporaryDirectory(prefix="linekeeper-receive-") as name:
        folder = Path(name)
        loads = {size: _load(folder / f"{size}.raw", size, count) for size, count in SIZES.items()}
        check = _load(folder / "verify.raw", 500, VERIFY, prefix="check")
        with serving("nothing", "") as nothing, postgres(folder) as database_server:
            for kind in ("sqlite", "postgresql"):
                server = database_server if kind == "postgresql" else None
                for size, load in loads.items():
                    url = database(folder, server)
                    if size == LARGE:
                        with serving("bare", database(folder, server)) as bare:
                            measured = _ours(folder, url, load, check, nothing, bare)
                    else:
                        measured = _ours(folder, url, load, check, nothing)
                    figures |= {f"{kind}_{size}b_{key}": value for key, value in measured.items()}
                with serving("usual", database(folder, server)) as address:
                    usual = push(folder, address, loads[2_000], SECONDS)["per_second"]
                figures[f"{kind}_2000b_usual_per_second"] = usual
                figures[f"{kind}_2000b_of_usual"] = round(
                    figures[f"{kind}_2000b_per_second"] / usual, 1
                )
    return {**figures, "goals": GOALS}


def _ours(
    folder: Path, url: str, load: Load, check: Load, nothing: Address, bare: Address | None = None
) -> dict[str, Any]:
    """Ours and the limits by turns, so that all meet the same machine; then the verification."""
    os.sync()  # what others have written is on the disk, or ours would wait for it
    pushed, rounds = 0, []
    of_bare: list[float] = []
    with serving("ours", url) as address:
        fresh = load.after(send(folder, address, load, seconds=1)["requests"])
        for _ in range(ROUNDS):
            limit = push(folder, nothing, load, 1)
            ours = push(folder, address, fresh, 1 if bare else SECONDS)
            fresh = fresh.after(ours["requests"])
            pushed += ours["requests"] - ours["not_200"]
            rounds.append((ours["per_second"] / limit["per_second"], ours, limit))
            if bare is not None:
                other = push(folder, bare, load, 1)
                of_bare.append(ours["per_second"] / other["per_second"])
        log = folder / "answers"
        send(folder, address, check, seconds=6, log=log)
        answers = [
            json.loads(line[4:]) for line in log.read_text().splitlines() if line.startswith("200 ")
        ]
    accepted = [answer["id"] for answer in answers if answer["status"] == "accepted"]
    rows, keys, missing = asyncio.run(_stored(url, accepted))
    twice = rows - keys + len(accepted) - len(set(accepted))
    # On a machine so fast that the load comes round again the rest are duplicates.
    few = rows < min(pushed, load.path.stat().st_size // load.length)
    if missing or twice or few or not accepted:
        raise SystemExit(
            f"benchmarks.receive: not exactly once: {rows} rows, {missing} missing, {twice} twice"
        )
    ratio, ours, limit = sorted(rounds, key=lambda each: each[0])[ROUNDS // 2]
    return {
        "of_nothing": round(ratio, 3),
        "of_nothing_by_cpu": round(
            statistics.median(other["cpu_us"] / mine["cpu_us"] for _, mine, other in rounds), 3
        ),
        "per_second": ours["per_second"],
        "p99_ms": round(statistics.median(ours["p99_ms"] for _, ours, _ in rounds), 1),
        "nothing_per_second": limit["per_second"],
        "verified": len(accepted),
        **({"of_bare": round(statistics.median(of_bare), 2)} if of_bare else {}),
    }


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


def _load(path: Path, size: int, count: int, prefix: str = "evt") -> Load:
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
        file.flush()
        os.fsync(file.fileno())  # or the disk is busy with it while ours commits
    return Load(path, length)


def push(folder: Path, address: Address, load: Load, seconds: int) -> dict[str, Any]:
    """Send for so long; with the requests a second, and the server's processor time for each."""
    before = address.processor_seconds()
    sent = send(folder, address, load, seconds=seconds)
    spent = address.processor_seconds() - before
    sent["cpu_us"] = 1e6 * spent / max(sent["requests"], 1)
    sent["per_second"] = round(sent["requests"] / sent.pop("seconds"))
    return sent


# --- the servers


@contextlib.contextmanager
def serving(kind: str, url: str) -> Iterator[Address]:
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
            address = Address(process.stdout.readline().strip())
            address.pid = process.pid
            yield address
        finally:
            process.terminate()
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()


def _serve(kind: str) -> None:
    from linekeeper.event_loop import run
    from linekeeper.receiver import serve
    from linekeeper.settings import Settings

    settings = Settings()
    with serve.listening(settings) as listener:

        def ready() -> None:
            print(serve.address(listener), flush=True)

        if kind == "ours":
            asyncio.run(_migrate(settings))
            run(serve.until_stopped(settings, listener, ready))
            return
        import uvicorn

        from linekeeper.receiver.protocol import guarded

        ready()
        apps = {"nothing": lambda _: nothing, "bare": Bare, "usual": usual_handler}
        app = apps[kind](settings.resolved_database_url)
        config = uvicorn.Config(
            app,
            http=guarded(4_096),
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


def database(folder: Path, server: str | None) -> str:
    name = f"b{os.urandom(5).hex()}"
    if server is None:
        return f"sqlite+aiosqlite:///{folder / name}.db"
    return asyncio.run(create_database(server, name))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _serve(sys.argv[1])
    else:
        print(json.dumps(run(), indent=2))
