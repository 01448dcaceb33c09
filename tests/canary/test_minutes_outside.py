"""Three faults that need somebody outside, or leave the canary from inside no voice: the name is
gone from DNS, the database stores nothing, the consumer is dead. Each is planted at the running
thing, on each database; after how many minutes it is known, with the canary and without.

`make soak ARGS="tests/canary/test_minutes_outside.py -s"` prints the rows of docs/operations.md.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, select

from linekeeper.access.keys import make_key
from linekeeper.canary import probe
from linekeeper.clock import monotonic, utcnow
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Incident
from linekeeper.watch.queries import read_parts
from sandbox import Settings as SandboxSettings
from sandbox import serving
from tests.receiver.conftest import SECRET
from tests.receiver.processes import Part, free_port, start
from tests.watch.test_parts import no_database

NAME = "linekeeper.test"
CANARY_MINUTES = 0.5
"""A tenth of what it is by default; tries, their gaps and time-outs are as in production."""
PATIENCE = 1_800
INSTEAD: Mapping[str, str] = {
    "dns": "",
    "storage": "database can't be used*",
    "not_processed": "No sign of life from the consumer",
}
"""Each fault's word, and what Slack is told without a canary; empty: nothing for hours."""


def finding_names_in(hosts: Path) -> tuple[str, ...]:
    """What stands before a command that is to find names in `hosts`."""
    become = 'mount --bind "$0" /etc/hosts && exec "$@"'
    rights = () if os.geteuid() == 0 else ("--map-root-user",)
    return ("unshare", *rights, "--mount", "sh", "-c", become, str(hosts))


def _can() -> bool:
    """Whether this machine lets a process have names of its own."""
    if not sys.platform.startswith("linux"):
        return False
    tried = subprocess.run(
        [*finding_names_in(Path("/etc/hosts")), "true"], capture_output=True, check=False
    )
    return tried.returncode == 0


pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(4 * PATIENCE),
    pytest.mark.skipif(not _can(), reason="here a process can't have an /etc/hosts of its own"),
]


@dataclass
class Outside:
    """The canary on another machine: the one file alone, every `CANARY_MINUTES`."""

    folder: Path
    url: str
    key: str
    hosts: Path
    said: list[str | None] = field(default_factory=list)
    """What was wrong with each flight; None where it came through."""

    async def fly_for_ever(self) -> None:
        alone = self.folder / "canary.py"
        alone.write_text(Path(probe.__file__).read_text())
        (self.folder / "secret").write_text(SECRET)
        (self.folder / "key").write_text(self.key)
        files = ("--secret-file", "secret", "--key-file", "key")
        while True:
            flight = await asyncio.create_subprocess_exec(
                *(*finding_names_in(self.hosts), sys.executable, "-I", "-S", str(alone)),
                *(self.url, *files, "--wait", "60", "--json"),
                cwd=self.folder,
                env={"PATH": os.environ["PATH"]},
                stdout=asyncio.subprocess.PIPE,
            )
            report = json.loads((await flight.communicate())[0])
            self.said.append(report["what"])
            await asyncio.sleep(CANARY_MINUTES * 60)


