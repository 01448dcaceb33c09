"""A real Prefect server of its own for all tests that need one, started once."""

import asyncio
import atexit
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.places import quick_folder

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

for name in [name for name in os.environ if name.startswith("PREFECT_")]:
    del os.environ[name]  # a developer's own server and profiles stay out of it
HOME = Path(tempfile.mkdtemp(prefix="linekeeper-prefect-", dir=quick_folder()))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ["PREFECT_HOME"] = str(HOME / "client")
os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
os.environ["PREFECT_CLIENT_CSRF_SUPPORT_ENABLED"] = "false"  # no server here asks for its token
os.environ["DO_NOT_TRACK"] = "1"

PLANS_NOTHING = {"PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false"}
"""The server plans runs of a schedule when a test asks for it, and never between its steps."""
START_SECONDS = 240
DEPLOYED: dict[str, set[object]] = {}
"""By server on which everything is as a deploy left it, but for runs and perhaps blocks: these."""


@dataclass(frozen=True, slots=True)
class PrefectServer:
    """Where it is, and the environment in which commands talk to it."""

    host: str
    port: int
    home: Path

    @property
    def database(self) -> Path:
        return self.home / "prefect" / "prefect.db"

    @property
    def api_url(self) -> str:
        return f"http://{self.host}:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PREFECT_API_URL": self.api_url, "NO_COLOR": "1", "COLUMNS": "200"}

    async def run(self, *arguments: str, cwd: Path | None = None, **more: str) -> tuple[int, str]:
        """Run `python -m …` against it; returns the exit code and all it said."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *arguments,
            cwd=cwd,
            env={**self.environment, **more},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[PrefectServer]:
    """One server for the session, with a home and a port of its own."""
    from linekeeper.settings import Settings
    from tasks.prefect_adapter.server import server_environment

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    home = Path(tempfile.mkdtemp(prefix="server-", dir=HOME))
    server = PrefectServer("127.0.0.1", port, home)
    own = server_environment(Settings(home=home, prefect_port=port))
    with _log(server).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "linekeeper.cli.prefect_server"],
            env={**os.environ, **own, **PLANS_NOTHING},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(server, process)
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _wait_until_ready(server: PrefectServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.api_url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the Prefect server did not start:\n{_log(server).read_text()}")


def _log(server: PrefectServer) -> Path:
    return server.home / "server.log"


def is_empty(server: PrefectServer) -> bool:
    """Whether the server has nothing that a test could find there: most leave only runs."""
    kept = ("deployment", "automation", "block_document", "variable")
    found = " UNION ALL ".join(f"SELECT 1 FROM {table}" for table in kept)
    found += " UNION ALL SELECT 1 FROM work_pool WHERE name = 'linekeeper'"
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as opened:
        return opened.execute(f"{found} LIMIT 1").fetchone() is None


async def forget_everything(server: PrefectServer) -> None:
    """Leave nothing of Linekeeper's on the server."""
    DEPLOYED.clear()
    if is_empty(server):
        return
    from prefect.client.orchestration import PrefectClient
    from prefect.exceptions import ObjectNotFound

    async with PrefectClient(server.api_url) as client:
        for deployment in await client.read_deployments():
            await client.delete_deployment(deployment.id)
        for automation in await client.read_automations():
            await client.delete_automation(automation.id)
        await forget_blocks(client)
        for variable in await client.read_variables():
            await client.delete_variable_by_name(variable.name)
        with suppress(ObjectNotFound):
            await client.delete_work_pool("linekeeper")


async def blocks_of(client: "PrefectClient") -> set[object]:
    """Its blocks as they are now."""
    found = await client.read_block_documents()
    return {(document.id, document.updated, str(document.data)) for document in found}


async def forget_blocks(client: "PrefectClient") -> None:
    """Leave no block on its server."""
    for document in await client.read_block_documents():
        await client.delete_block_document(document.id)


@pytest.fixture
async def clean_prefect(prefect_server: PrefectServer) -> PrefectServer:
    """The server with nothing of Linekeeper's on it."""
    await forget_everything(prefect_server)
    return prefect_server
