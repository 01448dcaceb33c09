"""`linekeeper up` with its sandbox, once for all browser tests, and a Chromium to look at it."""

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Error, Page, async_playwright, expect
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState
from prefect.client.schemas.filters import FlowRunFilterStateName as StateName
from prefect.client.schemas.objects import FlowRun

from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.e2e.forked_runs import command
from tests.health.test_sweep import sweep
from tests.places import quick_folder

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "linekeeper.cli")
CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""A browser that talks to nobody but us."""
WITHOUT_GRAPHS = () if "SCREENSHOTS" in os.environ else ("--disable-3d-apis",)
"""Prefect draws a run's graph sixty times a second, which costs a core, and no test looks at it."""
PATIENCE_MS = 30_000
"""For what a page does or shows in a moment where the machine has nothing else to do."""
PARTS = ("prefect", "receiver", "sandbox", "product", "mail")
"""The ports of a house. At the last two a test may listen: for what is forwarded, and mailed."""
PRODUCT_TOKENS = (
    "userinfo-of-the-forward-url",
    "path-of-the-forward-url",
    "query-of-the-forward-url",
)
PRODUCT = (
    f"http://product:{PRODUCT_TOKENS[0]}@127.0.0.1:{{port}}/hooks/{PRODUCT_TOKENS[1]}"
    f"?key={PRODUCT_TOKENS[2]}"
)
MAIL_ACCOUNT = ("line", "the-password-of-the-mail-account")
PRODUCT_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class House:
    """A running `linekeeper up`, and what a test may do to it and ask of it."""

    home: Path
    ports: dict[str, int]
    environment: dict[str, str]
    process: asyncio.subprocess.Process
    command: tuple[str, ...] = COMMAND
    cwd: Path = ROOT
    said: list[str] = field(default_factory=list)
    http: httpx.AsyncClient = field(init=False)

    def url(self, part: str) -> str:
        """Where `part` is: prefect, receiver or sandbox."""
        return f"http://127.0.0.1:{self.ports[part]}"

    @property
    def settings(self) -> Settings:
        """The settings of the running parts."""
        return Settings(home=self.home, _env_file=None)

    def store(self) -> Any:
        """`async with house.store() as store`: the database the parts work on."""
        return Store.open(self.settings)

    @asynccontextmanager
    async def core(self) -> AsyncIterator[Runtime]:
        """What its flows work with, for what a test only needs: without a process for each run."""
        async with Runtime.open(self.settings.model_copy(update={"probe_minutes": 0})) as rt:
            yield rt

    async def is_configured(self) -> bool:
        """Whether its core knows the app that the blocks name."""
        async with self.core() as rt:
            return bool((await rt.configuration()).apps)

    def prefect(self) -> PrefectClient:
        """`async with house.prefect() as client`: Prefect's own client."""
        return PrefectClient(f"{self.url('prefect')}/api")

    async def fork_runs(self) -> None:
        """Its runs begin in a moment (`tests.e2e.forked_runs`)."""
        async with self.prefect() as client:
            pool = await client.read_work_pool(self.settings.work_pool)
            template = pool.base_job_template
            own = command(self.home.parent / "runs.socket")  # what is in the home is the parts'
            template["variables"]["properties"]["command"]["default"] = own
            await client.update_work_pool(pool.name, WorkPoolUpdate(base_job_template=template))

    async def control(self, path: str, **body: object) -> Any:
        """`POST /_control/{path}` of the sandbox; returns its JSON."""
        answer = await self.http.post(f"{self.url('sandbox')}/_control/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def slack(self) -> list[dict[str, Any]]:
        """The messages in the sandbox's Slack."""
        answer = await self.http.get(f"{self.url('sandbox')}/_control/slack")
        return list(answer.json()["messages"])

    async def linekeeper(self, *arguments: str) -> tuple[int, str]:
        """Run `linekeeper …` beside it; returns the exit code and all it said."""
        process = await asyncio.create_subprocess_exec(
            *(*self.command, *arguments),
            env=self.environment,
            cwd=self.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    async def start(self, deployment: str, **parameters: object) -> FlowRun:
        """Start `deployment/deployment`."""
        async with self.prefect() as client:
            found = await client.read_deployment_by_name(f"{deployment}/{deployment}")
            return await client.create_flow_run_from_deployment(found.id, parameters=parameters)

    async def trigger(self, deployment: str, **parameters: object) -> FlowRun:
        """Start `deployment/deployment` and return its run, ended; an implementation's, waiting."""
        run = await self.start(deployment, **parameters)
        waits = deployment == "implementation"
        return await (self.settled(run.id) if waits else self.ended(run.id))

    async def ended(self, run_id: Any, *, seconds: float = 600) -> FlowRun:
        """The run, once it is over."""

        async def over() -> FlowRun | None:
            run = await client.read_flow_run(run_id)
            return run if run.state is not None and run.state.is_final() else None

        async with self.prefect() as client:
            return await until(over, seconds=seconds, what=f"run {run_id} to end")

    async def settled(self, run_id: Any, *, seconds: float = 90) -> FlowRun:
        """The run, once it is over or waits."""

        async def waits() -> FlowRun | None:
            run = await client.read_flow_run(run_id)
            settled = run.state is not None and (run.state.is_final() or run.state.is_paused())
            return run if settled else None

        async with self.prefect() as client:
            return await until(waits, seconds=seconds, what=f"run {run_id} to end or to wait")

    async def runs(self, *, state: str | None = None) -> list[FlowRun]:
        """The flow runs, newest first; those in the state named `state`."""
        named = (
            FlowRunFilter(state=FlowRunFilterState(name=StateName(any_=[state]))) if state else None
        )
        async with self.prefect() as client:
            return await client.read_flow_runs(flow_run_filter=named)


async def until(
    question: Callable[[], Awaitable[Any]], *, seconds: float = 60, what: str = "it"
) -> Any:
    """The first answer that is not None or False; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            answer = await question()
            if answer:
                return answer
            await asyncio.sleep(0.3)
    raise AssertionError(f"waited {seconds} s for {what}")


@asynccontextmanager
async def started(
    home: Path,
    ports: dict[str, int],
    *arguments: str,
    command: tuple[str, ...] = COMMAND,
    cwd: Path = ROOT,
    bare: Mapping[str, str] = os.environ,
    **environment: str,
) -> AsyncIterator[House]:
    """`linekeeper up ARGUMENTS` on `home`, once it is ready; ended as a service manager ends it."""
    theirs = ("PREFECT_", "LINEKEEPER_") if bare is os.environ else ()
    ours = {name: value for name, value in bare.items() if not name.startswith(theirs)}
    served = PARTS[:3] if "--sandbox" in arguments else PARTS[:2]
    ours |= {f"LINEKEEPER_{part.upper()}_PORT": str(ports[part]) for part in served}
    ours |= {"DO_NOT_TRACK": "1", "LINEKEEPER_HOME": str(home), **environment}
    process = await asyncio.create_subprocess_exec(
        *(*command, "up", *arguments),
        env=ours,
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        umask=0o022,  # the usual one: what is closed is closed by `up` itself
    )
    house = House(home, ports, ours, process, command, cwd)
    ready = asyncio.Event()
    listening = asyncio.create_task(_listen(house, ready))
    shorter = httpx.Limits(keepalive_expiry=2)  # than the servers', which close after five
    async with httpx.AsyncClient(timeout=30, limits=shorter) as house.http:
        try:
            await asyncio.wait_for(ready.wait(), 900)
            if process.returncode is not None or not house.said[-1].startswith("ready"):
                raise RuntimeError("\n".join(house.said))
            yield house
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
            await listening


def free_ports(*parts: str) -> dict[str, int]:
    """A free port for each of `parts`."""
    return {part: _free_port() for part in parts}


@asynccontextmanager
async def living(*, connections: int, **environment: str) -> AsyncIterator[House]:
    """`linekeeper up --sandbox --scenario quiet --no-schedules`, with ports of its own."""
    with tempfile.TemporaryDirectory(
        prefix="linekeeper-e2e-", dir=quick_folder(), ignore_cleanup_errors=True
    ) as name:
        ports = free_ports(*PARTS)
        async with started(
            Path(name) / "home",
            ports,
            *("--sandbox", "--scenario", "quiet", "--no-schedules"),
            *("--connections", str(connections)),
            LINEKEEPER_FORWARD_URL=PRODUCT.format(port=ports["product"]),
            LINEKEEPER_FORWARD_SECRET=PRODUCT_SECRET,
            LINEKEEPER_NOTIFY_CUSTOMERS="true",
            LINEKEEPER_SMTP_URL=f"smtp://{':'.join(MAIL_ACCOUNT)}@127.0.0.1:{ports['mail']}",
            LINEKEEPER_MAIL_FROM="Line <line@operator.example>",
            **environment,
        ) as house:
            yield house


@pytest.fixture(scope="package")
async def house() -> AsyncIterator[House]:
    """One for all browser tests, its fleet swept once; ended after the last of them."""
    # A worker that looks so often that a run is not waited for ten seconds.
    async with living(connections=24, PREFECT_WORKER_QUERY_SECONDS="2") as one:
        await until(one.is_configured, what="the consumer to read the blocks")
        await one.fork_runs()
        async with one.core() as rt:
            await sweep(rt)
        yield one


async def _listen(house: House, ready: asyncio.Event) -> None:
    assert house.process.stdout is not None
    while line := (await house.process.stdout.readline()).decode():
        house.said.append(line.rstrip())
        if line.startswith("ready"):
            ready.set()
    ready.set()


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    executable = next((path for path in CHROMIUM if Path(path).exists()), None)
    assert executable, "The browser tests need Chromium. Run first: sudo apt-get install chromium"
    async with async_playwright() as playwright:
        one = await playwright.chromium.launch(
            executable_path=executable, args=[*QUIET, *WITHOUT_GRAPHS]
        )
        yield one
        await one.close()


@pytest.fixture(scope="package")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """As wide as a laptop; Prefect's scripts, which the server packs each time, are kept in it."""
    one = await browser.new_context(viewport={"width": 1440, "height": 900})
    one.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    yield one
    await one.close()


@pytest.fixture
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """A fresh page of somebody who was never there."""
    yield await context.new_page()
    for one in context.pages:
        with suppress(Error):  # it is nowhere, or on its way
            await one.evaluate("() => localStorage.clear()")
        await one.close()
    await context.clear_cookies()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
