"""A service whose database does not answer when it starts waits for it, and says so once."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy.engine import URL, make_url

from linekeeper.settings import Settings
from tests.databases import KEY
from tests.forking import Forked, python
from tests.receiver.processes import free_port

SECONDS = 120
_SSL_REQUEST = struct.pack("!i", 8)
pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


def away(settings: Settings) -> URL:
    """The address of the database at a port where nobody listens yet."""
    url = make_url(settings.resolved_database_url)
    return url.set(host="127.0.0.1", port=free_port(), query={})


@asynccontextmanager
async def listening(settings: Settings, at: URL) -> AsyncIterator[None]:
    """The database answers at that port, for the block."""
    folder = make_url(settings.resolved_database_url).query["host"]
    assert isinstance(folder, str)
    [socket] = [path for path in Path(folder).iterdir() if path.is_socket()]

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to = await asyncio.open_unix_connection(socket)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
            target.close()

        await asyncio.gather(copy(reader, to), copy(theirs, writer), return_exceptions=True)

    server = await asyncio.start_server(forward, at.host, at.port)
    try:
        yield
    finally:
        server.close()


def starting_up() -> bytes:
    """What PostgreSQL answers until it has recovered."""
    said = {"S": "FATAL", "V": "FATAL", "C": "57P03", "M": "the database system is starting up"}
    body = b"".join(f"{name}{value}\0".encode() for name, value in said.items()) + b"\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body


@asynccontextmanager
async def not_yet(at: URL, answer: bytes) -> AsyncIterator[None]:
    """Whoever connects gets `answer`, for the block; an empty one never comes."""

    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while header := await reader.read(4):
            await reader.readexactly(struct.unpack("!i", header)[0] - 4)
            if header != _SSL_REQUEST and answer:
                writer.write(answer)
                writer.close()
                return
            if answer:
                writer.write(b"N")

    server = await asyncio.start_server(talk, at.host, at.port)
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def asked_meanwhile(port: int) -> dict[str, tuple[int, str | None]]:
    """What a receiver that waits for its database answers to whom."""
    answers = {}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as asking:
        for path in ("/healthz", "/readyz", "/api/connections/some/token", "/connect/some"):
            answers[path] = await asking.get(path)
        answers["/webhooks/default"] = await asking.post("/webhooks/default", content=b"{}")
    assert "Your link still works" in answers["/connect/some"].text
    return {
        path: (answer.status_code, answer.headers.get("Retry-After"))
        for path, answer in answers.items()
    }


@asynccontextmanager
async def begun(part: str, settings: Settings, url: URL, port: int = 0) -> AsyncIterator[Forked]:
    """A part that runs by itself, for the block at most."""
    variables = {
        "LINEKEEPER_HOME": str(settings.home),
        "LINEKEEPER_DATABASE_URL": url.render_as_string(hide_password=False),
        "LINEKEEPER_ENCRYPTION_KEYS": KEY.get_secret_value(),
        "LINEKEEPER_RECEIVER_PORT": str(port or free_port()),
        "LINEKEEPER_PREFECT_PORT": "1",
    }
    process = await python("linekeeper.cli", part, env={**os.environ, **variables})
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def said_until(process: Forked, words: str) -> list[str]:
    """The lines up to the one with `words`."""
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(SECONDS):
        while line := await process.stdout.readline():
            lines.append(line.decode().strip())
            if words in lines[-1]:
                return lines
    raise AssertionError(lines)


@pytest.mark.parametrize("part", ["consumer", "receiver"])
async def test_a_database_that_comes_later_is_waited_for(part: str, settings: Settings) -> None:
    url = away(settings)
    port = free_port()
    async with begun(part, settings, url, port) as process:
        lines = await said_until(process, "It is waited for, 60 seconds at most")
        assert "the database does not answer" in lines[-1]
        if part == "receiver":
            assert await asked_meanwhile(port) == {
                "/healthz": (200, None),
                "/readyz": (503, "5"),
                "/webhooks/default": (503, "5"),
                "/api/connections/some/token": (503, "5"),
                "/connect/some": (503, None),
            }
        await asyncio.sleep(3)
        async with listening(settings, url):
            assert len(await said_until(process, "ready")) == 1  # said once
            if part == "receiver":
                async with httpx.AsyncClient() as asking:
                    answer = await asking.get(f"http://127.0.0.1:{port}/readyz")
                assert answer.status_code == 200
            process.terminate()
            assert await asyncio.wait_for(process.wait(), SECONDS) == 0


AGAIN = pytest.mark.repeats(
    "cli/test_database_away.py::test_so_is_one_that_takes_no_connections_yet"
)


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        pytest.param("consumer", starting_up(), id="consumer, starting up"),
        pytest.param("receiver", b"", id="receiver, silent"),
        pytest.param("receiver", starting_up(), id="receiver, starting up", marks=AGAIN),
        pytest.param("consumer", b"", id="consumer, silent", marks=AGAIN),
    ],
)
async def test_so_is_one_that_takes_no_connections_yet(
    part: str, settings: Settings, answer: bytes
) -> None:
    """It had ended at once where PostgreSQL was starting, as after a machine's start."""
    url = away(settings)
    async with AsyncExitStack() as running:
        async with not_yet(url, answer):
            process = await running.enter_async_context(begun(part, settings, url))
            await said_until(process, "It is waited for, 60 seconds at most")
        async with listening(settings, url):
            await said_until(process, "ready")
            process.terminate()
            assert await asyncio.wait_for(process.wait(), SECONDS) == 0


STOPPED = pytest.mark.repeats(
    "cli/test_database_away.py::test_who_is_told_to_stop_while_it_waits_ends_at_once"
)


@pytest.mark.parametrize("part", ["consumer", pytest.param("receiver", marks=STOPPED)])
async def test_who_is_told_to_stop_while_it_waits_ends_at_once(
    part: str, settings: Settings
) -> None:
    async with begun(part, settings, away(settings)) as process:
        await said_until(process, "It is waited for, 60 seconds at most")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
