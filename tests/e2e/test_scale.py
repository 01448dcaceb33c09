"""Beyond one machine: two receivers behind nginx, two consumers, one PostgreSQL; some die.

Processes on this machine stand for machines. `make soak` runs it; without nginx it is skipped.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import func, select, text
from sqlmodel import col

from linekeeper import sandbox
from linekeeper.clock import utcnow
from linekeeper.health.sweep import due, probe_batch, take_list
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.engine import make_engine
from linekeeper.store.migrate import migrate
from linekeeper.store.tables import Connection, Record, WebhookEvent
from tests.e2e.conftest import until
from tests.inbox.process.product import SECRET, Product, listening

pytestmark = pytest.mark.soak

CONNECTIONS = 40
ROUNDS = 60
CHANGES_A_ROUND = 50
BURST = 2_000

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream receivers {{
    server 127.0.0.1:{one} max_fails=1 fail_timeout=2s;
    server 127.0.0.1:{two} max_fails=1 fail_timeout=2s;
    keepalive 32;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://receivers;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_connect_timeout 1s;
      proxy_next_upstream error timeout http_503 non_idempotent;
    }}
  }}
}}
"""


def _nginx() -> str | None:
    """Where nginx is; on Debian as root it is installed."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None and os.getuid() == 0 and shutil.which("apt-get"):
        install = ("apt-get", "install", "-qq", "-y", "--no-install-recommends", "nginx-light")
        subprocess.run(install, capture_output=True, check=False)
        found = shutil.which("nginx", path="/usr/sbin")
    return found


@dataclass
class Site:
    """What runs, and what a test may do to it."""

    settings: Settings
    environment: dict[str, str]
    front: str
    """Where nginx listens."""
    fleet: sandbox.Served
    product: Product
    ports: dict[str, int]
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, name: str) -> None:
        """Start `receiver-…` or `consumer-…`; returns once it is ready."""
        more = {"LINEKEEPER_RECEIVER_PORT": str(self.ports[name])} if name in self.ports else {}
        with (self.settings.home / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "linekeeper.cli", name.split("-", maxsplit=1)[0]),
                env={**self.environment, **more},
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        self.running[name] = process
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while b"ready" not in await process.stdout.readline():
                assert process.returncode is None, name

    async def kill(self, name: str) -> None:
        """`kill -9`."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def truth(self, what: str = "") -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=self.fleet.url, timeout=60) as http:
            return dict((await http.get(f"/_control/truth{what}")).json())

    async def change(self, count: int) -> None:
        """Records change at Makini; each is announced by a webhook of its own."""
        async with httpx.AsyncClient(base_url=self.fleet.url, timeout=60) as http:
            answer = await http.post("/_control/records", json={"change": count, "per_webhook": 1})
            answer.raise_for_status()


@asynccontextmanager
async def _site(postgres_url: str, folder: Path) -> AsyncIterator[Site]:
    nginx = _nginx()
    if nginx is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    name = f"scale{os.urandom(4).hex()}"
    await _admin(postgres_url, f"CREATE DATABASE {name}")
    ports = {one: _free_port() for one in ("receiver-one", "receiver-two")}
    port = _free_port()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_admin, postgres_url, f"DROP DATABASE {name} WITH (FORCE)")
        product = await stack.enter_async_context(listening())
        box = sandbox.Settings(
            port=0,
            connections=CONNECTIONS,
            records_per_connection=60,
            webhook_url=f"http://127.0.0.1:{port}/webhooks/default",
            retry_scale=0.02,
        )
        fleet = await stack.enter_async_context(sandbox.serving(box))
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LINEKEEPER_")},
            "LINEKEEPER_HOME": str(folder),
            "LINEKEEPER_DATABASE_URL": postgres_url.replace("/postgres?", f"/{name}?"),
            "LINEKEEPER_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "LINEKEEPER_PREFECT_PORT": "1",  # away all the time
            "LINEKEEPER_LOG_FORMAT": "json",
            "LINEKEEPER_MAKINI_API_URL": fleet.url,
            "LINEKEEPER_MAKINI_CLIENT_ID": box.client_id,
            "LINEKEEPER_MAKINI_CLIENT_SECRET": box.client_secret,
            "LINEKEEPER_MAKINI_WEBHOOK_SECRETS": box.webhook_secret,
            "LINEKEEPER_MAKINI_MODE": "manage",
            "LINEKEEPER_MAKINI_PER_MINUTE": "0",
            "LINEKEEPER_FORWARD_URL": product.url,
            "LINEKEEPER_FORWARD_SECRET": SECRET,
        }
        with pytest.MonkeyPatch.context() as patch:
            for key, value in environment.items():
                if key.startswith("LINEKEEPER_"):
                    patch.setenv(key, value)
            settings = Settings(_env_file=None)
        async with Store.open(settings) as store:
            await migrate(store)
        async with Runtime.open(settings) as rt:
            app, started = await rt.app("default"), utcnow()
            policy = (await rt.configuration()).policy
            await take_list(rt, app, now=started)
            for ids in (await due(rt, app, policy, now=started)).batches:
                await probe_batch(rt, app, ids, started=started, last_try=True)
        site = Site(settings, environment, f"http://127.0.0.1:{port}", fleet, product, ports)
        stack.push_async_callback(_end, site)
        config = folder / "nginx.conf"
        one, two = ports.values()
        config.write_text(NGINX.format(folder=folder, port=port, one=one, two=two))
        site.running["nginx"] = await asyncio.create_subprocess_exec(
            nginx, "-c", str(config), "-e", str(folder / "error.log")
        )
        for part in ("receiver-one", "receiver-two", "consumer-one", "consumer-two"):
            await site.start(part)
        yield site


