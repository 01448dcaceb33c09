"""When the database is locked, full, read-only or gone: 503, and never a 200 for what isn't stored.

Whatever is sent, an answer is one of INTERFACE's.
"""

import asyncio
import json
import resource
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import make_url, text

from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.receiver.conftest import Here, head, receiving, signature
from tests.receiver.processes import part


@pytest.fixture
async def here(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    """A receiver that waits for its database a moment only."""
    monkeypatch.setattr("linekeeper.inbox.intake.STORE_SECONDS", 0.4)
    monkeypatch.setattr("linekeeper.receiver.pages.READY_SECONDS", 0.4)
    monkeypatch.setattr("linekeeper.receiver.pages.ASK_AGAIN_SECONDS", 0.0)
    async with receiving(settings) as here:
        yield here


@asynccontextmanager
async def locked(store: Store) -> AsyncIterator[None]:
    """Somebody holds the lock every writer needs."""
    async with store.write() as session:
        lock = "SELECT 1" if store.is_sqlite else "LOCK TABLE webhook_event, receiver_heartbeat"
        await session.execute(text(lock))
        yield


async def test_a_locked_database_is_503_until_it_is_free(here: Here) -> None:
    async with locked(here.rt.store):
        answers = await asyncio.gather(*(here.post({"id": f"l{n}"}) for n in range(30)))
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"5"}
        assert (await here.http.get("/readyz")).status_code == 503
        assert (await here.http.get("/healthz")).status_code == 200
        # A signature is looked at first: a forger doesn't learn how the storage is.
        assert (await here.post({"id": "l0"}, secret="guessed")).status_code == 401
    async with asyncio.timeout(10):
        while (await here.post({"id": "again"})).status_code != 200:
            await asyncio.sleep(0.05)
    assert (await here.http.get("/readyz")).status_code == 200
    again = await asyncio.gather(*(here.post({"id": f"l{n}"}) for n in range(30)))
    assert {answer.status_code for answer in again} == {200}
    keys = Counter(event.delivery_key for event in await here.events())
    assert keys == dict.fromkeys(["again", *(f"l{n}" for n in range(30))], 1)


async def test_a_database_that_refuses_to_store_is_503(here: Here) -> None:
    assert (await here.post({"id": "before"})).status_code == 200
    await _rename(here.rt.store, "webhook_event", "elsewhere")
    for number in range(3):
        answer = await here.post({"id": f"r{number}"})
        assert (answer.status_code, answer.json()) == (503, {"error": "storage"})
    await _rename(here.rt.store, "elsewhere", "webhook_event")
    assert (await here.post({"id": "after"})).status_code == 200
    assert [event.delivery_key for event in await here.events()] == ["before", "after"]


async def _rename(store: Store, old: str, new: str) -> None:
    async with store.write() as session:
        await session.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))


