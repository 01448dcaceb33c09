"""Nine faults planted at the running thing: after how many minutes they are known, with the canary
and without. `make soak ARGS="tests/canary/test_minutes.py -s"` prints the table of
docs/operations.md."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import pytest
from sqlmodel import col, select

from linekeeper.clock import monotonic
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.migrate import migrate
from linekeeper.store.tables import Incident
from tests.canary.test_canary import Product
from tests.canary.test_canary_way import certificate
from tests.databases import KEY
from tests.receiver.conftest import SECRET, signature
from tests.receiver.processes import Part, part

pytestmark = [pytest.mark.soak, pytest.mark.timeout(5_400)]
CANARY_MINUTES = 0.5
"""A tenth of what it is by default; tries, their gaps and time-outs are as in production."""
PATIENCE = 900

HTTP = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n%b\r\n"
ANSWERS = {
    "another site": HTTP % (b"404 Not Found", b""),
    "login": HTTP % (b"401 Unauthorized", b""),
    "upstream": HTTP % (b"502 Bad Gateway", b""),
    "redirect": HTTP % (b"302 Found", b"location: https://elsewhere.example/\r\n"),
    "broken off": b"",
}
FAULTS: Sequence[tuple[str, str]] = [
    ("refused", "refused"),
    ("mute", "no_answer"),
    ("expired", "certificate"),
    ("other name", "certificate"),
    ("another site", "proxy"),
    ("login", "proxy"),
    ("redirect", "redirect"),
    ("broken off", "broken_off"),
    ("wrong secret", "wrong_secret"),
]
"""What is planted, and the word for it."""


@dataclass
class Front:
    """What stands at the public address: TLS, and the way to the receiver; or what is wrong."""

    contexts: dict[str, ssl.SSLContext]
    upstream: int = 0
    wrong: int = 0
    """The port of a receiver with another secret."""
    port: int = 0
    mode: str = ""
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def become(self, mode: str) -> None:
        """From now on it is like this; empty: as it should be."""
        if self._server is not None:
            self._server.close()
        self.mode = mode
        if mode == "refused":
            return
        tls = self.contexts.get(mode, self.contexts[""])
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, OSError, asyncio.IncompleteReadError):
            if self.mode == "mute":
                await asyncio.sleep(120)
            elif self.mode in ANSWERS:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(ANSWERS[self.mode])
                await writer.drain()
            else:
                await self._pass_on(reader, writer)
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self.wrong if self.mode == "wrong secret" else self.upstream
        there, back = await asyncio.open_connection("127.0.0.1", port)
        ways = [asyncio.create_task(_pump(*way)) for way in ((reader, back), (there, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        back.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


@dataclass
class House:
    """Receiver and consumer behind a front, with a product behind them."""

    front: Front
    settings: Settings

    async def open_incidents(self) -> dict[str, str]:
        """Of each kind and cause what it says."""
        async with Store.open(self.settings) as store, store.read() as session:
            rows = await session.scalars(
                select(Incident).where(col(Incident.resolved_at).is_(None))
            )
            return {f"{row.kind} {row.cause}": row.summary for row in rows}

    async def plant(self, fault: str) -> None:
        await self.front.become(fault)

    async def send(self, number: int) -> None:
        """A webhook, as Makini sends them all the time."""
        body = orjson.dumps({"id": f"w-{number}", "event": "assets.updated", "body": [str(number)]})
        headers = {"x-webhook-signature": signature(body, SECRET)}
        url = f"https://localhost:{self.front.port}/webhooks/default"
        async with httpx.AsyncClient(verify=False, trust_env=False, timeout=5) as http:
            with suppress(httpx.HTTPError):
                await http.post(url, content=body, headers=headers)


@asynccontextmanager
async def house(folder: Path, canary_minutes: float) -> AsyncIterator[House]:
    folder.mkdir()
    settings = Settings(home=folder, encryption_keys=(KEY,), _env_file=None)
    async with Store.open(settings) as store:
        await migrate(store)
    contexts, trusted = {}, folder / "trusted.pem"
    for mode, name, days in (
        ("", "localhost", 30),
        ("expired", "localhost", -1),
        ("other name", "elsewhere", 30),
    ):
        pem = certificate(folder, name, days=days)
        tls = contexts[mode] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pem)
        with trusted.open("ab") as all_of_them:
            all_of_them.write(pem.read_bytes())
    front = Front(contexts)
    await front.become("")
    server = await asyncio.start_server(Product(204).answer, "127.0.0.1", 0)
    extra = {
        "LINEKEEPER_PUBLIC_URL": f"https://localhost:{front.port}",
        "LINEKEEPER_CANARY_MINUTES": str(canary_minutes),
        "LINEKEEPER_FORWARD_URL": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook",
        "LINEKEEPER_FORWARD_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "SSL_CERT_FILE": str(trusted),
    }
    other = {**extra, "LINEKEEPER_MAKINI_WEBHOOK_SECRETS": "another"}
    log = folder / "log"
    async with (
        server,
        part("receiver", settings, log, extra=extra) as receiver,
        part("receiver", settings, log, extra=other) as wrong,
        part("consumer", settings, log, extra=extra),
    ):
        front.upstream, front.wrong = _port(receiver), _port(wrong)
        try:
            yield House(front, settings)
        finally:
            await front.become("refused")


def _port(receiver: Part) -> int:
    return int(receiver.url.rstrip("/").rpartition(":")[2])


async def test_each_fault_is_known_within_minutes_with_the_canary(tmp_path: Path) -> None:
    table = ["| fault | word | with the canary | without it |", "|---|---|---|---|"]
    async with house(tmp_path / "a", CANARY_MINUTES) as here, house(tmp_path / "b", 0) as without:

        async def webhooks() -> None:
            for number in range(100_000):
                await asyncio.gather(here.send(number), without.send(number))
                await asyncio.sleep(1)

        sending = asyncio.create_task(webhooks())
        for fault, word in FAULTS:
            before = await without.open_incidents()
            begun = monotonic()
            for each in (here, without):
                await each.plant(fault)
            minutes: dict[str, float] = {}
            async with asyncio.timeout(PATIENCE):
                while "with" not in minutes:
                    await asyncio.sleep(0.5)
                    passed = (monotonic() - begun) / 60
                    for what, text in (await here.open_incidents()).items():
                        if what.startswith("canary_lost") and f"({word})" in text:
                            minutes["with"] = passed
                    # The canary of the other house is off: what it knows it knows without one.
                    for what in (await without.open_incidents()).keys() - before.keys():
                        minutes.setdefault(what.partition(" ")[0], passed)
            known = minutes.pop("with")
            said = ", ".join(f"{after:.1f} ({kind})" for kind, after in minutes.items())
            said = said or f"not within {known:.1f}"
            table.append(f"| {fault} | `{word}` | {known:.1f} | {said} |")
            print(table[-1], flush=True)
            for each in (here, without):
                await each.plant("")
            async with asyncio.timeout(PATIENCE):
                while any(what.startswith("canary_lost") for what in await here.open_incidents()):
                    await asyncio.sleep(0.5)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    text = "\n".join(table)
    (tmp_path / "table.md").write_text(text)
    print(f"{os.linesep}CANARY_MINUTES {CANARY_MINUTES}{os.linesep}{text}")
