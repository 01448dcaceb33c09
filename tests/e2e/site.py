"""What `deploy/compose.yaml` describes, started on machines: its services, commands and settings.

In place of images there are Debian's PostgreSQL, Redis and nginx, and this checkout.
"""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import yaml
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

import sandbox
from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.e2e.conftest import ROOT, until
from tests.e2e.machines import PATH, Machine, Network, network
from tests.inbox.process.product import SECRET, Product, listening

DEPLOY = ROOT / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
OUTSIDE = 8600
"""The first port on the network's own address at which the machines reach what is outside."""
READY = {"receiver": "ready", "consumer": "consumer ready", "worker": "started!"}

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
  {servers}
}}
"""
PASS = """
  server {{
    listen {listen};
    client_max_body_size 4m;
    location / {{
      proxy_pass http://{to};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
"""


def missing() -> str | None:
    """What is not installed of all this, with the way to have it; None where all is there."""
    lacking = [name for name in ("nginx", "redis-server") if not shutil.which(name, path=PATH)]
    lacking += [] if _postgres() else ["postgresql"]
    if lacking:
        return f"not installed: {', '.join(lacking)}. As root on Debian `make soak` installs them"
    if find_spec("prefect_redis") is None:
        return "not installed: prefect-redis. pip install -r requirements/redis.txt"
    return None


def _postgres() -> Path | None:
    """The folder of Debian's PostgreSQL, the newest one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@dataclass
class Site:
    """What runs, and what a test may do to it."""

    net: Network
    fleet: sandbox.Served
    product: Product
    extra: dict[str, str]
    """Settings beside the compose file's: Makini's address and credentials, the product's."""
    version: str = ""
    http: httpx.AsyncClient = field(init=False)

    def at(self, name: str) -> str:
        """The address of a service's machine."""
        return self.net.machines[name].address

    @property
    def secrets(self) -> Path:
        """The folder with the secrets' files."""
        return self.net.folder / "secrets"

    def secret(self, name: str) -> str:
        """What is in one of them."""
        return (self.secrets / name).read_text().strip()

    @property
    def front(self) -> str:
        """Where Makini, customers and the product find the receivers."""
        return f"http://{self.at('nginx')}:8642"

    @property
    def settings(self) -> Settings:
        """What the parts work with, seen from here."""
        return Settings(_env_file=None, home=self.net.folder, _secrets_dir=self.secrets)

    def store(self) -> Store:
        """`async with site.store() as store`: the database the parts work on."""
        return Store.open(self.settings)

    def prefect(self) -> PrefectClient:
        """`async with site.prefect() as client`: Prefect's own client."""
        url = self.environment("worker-1")["PREFECT_API_URL"]
        return PrefectClient(url, auth_string=f"admin:{self.secret('prefect_password')}")

    def environment(self, name: str) -> dict[str, str]:
        """A service's environment, as the compose file has it."""
        variables = SERVICES[name].get("environment", {})
        return {key: self._filled(str(value), name) for key, value in variables.items()}

    async def start(self, name: str) -> None:
        """Start a service by its command; returns once it is ready."""
        machine = self.net.machines.get(name) or self.net.machine(name)
        own = {} if name == "prefect" else self.extra
        await machine.start(
            self._filled(SERVICES[name]["command"], name),
            {**self.environment(name), **own},
            ready=READY.get(name.partition("-")[0], ""),
        )

    async def kill(self, name: str) -> Machine:
        """The machine of a service loses its power."""
        machine = self.net.machines[name]
        await machine.die()
        return machine

    async def trigger(self, deployment: str, **parameters: object) -> UUID:
        """Start `deployment/deployment`; the id of its run."""
        async with self.prefect() as client:
            found = await client.read_deployment_by_name(f"{deployment}/{deployment}")
            run = await client.create_flow_run_from_deployment(found.id, parameters=parameters)
        return run.id

    async def ended(self, run_id: UUID, *, seconds: float = 600) -> FlowRun:
        """The run, once it is over."""

        async def over() -> FlowRun | None:
            async with self.prefect() as client:
                run = await client.read_flow_run(run_id)
            return run if run.state is not None and run.state.is_final() else None

        found: FlowRun = await until(over, seconds=seconds, what=f"run {run_id} to end")
        return found

    async def control(self, path: str, **body: object) -> Any:
        """`POST /_control/{path}` of the sandbox."""
        answer = await self.http.post(f"{self.fleet.url}/_control/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def truth(self, what: str = "") -> dict[str, Any]:
        """What the sandbox knows to be so."""
        return dict((await self.http.get(f"{self.fleet.url}/_control/truth{what}")).json())

    def _filled(self, text: str, name: str) -> str:
        """With addresses in place of names, and folders of ours in place of a container's."""
        given = {"LINEKEEPER_PUBLIC_URL": self.front}
        text = re.sub(r"\$\{(\w+)(?::\?|:-([^}]*))?\}", lambda m: given.get(m[1], m[2] or ""), text)
        text = text.replace("$$", "$").replace("/run/secrets", str(self.secrets))
        text = text.replace("/data/", f"{self.net.machines[name].folder}/")
        for other, machine in self.net.machines.items():
            pattern = rf"(?:(?<=@)|(?<=//)|^){re.escape(other)}(?=[:/]|$)(?!://)"
            text = re.sub(pattern, machine.address, text)
        return text.replace("0.0.0.0", self.net.machines[name].address)


@asynccontextmanager
async def site(box: sandbox.Settings) -> AsyncIterator[Site]:
    """All of it, with a Makini and a product outside."""
    async with network() as net, listening() as product, sandbox.serving(box) as fleet:
        for name in SERVICES:
            net.machine(name)
        nginx = net.machines["nginx"]
        box.webhook_url = f"http://{nginx.address}:8642/webhooks/default"
        one = Site(
            net,
            fleet,
            product,
            {
                "LINEKEEPER_MAKINI_API_URL": f"http://{net.here}:{OUTSIDE}",
                "LINEKEEPER_MAKINI_LINK_URL": f"http://{net.here}:{OUTSIDE}",
                "LINEKEEPER_MAKINI_CLIENT_ID": box.client_id,
                "LINEKEEPER_MAKINI_CLIENT_SECRET": box.client_secret,
                "LINEKEEPER_MAKINI_WEBHOOK_SECRETS": box.webhook_secret,
                "LINEKEEPER_MAKINI_MODE": "manage",
                "LINEKEEPER_MAKINI_PER_MINUTE": "0",
                "LINEKEEPER_PROBE_MINUTES": "0",
                "LINEKEEPER_FORWARD_URL": f"http://{net.here}:{OUTSIDE + 1}/hooks",
                "LINEKEEPER_FORWARD_SECRET": SECRET,
            },
        )
        await _secrets(one)
        # No connection is kept: one that the other side closes meanwhile would fail a call.
        fresh = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=60, limits=fresh) as one.http:
            outside = await _outside(net, fleet, product)
            try:
                await _postgresql(one)
                redis = net.machines["redis"]
                await redis.start(
                    f"redis-server --bind {redis.address} --port 6379 --protected-mode no "
                    f"--save '' --dir {redis.folder}",
                    ready="Ready to accept connections",
                )
                await one.start("prefect")
                await until(lambda: _healthy(one), seconds=400, what="the Prefect server")
                setup = net.machines["setup"]
                await setup.run(
                    SERVICES["setup"]["command"], {**one.environment("setup"), **one.extra}
                )
                await _pause_schedules(one)
                parts = [name for name in SERVICES if name.partition("-")[0] in READY]
                await asyncio.gather(*(one.start(name) for name in parts))
                await _nginx(nginx, _servers(one))
                yield one
            finally:
                outside.terminate()
                await outside.wait()
                for name in ("nginx", *(n for n in SERVICES if n[-2:] in ("-1", "-2")), "prefect"):
                    await net.machines[name].stop()


async def _secrets(site: Site) -> None:
    """Made as the operator makes them, with addresses in place of names; nginx's certificate."""
    nginx = site.net.machines["nginx"]
    await nginx.run(f"{DEPLOY / 'make-secrets.sh'} {site.secrets}")
    for name in ("linekeeper_database_url", "prefect-server.toml"):
        file = site.secrets / name
        file.write_text(file.read_text().replace("@postgres/", f"@{site.at('postgres')}/"))
    await nginx.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        f"-subj /CN=linekeeper -keyout {site.secrets / 'tls.key'} -out {site.secrets / 'tls.pem'}"
    )


async def _pause_schedules(site: Site) -> None:
    """What runs, and when, is the test's to say."""
    async with site.prefect() as client:
        for deployment in await client.read_deployments():
            await client.pause_deployment(deployment.id)


async def _healthy(site: Site) -> bool:
    try:
        answer = await site.http.get(f"http://{site.at('prefect')}:4200/api/health")
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


async def _postgresql(site: Site) -> None:
    """Debian's, as its own user, with the compose file's databases."""
    machine, bin_ = site.net.machines["postgres"], _postgres()
    assert bin_ is not None
    variables = site.environment("postgres")
    user, password = variables["POSTGRES_USER"], site.secret("postgres_password")
    if os.getuid() == 0:
        shutil.chown(machine.folder, "postgres")
    words = machine.folder / "password"
    words.write_text(password)
    words.chmod(0o644)
    data = machine.folder / "data"
    await machine.run(
        f"{bin_}/initdb -D {data} -U {user} -A scram-sha-256 --pwfile {words}", user="postgres"
    )
    with (data / "pg_hba.conf").open("a") as access:
        access.write("host all all samenet scram-sha-256\n")
    await machine.start(
        f"{bin_}/postgres -D {data} -c listen_addresses={machine.address} "
        f"-c unix_socket_directories={data} -c max_connections=200",
        ready="ready to accept connections",
        user="postgres",
    )
    access = {"PGPASSWORD": password, "PGHOST": machine.address, "PGUSER": user}
    database = variables["POSTGRES_DB"]
    await machine.run(f"{bin_}/createdb {database}", {**access, "PGDATABASE": "postgres"})
    said = await machine.run(
        f"{bin_}/psql -v ON_ERROR_STOP=1 -f {DEPLOY / 'postgres-init.sql'}",
        {**access, "PGDATABASE": database},
    )
    assert "CREATE EXTENSION" in said
    site.version = (await machine.run(f"{bin_}/postgres --version")).strip()


def _servers(site: Site) -> str:
    """The compose file's nginx, with addresses for names."""
    text = (DEPLOY / "nginx.compose.conf").read_text()
    for name in ("receiver-1", "receiver-2"):
        text = text.replace(f"{name}:", f"{site.at(name)}:")
    text = text.replace("listen ", f"listen {site.at('nginx')}:")
    return text.replace("/run/secrets", str(site.secrets))


async def _nginx(machine: Machine, servers: str) -> None:
    config = machine.folder / "nginx.conf"
    config.write_text(NGINX.format(folder=machine.folder, servers=servers))
    await machine.start(f"nginx -c {config} -e {machine.folder / 'error.log'}")


async def _outside(net: Network, fleet: sandbox.Served, product: Product) -> Any:
    """The way from the machines to Makini and the product, which listen on loopback only."""
    folder = net.folder / "outside"
    folder.mkdir()
    places = (fleet.url, product.url.removesuffix("/hooks"))
    servers = "".join(
        PASS.format(listen=f"{net.here}:{OUTSIDE + number}", to=url.removeprefix("http://"))
        for number, url in enumerate(places)
    )
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, servers=servers))
    return await asyncio.create_subprocess_exec(
        "nginx", "-c", str(config), "-e", str(folder / "error.log"), env={"PATH": PATH}
    )
