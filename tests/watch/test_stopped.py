"""Workers and work, as real processes that are stopped and killed: another part says so, and when
it is over."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from sqlalchemy import update
from sqlmodel import col, select

from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Incident, PartHeartbeat
from sandbox import Settings as SandboxSettings
from sandbox import serving
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import on_both
from tests.receiver.processes import start
from tests.watch.test_parts import House

WATCH_MINUTES = 0.6
"""More than the fifteen seconds between two looks at Prefect, twice."""
PATIENCE = 900
FLOWS = {"sweep": "health_sweep", "reconcile": "reconcile", "digest": "digest"}
WORK = (*FLOWS, "backup")
pytestmark = [on_both, pytest.mark.timeout(6 * PATIENCE)]


class Gate:
    """Makini, which answers only while the gate is open."""

    def __init__(self, makini: str) -> None:
        self._makini = makini
        self.opened = asyncio.Event()
        self.opened.set()
        self.asked = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.set()
        await self.opened.wait()
        headers = {
            k: v for k, v in request.headers.items() if k in ("Authorization", "Content-Type")
        }
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            url = f"{self._makini}{request.rel_url}"
            said = await http.request(request.method, url, content=body, headers=headers)
        kind = said.headers.get("content-type", "text/plain").partition(";")[0]
        return web.Response(body=said.content, status=said.status_code, content_type=kind)


class Place(House):
    """A receiver and a consumer on one database, with a Prefect and a Makini; what runs beside."""

    def __init__(self, house: House, store: Store, environment: dict[str, str], log: Path) -> None:
        self._messages = house._messages
        self.parts = house.parts
        self.store = store
        self.environment = environment
        self.log = log
        self.gate = Gate("")
        self.processes: list[asyncio.subprocess.Process] = []

    async def spawn(self, *words: str) -> asyncio.subprocess.Process:
        """`python WORDS`, ended with the test."""
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *words, env=self.environment, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    async def begin(self, work: str, number: int) -> asyncio.subprocess.Process:
        """What does `work` once."""
        if work == "backup":
            file = self.log.with_name(f"backup-{number}")
            return await self.spawn("-m", "linekeeper.cli", "backup", str(file))
        name = FLOWS[work]
        more = "tell=False" if work == "digest" else ""
        script = f"import asyncio; from flows.{name} import {name} as f; asyncio.run(f({more}))"
        return await self.spawn("-c", script)

    async def long_ago(self) -> None:
        """As if receiver and consumer had watched for ten days, and the work been done then."""
        async with self.store.write() as session:
            at = await self.store.clock(session) - timedelta(days=10)
            watching = col(PartHeartbeat.kind).in_(("receiver", "consumer"))
            await session.execute(update(PartHeartbeat).where(watching).values(since=at))
            done = col(PartHeartbeat.kind).in_(WORK)
            await session.execute(update(PartHeartbeat).where(done).values(at=at))
            taken = col(Audit.action) == "backup.taken"
            await session.execute(update(Audit).where(taken).values(at=at))

    async def is_open(self, cause: str) -> bool:
        """Whether there is an open incident of this cause."""
        async with self.store.read() as session:
            wanted = select(Incident.id).where(
                col(Incident.cause) == f"parts:{cause}", col(Incident.resolved_at).is_(None)
            )
            return (await session.scalar(wanted)) is not None

    async def until(self, cause: str, *, is_open: bool) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.is_open(cause) != is_open:
                await asyncio.sleep(0.5)

    async def until_shown(self, words: str, *, is_shown: bool) -> None:
        """Until Slack shows, or shows no more, an open incident of this title."""
        async with asyncio.timeout(PATIENCE):
            while self._shows(words) != is_shown:
                await asyncio.sleep(0.5)

    def _shows(self, words: str) -> bool:
        heads = [str(message["text"]).partition("\n")[0] for message in self._messages()]
        return any(words in head and "resolved" not in head for head in heads)


@pytest.fixture
async def place(
    request: pytest.FixtureRequest,
    settings: Settings,
    store: Store,
    clean_prefect: PrefectServer,
    tmp_path: Path,
) -> AsyncIterator[Place]:
    box = SandboxSettings(port=0, connections=2, records_per_connection=4)
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(serving(box))
        gate = Gate(sandbox.url)
        extra = {
            "LINEKEEPER_WATCH_MINUTES": str(getattr(request, "param", WATCH_MINUTES)),
            "LINEKEEPER_SLACK_BOT_TOKEN": box.slack_token,
            "LINEKEEPER_SLACK_CHANNEL": "#linekeeper",
            "LINEKEEPER_SLACK_API_URL": f"{sandbox.url}/slack/api/",
            "LINEKEEPER_MAKINI_API_URL": await stack.enter_async_context(served(gate)),
            "LINEKEEPER_MAKINI_CLIENT_ID": box.client_id,
            "LINEKEEPER_MAKINI_CLIENT_SECRET": box.client_secret,
            "PREFECT_API_URL": clean_prefect.api_url,
        }
        house = House(sandbox.world.slack.snapshot)
        for name in ("receiver", "consumer"):
            log = tmp_path / f"{name}.log"
            house.parts[name] = part = await start(name, settings, log, extra=extra)
            stack.push_async_callback(part.kill)
        key = settings.encryption_keys[0].get_secret_value()
        environment = {
            **os.environ,
            **extra,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "LINEKEEPER_HOME": str(settings.home),
            "LINEKEEPER_DATABASE_URL": settings.resolved_database_url,
            "LINEKEEPER_ENCRYPTION_KEYS": key,
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "2",
        }
        place = Place(house, store, environment, tmp_path / "beside.log")
        place.gate = gate
        try:
            yield place
        finally:
            gate.opened.set()
            for process in place.processes:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


@asynccontextmanager
async def served(gate: Gate) -> AsyncIterator[str]:
    """The address of the gate."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", gate.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.soak)]
)
@pytest.mark.repeats(
    "watch/test_one_cause.py::test_no_worker_is_one_message_however_it_shows",
    "watch/test_parts.py::test_a_consumer_that_is_killed_is_noticed_by_the_receiver",
)
async def test_a_worker_that_hangs_or_is_killed_is_noticed_by_the_consumer(
    place: Place, number: signal.Signals
) -> None:
    worker = ("-m", "prefect", "worker", "start", "--pool", "linekeeper", "--type", "process")
    named = (*worker, "--name", "first", "--install-policy", "never")
    process = await place.spawn(*named)
    gone = "No worker for the work pool since"
    async with asyncio.timeout(PATIENCE):
        while not await _is_known(place.store, "worker:first"):
            await asyncio.sleep(0.5)
    await place.until("pool", is_open=False)
    process.send_signal(number)
    await place.until("pool", is_open=True)
    await place.until_shown(gone, is_shown=True)
    if number == signal.SIGSTOP:
        process.send_signal(signal.SIGCONT)
    else:
        await place.spawn(*named)
    await place.until("pool", is_open=False)
    await place.until_shown(gone, is_shown=False)