async def _end(site: Site) -> None:
    for process in site.running.values():
        if process.returncode is None:
            process.terminate()
    await asyncio.gather(*(process.wait() for process in site.running.values()))


async def _admin(url: str, statement: str) -> None:
    engine = make_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _statuses(store: Store) -> Counter[str]:
    async with store.read() as session:
        rows = await session.execute(
            select(col(WebhookEvent.status), func.count()).group_by(col(WebhookEvent.status))
        )
        return Counter(dict(rows.all()))


async def _index(store: Store) -> dict[tuple[str, str, str], Any]:
    """(connection, entity, key) → the source's time, of everything we know."""
    async with store.read() as session:
        rows = await session.execute(
            select(
                col(Connection.makini_key),
                col(Record.entity),
                col(Record.key),
                col(Record.updated_at),
            ).join(Connection, col(Connection.id) == col(Record.connection_id))
        )
        return {(one, entity, key): at for one, entity, key, at in rows.all()}


async def test_one_of_each_dies_under_load_and_nothing_is_lost_or_done_twice(
    postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with _site(postgres_url, tmp_path) as site, Store.open(site.settings) as store:
        took: dict[str, float] = {}
        for number in range(ROUNDS):
            await site.change(CHANGES_A_ROUND)
            if number == 15:
                await site.kill("receiver-one")
                took["receiver"] = await _until_answered(site)
            if number == 25:
                await site.change(BURST)  # so that it dies with its hands full
                await asyncio.sleep(0.5)
                await site.kill("consumer-one")
                took["consumer"] = await _until_free(store, site)
            if number == 40:
                await site.start("receiver-one")
                await site.kill("receiver-two")
            if number == 50:
                await site.start("consumer-one")
                await site.kill("consumer-two")
            await asyncio.sleep(0.1)

        async def quiet() -> bool:
            told = await site.truth("?records=0&webhooks=0")
            return not told["webhooks_outstanding"] and not (await _statuses(store))["pending"]

        await until(quiet, seconds=240, what="every webhook to be delivered and applied")
        truth = await site.truth()
        statuses = await _statuses(store)
        sent = [one for one in truth["webhooks"] if one["keys"]]
        assert len(sent) == ROUNDS * CHANGES_A_ROUND + BURST
        assert {one["fate"] for one in sent} == {"delivered"}
        # Once each: what nginx or the sender repeated merged, or was applied again to no effect.
        assert statuses["dead"] == statuses["unrouted"] == 0
        assert set(statuses) <= {"processed", "stale"}
        index = await _index(store)
        wrong = [
            (key, record)
            for key, entities in truth["records"].items()
            for entity, records in entities.items()
            for record, at in records.items()
            if (key, entity, record) in index
            and index[key, entity, record].timestamp() != _seconds(at)
        ]
        assert wrong == []
        announced = {(one["connection"], key) for one in sent for key in one["keys"]}
        assert announced <= {(connection, key) for connection, _, key in index}

        await until(lambda: _forwarded(store, site.product), seconds=180, what="the product")
        taken = Counter(identity for identity, _ in site.product.taken)
        async with store.read() as session:
            events = set(await session.scalars(select(col(WebhookEvent.id))))
        assert site.product.unverified == 0
        assert events <= set(taken)
        repeats = sum(taken.values()) - len(taken)
        report = (
            f"{len(sent)} webhooks, {len(events)} events ({statuses}), product took "
            f"{len(taken)} ids and {repeats} repeats under the same id; receiver failed over in "
            f"{took['receiver']:.1f} s, consumer in {took['consumer']:.1f} s"
        )
        with capsys.disabled():
            sys.stdout.write(f"\n{report}\n")


async def _forwarded(store: Store, product: Product) -> bool:
    async with store.read() as session:
        events = set(await session.scalars(select(col(WebhookEvent.id))))
    return events <= {identity for identity, _ in product.taken}


async def _until_answered(site: Site) -> float:
    """Seconds until nginx has somebody who answers."""
    begun = time.monotonic()
    async with httpx.AsyncClient(base_url=site.front, timeout=10) as http:

        async def ready() -> bool:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.HTTPError:
                return False

        await until(ready, seconds=60, what="a receiver")
    return time.monotonic() - begun


async def _until_free(store: Store, site: Site) -> float:
    """Seconds until nothing is held any more that was pending now."""
    begun = time.monotonic()
    async with store.read() as session:
        held = set(
            await session.scalars(
                select(col(WebhookEvent.id)).where(col(WebhookEvent.status) == "pending")
            )
        )

    async def done() -> bool:
        async with store.read() as session:
            left = await session.scalar(
                select(func.count())
                .select_from(WebhookEvent)
                .where(col(WebhookEvent.id).in_(held), col(WebhookEvent.status) == "pending")
            )
        return not left

    await until(done, seconds=100, what="the other consumer to take over")
    return time.monotonic() - begun


def _seconds(at: object) -> float:
    from datetime import datetime

    return datetime.fromisoformat(str(at).replace("Z", "+00:00")).timestamp()