@dataclass
class House:
    """Receiver and consumer on one database, the Slack they speak to, and the canary outside."""

    settings: Settings
    store: Store
    outside: Outside
    messages: Callable[[], list[dict[str, Any]]]
    parts: dict[str, Part]
    consumer: Callable[[], Any]

    @asynccontextmanager
    async def fault(self, word: str) -> AsyncIterator[None]:
        """Within the block something is wrong."""
        if word == "dns":
            self.outside.hosts.write_text("")
            yield
            self.outside.hosts.write_text(f"127.0.0.1 {NAME}\n")
        elif word == "storage":
            async with no_database(self.settings):
                yield
        else:
            await self.parts["consumer"].kill()
            yield
            self.parts["consumer"] = await self.consumer()

    def heads(self) -> list[str]:
        """What was said in Slack without a canary."""
        texts = [str(message["text"]) for message in self.messages()]
        return [text for text in texts if "not coming through" not in text]

    async def inside_found(self) -> str:
        """What the canary from inside has open."""
        async with self.store.read() as session:
            found = await session.scalar(
                select(col(Incident.summary)).where(
                    col(Incident.kind) == "canary_lost", col(Incident.resolved_at).is_(None)
                )
            )
        return found or ""

    async def minutes(self, word: str) -> dict[str, float]:
        """How long each took to notice the fault `word`, which is planted now."""
        begun, flown, before = monotonic(), len(self.outside.said), len(self.heads())
        found: dict[str, float] = {}
        wanted = {"outside", *(["Slack"] if INSTEAD[word] else ["inside"])}
        async with self.fault(word), asyncio.timeout(PATIENCE):
            while wanted - found.keys():
                await asyncio.sleep(0.5)
                passed = (monotonic() - begun) / 60
                said = self.outside.said[flown:]
                # A flight that was under way may still come through; nothing else may be said.
                assert set(said) <= {None, word}, said
                if word in said:
                    found.setdefault("outside", passed)
                if word == "dns" and f"({word})" in await self.inside_found():
                    found.setdefault("inside", passed)
                if any(INSTEAD[word] in text for text in self.heads()[before:]):
                    found.setdefault("Slack", passed)
        if not INSTEAD[word]:
            assert not found.pop("Slack", None)
        return found

    async def is_over(self) -> None:
        """Until a canary came through again, nothing is open, and both parts were heard of."""
        flown = len(self.outside.said)
        async with self.store.read() as session:
            begun = await self.store.clock(session)
        async with asyncio.timeout(PATIENCE):
            while None not in self.outside.said[flown:] or await self.inside_found():
                await asyncio.sleep(0.5)
            while not {"receiver", "consumer"} <= await self._heard_of_since(begun):
                await asyncio.sleep(0.5)

    async def _heard_of_since(self, begun: datetime) -> set[str]:
        async with self.store.read() as session:
            return {part.kind for part in await read_parts(session) if part.at > begun}


@pytest.fixture
async def house(settings: Settings, store: Store, tmp_path: Path) -> AsyncIterator[House]:
    hosts, port = tmp_path / "hosts", free_port()
    hosts.write_text(f"127.0.0.1 {NAME}\n")
    box = SandboxSettings(port=0, connections=0, records_per_connection=0)
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(serving(box))
        url = f"http://{NAME}:{port}"
        extra = {
            "LINEKEEPER_PUBLIC_URL": url,
            "LINEKEEPER_CANARY_MINUTES": str(CANARY_MINUTES),
            "LINEKEEPER_SLACK_BOT_TOKEN": box.slack_token,
            "LINEKEEPER_SLACK_CHANNEL": "#linekeeper",
            "LINEKEEPER_SLACK_API_URL": f"{sandbox.url}/slack/api/",
        }
        log = tmp_path / "log"
        async with store.write() as session:
            key = await make_key(session, "canary", ["canary:write"], by="tests", now=utcnow())

        async def consumer() -> Part:
            within = finding_names_in(hosts)
            return await start("consumer", settings, log, extra=extra, within=within)

        receiver = await start("receiver", settings, log, port=port, extra=extra)
        parts = {"receiver": receiver, "consumer": await consumer()}
        outside = Outside(tmp_path, url, key, hosts)
        flying = asyncio.create_task(outside.fly_for_ever())
        try:
            yield House(settings, store, outside, sandbox.world.slack.snapshot, parts, consumer)
        finally:
            flying.cancel()
            await asyncio.gather(flying, return_exceptions=True)
            for part in parts.values():
                await part.kill()


async def test_dns_storage_and_a_dead_consumer_are_known_within_minutes(house: House) -> None:
    await house.is_over()
    database = "SQLite" if house.store.is_sqlite else "PostgreSQL"
    for word in INSTEAD:
        found = await house.minutes(word)
        slack = f"{found['Slack']:.1f}" if "Slack" in found else "no"
        inside = f", inside {found['inside']:.1f}" if "inside" in found else ""
        print(f"| {word} on {database} | outside {found['outside']:.1f}{inside} | {slack} |")
        await house.is_over()
