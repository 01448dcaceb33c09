"""`deploy/compose.yaml`, run by podman-compose: what a test may do to it, and ask of it.

The machine's own network takes the place of the composed one: each service has an address of the
loopback network, and finds the others by their names.
"""

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import SecretStr

import sandbox
from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.deploy.conftest import blocks, paste, run
from tests.deploy.containers import podman, wrapper
from tests.e2e.conftest import ROOT, until

DEPLOY = ROOT / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
PARTS = [name for name in SERVICES if name[-2:] in ("-1", "-2")]
UI = "https://prefect.example.com"
WAITED_FOR = sorted(
    {
        name
        for service in SERVICES.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
    }
)
CHECK_SECONDS = 3
"""Between two looks: each is a process or two, and the parts need the processor themselves."""
LETSENCRYPT = "/etc/letsencrypt/live/linekeeper.example.com"
_WRAPPER = """#!/bin/sh
shift 2
exec {compose} -f deploy/compose.yaml -f deploy/here.yaml "$@"
"""


@dataclass
class Composed:
    """What runs, from the folder `deploy` of a checkout."""

    folder: Path
    net: str
    project: str
    environment: dict[str, str]
    fleet: sandbox.Served
    http: httpx.AsyncClient = field(init=False)

    def at(self, name: str) -> str:
        """The address of a service."""
        return f"{self.net}.{list(SERVICES).index(name) + 10}"

    def container(self, name: str) -> str:
        """The name of a service's container."""
        return f"{self.project}_{name}_1"

    def secret(self, name: str) -> str:
        """What is in a file of the secrets."""
        return (self.folder / "secrets" / name).read_text().strip()

    def store(self) -> Store:
        """`async with place.store() as store`: the database the parts work on."""
        url = self.secret("linekeeper_database_url").replace("@postgres", f"@{self.at('postgres')}")
        there = SecretStr(url)
        keys = self.folder / "secrets"
        return Store.open(
            Settings(_env_file=None, home=self.folder, database_url=there, _secrets_dir=keys)
        )

    async def types(self, block: str) -> str:
        """Paste a block of `docs/deploy.md` into a shell, where its files are."""
        own = block.replace("deploy_$", f"{self.project}_$")
        there = {**os.environ, **self.environment, "COMPOSE_PROJECT_NAME": self.project}
        checking = asyncio.create_task(self._check())
        try:
            return await paste(own, self.folder.parent, there, self.folder / "bin")
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)

    async def _check(self) -> None:
        """What systemd's timers, or Docker, do elsewhere: ask those others wait for how they are.

        podman-compose only waits for the answer.
        """
        while True:
            for name in WAITED_FOR:
                await self._says_that_it_is_well(name)
            await asyncio.sleep(CHECK_SECONDS)

    async def _says_that_it_is_well(self, name: str) -> bool:
        try:
            await podman("healthcheck", "run", self.container(name))
        except AssertionError:
            return False
        return True

    async def prefect(self, path: str, *, method: str = "", **body: object) -> Any:
        """`POST` (`GET` without a body) to Prefect's API, again while it has too much to do."""
        login = ("admin", self.secret("prefect_password"))
        url = f"http://{self.at('prefect')}:4200/api{path}"
        method = method or ("POST" if body else "GET")

        async def answered() -> httpx.Response | None:
            try:
                answer = await self.http.request(method, url, json=body or None, auth=login)
            except httpx.TransportError:
                return None
            return None if answer.status_code >= 500 else answer

        answer: httpx.Response = await until(answered, seconds=900, what=url)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def schedules(self) -> list[str]:
        """The schedules that are on."""
        return [
            f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
            for deployment in await self.prefect("/deployments/filter", limit=200)
            for schedule in deployment["schedules"]
            if schedule["active"]
        ]

    async def switch_schedules_off(self) -> None:
        """So that nothing runs but what the test starts: a run takes seconds of a processor."""
        for path in await self.schedules():
            await self.prefect(path, method="PATCH", active=False)

    async def completed(self, deployment: str, *, seconds: float = 1_200) -> dict[str, Any]:
        """Run `deployment/deployment` to its end; its run."""
        found = await self.prefect(f"/deployments/name/{deployment}/{deployment}")
        path = f"/deployments/{found['id']}/create_flow_run"
        begun = await self.prefect(path, state={"type": "SCHEDULED"})

        async def ended() -> dict[str, Any] | None:
            await asyncio.sleep(5)
            row: dict[str, Any] = await self.prefect(f"/flow_runs/{begun['id']}")
            over = row["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
            return row if over else None

        found = await until(ended, seconds=seconds, what=f"{deployment} to end")
        return dict(found)

    async def control(self, path: str, **body: object) -> Any:
        """`POST /_control/{path}` of the sandbox."""
        answer = await self.http.post(f"{self.fleet.url}/_control/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def truth(self, what: str = "") -> dict[str, Any]:
        """What the sandbox knows to be so."""
        return dict((await self.http.get(f"{self.fleet.url}/_control/truth{what}")).json())

    async def healthy(self, *names: str, seconds: float = 900) -> None:
        """Wait until the containers of `names` say that they are."""
        lacking = list(names)

        async def all_are() -> bool:
            while lacking and await self._says_that_it_is_well(lacking[0]):
                del lacking[0]
            if lacking:
                await asyncio.sleep(CHECK_SECONDS)
            return not lacking

        await until(all_are, seconds=seconds, what=f"{names} to be healthy")


@asynccontextmanager
async def composed(
    checkout: Path, box: sandbox.Settings, more: dict[str, str], images: dict[str, str]
) -> AsyncIterator[Composed]:
    """All of it, set up and healthy as `docs/deploy.md` says, with a Makini and a Slack beside."""
    folder = checkout / "deploy"
    tool = wrapper(folder) / "podman-compose"
    tool.write_text(_WRAPPER.format(compose=Path(sys.executable).with_name(tool.name)))
    tool.chmod(0o755)
    number = secrets.randbelow(200) + 20
    async with sandbox.serving(box) as fleet:
        place = Composed(folder, f"127.84.{number}", f"lk{number}", images, fleet)
        box.webhook_url = f"https://{place.at('nginx')}/webhooks/default"
        files, start, *_ = blocks("With compose", {LETSENCRYPT: await _certificate(place)})
        await place.types(files)
        (folder / "here.yaml").write_text(yaml.safe_dump(_here(place, more)))
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=300, limits=limits, trust_env=False) as place.http:
            try:
                await place.types(start)
                await place.switch_schedules_off()
                await place.healthy(*(name for name in SERVICES if name not in ("setup", "nginx")))
                yield place
            finally:
                for name in SERVICES:
                    with contextlib.suppress(AssertionError):
                        said = await podman("logs", place.container(name))
                        (folder / f"{name}.log").write_text(said)
                with contextlib.suppress(AssertionError):
                    await place.types("podman-compose -f deploy/compose.yaml down -v -t 10")


def _here(place: Composed, more: dict[str, str]) -> dict[str, Any]:
    """What is otherwise on this machine: its own network, with an address for each name."""
    (place.folder / "nginx.compose.conf").write_text(
        (DEPLOY / "nginx.compose.conf")
        .read_text()
        .replace("listen ", f"listen {place.at('nginx')}:")
    )
    common: dict[str, Any] = {
        "network_mode": "host",
        "extra_hosts": [f"{name}:{place.at(name)}" for name in SERVICES],
        "ulimits": {"nofile": {"soft": 20000, "hard": 20000}, "nproc": 90000},
    }
    own: dict[str, dict[str, Any]] = {name: {**common, "environment": {}} for name in SERVICES}
    own["postgres"]["command"] = (
        f"{SERVICES['postgres']['command']} -c listen_addresses={place.at('postgres')}"
    )
    own["redis"]["command"] = (
        f"{SERVICES['redis']['command']} --bind {place.at('redis')} --protected-mode no"
    )
    own["prefect"]["command"] = SERVICES["prefect"]["command"].replace(
        "0.0.0.0", place.at("prefect")
    )
    for name in ("setup", *PARTS):
        own[name]["environment"] = {
            **more,
            "LINEKEEPER_MAKINI_API_URL": place.fleet.url,
            "LINEKEEPER_MAKINI_LINK_URL": place.fleet.url,
            "LINEKEEPER_RECEIVER_HOST": place.at(name),
            "PREFECT_WORKER_WEBSERVER_HOST": place.at(name),
        }
    return {"services": own}


async def _certificate(place: Composed) -> Path:
    """An authority of our own, and a folder with nginx's certificate by it."""
    authority, key, request = (place.folder / f"authority.{end}" for end in ("pem", "key", "csr"))
    names = place.folder / "names"
    names.write_text(f"subjectAltName=DNS:linekeeper.example.com,IP:{place.at('nginx')}\n")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    tls = place.folder / "letsencrypt"
    tls.mkdir()
    await run(
        *("openssl", "req", "-x509", *new, "-keyout", key, "-out", authority, "-days", "2"),
        *("-subj", "/CN=An authority of our own"),
    )
    await run(
        *("openssl", "req", *new, "-keyout", tls / "privkey.pem", "-out", request),
        *("-subj", "/CN=linekeeper.example.com"),
    )
    await run(
        *("openssl", "x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-days", "2"),
        *("-extfile", names, "-out", tls / "fullchain.pem"),
    )
    return tls
