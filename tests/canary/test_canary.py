"""The canary as an operator runs it: alone, against a real receiver, consumer and product."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from linekeeper.access.keys import make_key
from linekeeper.canary import probe
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.inbox.meaning import CANARY_EVENT
from linekeeper.orchestrator import Blocks
from linekeeper.outbox.senders.forward import forwarding
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import Incident, Outbox
from linekeeper.sweep.stream_queries import read_streams
from linekeeper.views.webhook_figures import read_figures
from tests.cli.commands import CommandLine
from tests.cli.conftest import command
from tests.receiver.conftest import SECRET, Here, receiving, signature
from tests.receiver.processes import free_port, part

__all__ = ["command"]

SOURCE = Path(probe.__file__)


@pytest.fixture
async def here(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    """A receiver on each database that waits for it a moment only."""
    monkeypatch.setattr("linekeeper.inbox.intake.STORE_SECONDS", 2.0)
    async with receiving(settings) as here:
        yield here


async def fly(
    folder: Path, url: str, *arguments: str, secret: str = SECRET, key: str = ""
) -> tuple[int, dict[str, Any]]:
    """Run a copy of the one file, with a Python that finds none of ours; its code and report."""
    alone = folder / "probe.py"
    alone.write_text(SOURCE.read_text())
    (folder / "secret").write_text(f"{secret}\n")
    environment = {"PATH": os.environ["PATH"], **({"LINEKEEPER_KEY": key} if key else {})}
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(alone), url, "--json"),
        *("--secret-file", str(folder / "secret"), *arguments),
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await run.communicate()
    assert secret not in out.decode() + errors.decode()
    return run.returncode or 0, json.loads(out or b"{}") | {"stderr": errors.decode()}


async def key_to(here: Here) -> str:
    async with here.rt.store.write() as session:
        return await make_key(session, "canary", ["canary:write"], by="tests", now=utcnow())


@asynccontextmanager
async def consuming(here: Here) -> AsyncIterator[None]:
    """The consumer's two steps that a canary goes through, again and again."""

    async def work() -> None:
        async with Runtime.open(here.rt.settings) as rt, forwarding(rt) as forwarder:
            while True:
                await process_connection_events(rt)
                await forwarder.step()
                await asyncio.sleep(0.05)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Product:
    """Takes what is handed on, and keeps it; answers `status`."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        headers = dict(line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
        body = await reader.readexactly(int(headers["content-length"]))
        self.got.append((headers["webhook-id"], json.loads(body)))
        writer.write(
            f"HTTP/1.1 {self.status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def product(here: Here, status: int = 204) -> AsyncIterator[Product]:
    """A product to which the app hands on."""
    it = Product(status)
    server = await asyncio.start_server(it.answer, "127.0.0.1", 0)
    async with server:
        it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        app = AppConfig(webhook_secrets=(SecretStr(SECRET),), forward_url=it.url)
        await save_blocks(here.rt.store, Blocks(apps=[app]), now=utcnow())
        yield it


def test_the_event_is_called_the_same_on_both_sides() -> None:
    assert probe.EVENT == CANARY_EVENT


async def test_a_canary_goes_through_is_processed_and_causes_nothing(
    here: Here, tmp_path: Path
) -> None:
    key = await key_to(here)
    async with consuming(here):
        code, said = await fly(tmp_path, here.url, "--wait", "60", key=key)
    assert (code, said["ok"]) == (0, True), said
    [event] = await here.events()
    assert (event.kind, event.status, event.id) == ("canary", "processed", said["id"])
    assert (said["seen"]["forward"], said["seen"]["echoed_at"]) == ("none", None)
    async with here.rt.store.read() as session:
        assert (await session.scalars(select(Incident))).all() == []
        assert (await session.scalars(select(Outbox))).all() == []
    figures = await read_figures(here.rt.store, ["default"], now=utcnow())
    assert [(counted.what, counted.count) for counted in figures.statuses] == [("canary", 1)]
    assert 'answer="canary",app="default"} 1' in (await here.http.get("/metrics")).text.replace(
        'app="default",answer="canary"', 'answer="canary",app="default"'
    )


async def test_an_app_on_standard_webhooks_takes_it_too(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = probe.take_order(
        f"{here.url}/webhooks/standard",
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        scheme="standard",
    )
    report = await asyncio.to_thread(probe.fly, order)
    assert report.ok, report
    assert [event.app for event in await here.events()] == ["standard"]


async def test_the_product_takes_it_once_and_echoes_it(here: Here, tmp_path: Path) -> None:
    key = await key_to(here)
    bearer = {"authorization": f"Bearer {key}"}
    async with product(here) as taker, consuming(here):
        flight = asyncio.create_task(fly(tmp_path, here.url, "--wait", "100", "--echo", key=key))
        async with asyncio.timeout(100):
            while not taker.got:
                await asyncio.sleep(0.05)
        [(identity, message)] = taker.got
        answer = await here.http.post("/api/canary", json={"id": identity}, headers=bearer)
        assert answer.status_code == 200
        code, said = await flight
        # The first echo counts, and the canary's own id is as good: it is all that a product
        # sees that gets Makini's form.
        own = message["data"]["original"]["id"]
        again = await here.http.post("/api/canary", json={"id": own}, headers=bearer)
        assert again.json() == {**answer.json(), **again.json()}
        assert again.json()["echoed_at"] == answer.json()["echoed_at"]
    assert (code, said["ok"]) == (0, True), said
    assert (message["type"], identity) == ("canary", said["id"])
    assert message["data"]["connection"] is None
    seen = said["seen"]
    assert seen["forward"] == "sent"
    assert seen["received_at"] <= seen["processed_at"] <= seen["forwarded_at"]
    assert seen["echoed_at"]
    assert len(taker.got) == 1


async def test_a_product_that_refuses_is_told(here: Here, tmp_path: Path) -> None:
    key = await key_to(here)
    async with product(here, status=403), consuming(here):
        code, said = await fly(tmp_path, here.url, "--wait", "8", key=key)
    assert (code, said["what"]) == (1, "product_refused"), said
    assert "answered 403" in said["text"]


async def test_a_consumer_that_died_is_told(here: Here, tmp_path: Path) -> None:
    key = await key_to(here)
    async with part("consumer", here.rt.settings, tmp_path / "log") as consumer:
        code, said = await fly(tmp_path, here.url, "--wait", "100", key=key)
        assert (code, said["ok"]) == (0, True), said
        await consumer.kill()
        code, said = await fly(tmp_path, here.url, "--wait", "1", key=key)
    assert (code, said["what"]) == (1, "not_processed"), said
    assert said["seen"]["received_at"]
    assert said["seen"]["processed_at"] is None


async def test_a_wrong_secret_an_unknown_app_and_an_app_without_a_secret_are_told_apart(
    here: Here, tmp_path: Path
) -> None:
    assert await what(tmp_path, here.url, secret="another") == "wrong_secret"
    assert await what(tmp_path, here.url, "--scheme", "standard") == "wrong_scheme"
    assert await what(tmp_path, f"{here.url}/webhooks/nobody") == "unknown_app"
    assert await what(tmp_path, f"{here.url}/webhooks/bare") == "no_secret"
    assert await here.events() == []
    now = utcnow() + timedelta(minutes=2)
    [stream, *_] = await read_streams_of(here, now)
    assert stream.refused_in_a_row == 1
    # A canary that goes through hides no secret that Makini has changed.
    assert (await fly(tmp_path, here.url))[0] == 0
    [stream, *_] = await read_streams_of(here, now)
    assert stream.refused_in_a_row == 1


async def read_streams_of(here: Here, now: datetime) -> list[Any]:
    from linekeeper.inbox.tally import Tally

    tally = Tally()
    async with here.rt.store.read() as session:
        streams = await read_streams(session, ["default"], now=now)
        if any(stream.refused_in_a_row for stream in streams):
            return list(streams)
    tally.count("default", "bad_signature")
    await tally.flush(here.rt.store, now=utcnow() + timedelta(minutes=-1))
    async with here.rt.store.read() as session:
        return list(await read_streams(session, ["default"], now=now))


async def test_storage_that_refuses_is_told(here: Here, tmp_path: Path) -> None:
    async with here.rt.store.write() as session:
        await session.execute(text("ALTER TABLE webhook_event RENAME TO elsewhere"))
    assert await what(tmp_path, here.url) == "storage"
    async with here.rt.store.write() as session:
        await session.execute(text("ALTER TABLE elsewhere RENAME TO webhook_event"))
    assert (await fly(tmp_path, here.url))[0] == 0


async def test_a_key_that_may_not_ask_is_told(here: Here, tmp_path: Path) -> None:
    async with here.rt.store.write() as session:
        other = await make_key(session, "other", ["changes:read"], by="tests", now=utcnow())
    code, said = await fly(tmp_path, here.url, "--wait", "1", key=other)
    assert (code, said["what"]) == (1, "key"), said
    asked = {"authorization": f"Bearer {await key_to(here)}"}
    for body, status in ((b"{", 422), (b'{"id":1}', 422), (b'{"id":"nobody"}', 404)):
        answer = await here.http.post("/api/canary", content=body, headers=asked)
        assert answer.status_code == status, body
    await here.post({"id": "a", "event": "assets.updated", "body": ["1"]})
    answer = await here.http.post("/api/canary", json={"id": "a"}, headers=asked)
    assert answer.status_code == 404, "only a canary can be echoed"


async def what(folder: Path, url: str, *arguments: str, secret: str = SECRET) -> str:
    """What the canary finds wrong; the sentence ends, and nobody needs to know our words."""
    code, said = await fly(folder, url, *arguments, secret=secret)
    assert code == 1, said
    assert said["text"].endswith(".")
    assert "Traceback" not in said["stderr"]
    return str(said["what"])


async def test_the_command_says_the_same(here: Here, command: CommandLine, tmp_path: Path) -> None:
    nowhere = await asyncio.to_thread(command, "canary", here.url)
    assert nowhere.code == 1
    assert "LINEKEEPER_MAKINI_WEBHOOK_SECRETS" in nowhere.err
    command.set(MAKINI_WEBHOOK_SECRETS=SECRET)
    assert (await asyncio.to_thread(command, "canary", here.url)).code == 0
    assert [event.kind for event in await here.events()] == ["canary"]
    refused = await asyncio.to_thread(command, "canary", f"http://127.0.0.1:{free_port()}")
    assert refused.code == 1
    assert "Nobody listens" in refused.err
    one_file = tmp_path / "canary.py"
    written = await asyncio.to_thread(command, "canary", "--bundle", str(one_file))
    assert written.code == 0
    assert one_file.read_text() == SOURCE.read_text()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("linekeeper.example.com", {}),
        ("ftp://linekeeper.example.com", {}),
        ("http://[::1", {}),
        ("http://a:99999", {}),
        ("http://a", {"secret": " , "}),
        ("http://a", {"wait": float("nan"), "key": "k"}),
        ("http://a", {"timeout": float("inf")}),
        ("http://a", {"wait": 1.0}),
        ("http://a", {"echo": True}),
        ("https://a", {"ca_file": "/nowhere.pem"}),
        ("http://a", {"scheme": "other"}),
    ],
)
def test_what_cannot_be_used_is_said(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(probe.BadOrder):
        probe.take_order(url, **{"secret": SECRET, **options})


def test_nobody_can_give_a_secret_as_an_argument() -> None:
    shown = subprocess.run(
        [sys.executable, "-I", str(SOURCE), "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "--secret-file" in shown
    assert "--secret " not in shown
    assert "--key " not in shown


async def test_the_document_of_the_api_knows_the_routes(here: Here) -> None:
    paths = (await here.http.get("/openapi.json")).json()["paths"]
    assert {"/api/canary", "/api/canary/{id}"} <= set(paths)


async def test_a_forger_makes_no_canary(here: Here) -> None:
    body = orjson.dumps({"id": "c", "event": CANARY_EVENT})
    bad = {"x-webhook-signature": signature(body, "guessed")}
    answer = await here.http.post("/webhooks/default", content=body, headers=bad)
    assert answer.status_code == 401
    assert await here.events() == []