async def test_a_read_only_or_restarted_postgresql_is_503_and_then_200(here: Here) -> None:
    store = here.rt.store
    if store.is_sqlite:
        pytest.skip("SQLite has no server")
    stop = asyncio.Event()
    answers: list[tuple[str, int]] = []

    async def send(sender: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"{sender}-{number}"
            answers.append((key, (await here.post({"id": key})).status_code))

    senders = [asyncio.create_task(send(sender)) for sender in range(8)]
    for value, status in (("on", 503), ("off", 200)):
        await asyncio.sleep(0.2)
        async with store.engine.connect() as raw:
            connection = await raw.execution_options(isolation_level="AUTOCOMMIT")
            name = (await connection.execute(text("SELECT current_database()"))).scalar_one()
            set_to = text(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
            await connection.execute(text("SET default_transaction_read_only = off"))
            await connection.execute(set_to)
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            await raw.invalidate()
        so_far = len(answers)
        async with asyncio.timeout(20):
            while status not in {answer for _, answer in answers[so_far:]}:
                await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*senders)
    assert {status for _, status in answers} == {200, 503}
    stored = {event.delivery_key for event in await here.events()}
    assert {key for key, status in answers if status == 200} <= stored


async def test_a_full_disk_is_503_and_nothing_that_got_200_is_missing(
    settings: Settings, tmp_path: Path
) -> None:
    if settings.database_url is not None:
        pytest.skip("PostgreSQL's disk is its own server's")
    file = settings.home / "linekeeper.db"
    limit = file.stat().st_size + 400_000

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    answers: dict[str, int] = {}
    async with (
        part("receiver", settings, tmp_path / "receiver.log", before=full) as receiver,
        httpx.AsyncClient(base_url=receiver.url) as http,
    ):
        for number in range(120):
            body = json.dumps({"id": f"f{number}"}).encode().ljust(20_000)
            headers = {"x-webhook-signature": signature(body)}
            answer = await http.post("/webhooks/default", content=body, headers=headers)
            answers[f"f{number}"] = answer.status_code
        assert (await http.get("/healthz")).status_code == 200
    assert set(answers.values()) == {200, 503}
    with sqlite3.connect(file) as database:
        stored = {key for (key,) in database.execute("SELECT delivery_key FROM webhook_event")}
    database.close()
    assert stored >= {key for key, status in answers.items() if status == 200}


async def test_a_postgresql_that_is_down_is_503_for_products_and_a_page_for_customers(
    settings: Settings,
) -> None:
    if settings.database_url is None:
        pytest.skip("SQLite has no server")
    url = make_url(settings.database_url.get_secret_value())
    socket = f"{url.query['host']}/.s.PGSQL.5432"
    paths = ("/api/connections", "/connect/some-token", "/oauth/callback?code=c&state=s")
    async with relaying(socket) as (port, close):
        own = url.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        up = settings.model_copy(update={"database_url": SecretStr(own)})
        async with receiving(up) as here:
            here.http.headers["authorization"] = "Bearer nobodys"
            before = [(await here.http.get(path)).status_code for path in paths]
            await close()
            api, *pages = [await here.http.get(path) for path in paths]
            german = await here.http.get(paths[1], headers={"Accept-Language": "de-AT"})
    assert before == [401, 404, 400]
    assert (api.status_code, api.headers["retry-after"]) == (503, "5")
    assert [answer.status_code for answer in pages] == [503, 503]
    assert all("Please try again in a minute" in answer.text for answer in pages)
    assert (german.status_code, "in einer Minute noch einmal" in german.text) == (503, True)


@asynccontextmanager
async def relaying(socket: str) -> AsyncIterator[tuple[int, Callable[[], Awaitable[None]]]]:
    """A TCP port that leads to `socket`, and what closes it: from then on it refuses."""
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(socket)
        writers.extend((writer, back))
        await asyncio.gather(pump(reader, back), pump(there, writer))

    async def close() -> None:
        server.close()
        for writer in writers:
            writer.transport.abort()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], close
    finally:
        await close()


headers = st.sampled_from(
    [
        "Content-Length: 3",
        "Content-Length: x",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Encoding: br",
        "Content-Encoding: identity",
        "Expect: 100-continue",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "X-Webhook-Signature: v1,a,b",
        "X-Webhook-Signature: sha256=",
        "webhook-id: \xff\xfe",
        "X-Webhook-Id: " + "9" * 9_000,
        f"X-Webhook-Signature: {signature(b'')}",
        f"X-Webhook-Signature: {signature(b'abc')}",
    ]
)
paths = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=20)


@examples(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    method=st.sampled_from(["POST", "GET", "DELETE", "PRI", "CONNECT"]),
    path=st.sampled_from(["default", "standard", "default/%00", "default/\xe9%zz", ""]) | paths,
    lines=st.lists(headers, max_size=5),
    body=st.sampled_from([b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"-1\r\n"]) | st.binary(),
)
def test_whatever_is_sent_the_answer_is_never_500(
    fuzzed: tuple[asyncio.AbstractEventLoop, Here],
    method: str,
    path: str,
    lines: list[str],
    body: bytes,
) -> None:
    loop, here = fuzzed
    request = head(*lines, "Connection: close", method=method, path=f"/webhooks/{path}")
    answer = asyncio.run_coroutine_threadsafe(here.raw(request + body, end=True), loop).result(30)
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")  # who expects it is told so
    statuses = {"200", "400", "401", "404", "405", "408", "413", "415"}
    assert not answer or answer.split(b" ", 2)[1].decode() in statuses