async def _is_known(store: Store, part: str) -> bool:
    async with store.read() as session:
        return await session.get(PartHeartbeat, part) is not None


@pytest.mark.soak
@pytest.mark.parametrize("place", [15], indirect=True)  # what was done is not missed again at once
async def test_work_that_hangs_or_is_killed_is_missed_until_it_is_done(place: Place) -> None:
    assert await asyncio.gather(*(_does(place, work, 0) for work in WORK)) == [True] * len(WORK)
    for number, signalled in enumerate((signal.SIGSTOP, signal.SIGKILL), start=1):
        place.gate.asked.clear()
        place.gate.opened.clear()
        processes = {"sweep": await place.begin("sweep", number)}
        async with asyncio.timeout(PATIENCE):
            await place.gate.asked.wait()  # in the middle of it, with its lease
        for work in ("reconcile", "digest", "backup"):
            processes[work] = await place.begin(work, number)
        for process in processes.values():
            process.send_signal(signalled)
        place.gate.opened.set()
        await place.long_ago()
        for work in WORK:
            await place.until(f"work:{work}", is_open=True)
            await place.until_shown(f"No {work} completed since", is_shown=True)
        for work, process in processes.items():
            if signalled == signal.SIGSTOP:
                process.send_signal(signal.SIGCONT)
            await process.wait()
            # One that was stopped for longer than its lease gives up; the next one does the work.
            if process.returncode:
                await _does(place, work, number + 10)
            await place.until(f"work:{work}", is_open=False)
            await place.until_shown(f"No {work} completed since", is_shown=False)


async def _does(place: Place, work: str, number: int) -> bool:
    """Do `work`; whether it was completed, whatever it found."""
    process = await place.begin(work, number)
    await process.wait()
    async with place.store.read() as session:
        if work != "backup":
            return await session.get(PartHeartbeat, work) is not None
        taken = select(Audit.id).where(col(Audit.action) == "backup.taken")
        return (await session.scalar(taken.limit(1))) is not None
