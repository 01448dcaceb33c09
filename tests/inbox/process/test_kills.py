"""`kill -9` of receivers and consumers under load: nothing is lost, nothing happens twice.

Real processes on each database, with Prefect away: one receiver and two consumers, one of them
killed again and again at points a seed decides, and started anew while the senders go on. A sender
does what Makini does: it sends the same again until it is answered with 200.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import orjson
import pytest
from sqlalchemy import func, select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.store.tables import Change, Observation, Outbox, WebhookEvent, WebhookHour
from tests.inbox.process.product import SECRET as FORWARD_SECRET
from tests.inbox.process.stage import Stage, about
from tests.receiver.conftest import signature
from tests.receiver.processes import NOBODY, Part, free_port, start

SENDERS = 6
ENTITY = "eam/assets"
KEYS = 40


class Trial:
    """One run: processes to kill, senders, and what was promised to them."""

    patience = 60.0
    """Seconds for what should take a few."""

    def __init__(self, stage: Stage, folder: Path, seed: int) -> None:
        self.stage = stage
        self.chance = random.Random(seed)
        self.folder = folder
        self.port = free_port()
        self.parts: dict[str, Part] = {}
        self.promised: dict[str, str] = {}
        """The sender's id of what was answered with 200 → our id."""
        self.about_connections: set[str] = set()
        self.keys: dict[str, list[str]] = {}
        self.named: set[tuple[str, str]] = set()
        self.kills: Counter[str] = Counter()
        self.done = asyncio.Event()

    async def run(self, kills: int) -> None:
        """Load, kill, start anew; then wait until everything is applied and handed on."""
        for connection in self.stage.connections:
            made = await self.stage.control(
                "records",
                connection=connection.makini_key,
                entity=ENTITY,
                make=KEYS,
                announce=False,
            )
            [self.keys[connection.id]] = [
                value["made"] for value in made["records"][connection.makini_key].values()
            ]
        try:
            await asyncio.gather(*(self.start(n) for n in ("receiver", "consumer", "other")))
            senders = [asyncio.create_task(self.send(number)) for number in range(SENDERS)]
            starting: dict[str, Awaitable[None]] = {}
            victims = (["receiver", "consumer", "other"] * kills)[:kills]
            self.chance.shuffle(victims)
            for victim in victims:
                reached = len(self.promised) + self.chance.randint(20, 120)
                await self.until(lambda reached=reached: len(self.promised) >= reached)
                await asyncio.sleep(self.chance.uniform(0, 0.05))
                if victim in starting:
                    await starting.pop(victim)
                await self.kill(victim)
                starting[victim] = asyncio.create_task(self.start(victim))
            await asyncio.gather(*starting.values())
            self.done.set()
            await asyncio.gather(*senders)
            await self.settled()
        finally:
            self.done.set()
            await asyncio.gather(*(part.kill() for part in self.parts.values()))

    async def start(self, name: str) -> None:
        settings = self.stage.rt.settings
        self.parts[name] = await start(
            "consumer" if name == "other" else name,
            settings,
            self.folder / f"{name}.log",
            port=self.port,
            extra={
                **self.clock(name),
                "LINEKEEPER_MAKINI_API_URL": settings.makini_api_url or "",
                "LINEKEEPER_MAKINI_CLIENT_ID": "sandbox-client",
                "LINEKEEPER_MAKINI_CLIENT_SECRET": "sandbox-secret",
                "LINEKEEPER_MAKINI_MODE": "manage",
                "LINEKEEPER_MAKINI_PER_MINUTE": "0",
                "LINEKEEPER_FORWARD_URL": settings.forward_url or "",
                "LINEKEEPER_FORWARD_SECRET": FORWARD_SECRET,
                "LINEKEEPER_PREFECT_PORT": NOBODY,
            },
        )

    def clock(self, name: str) -> dict[str, str]:
        """What sets a part's clock wrong; nothing here."""
        return {}

    async def kill(self, name: str) -> None:
        """Kill it; what it had claimed is due as if the time of its claim had passed."""
        pid = self.parts[name].process.pid
        await self.parts[name].kill()
        self.kills[name] += 1
        owner = f"{os.uname().nodename}:{pid}:%"
        async with self.stage.rt.store.write() as session:
            for table in (WebhookEvent, Outbox):
                await session.execute(
                    update(table)
                    .where(col(table.claimed_by).like(owner), col(table.status) == "pending")
                    .values(next_attempt_at=utcnow())
                    .execution_options(synchronize_session=False)
                )

    async def send(self, sender: int) -> None:
        chance = random.Random(self.chance.random())
        number = 0
        async with httpx.AsyncClient(timeout=10) as http:
            while not self.done.is_set():
                number += 1
                identity = f"k{sender}-{number}"
                body, path = self.event(identity, chance)
                copies = 2 if chance.random() < 0.2 else 1
                await asyncio.gather(
                    *(self.deliver(http, identity, body, path) for _ in range(copies))
                )
                await asyncio.sleep(0.03)

    def event(self, identity: str, chance: random.Random) -> tuple[bytes, str]:
        connection = chance.choice(self.stage.connections)
        if chance.random() < 0.3:
            self.about_connections.add(identity)
            said = about(connection, "connection.status_changed", utcnow(), to="online")
            return orjson.dumps({**said, "id": identity}), ""
        keys = chance.sample(self.keys[connection.id], 2)
        self.named.update((connection.id, key) for key in keys)
        body = {"id": identity, "event": "assets.updated", "body": keys}
        return orjson.dumps(body), f"/{connection.makini_key}"

    async def deliver(self, http: httpx.AsyncClient, identity: str, body: bytes, path: str) -> None:
        """Again and again until it is taken; it always is, under one id."""
        url = f"http://127.0.0.1:{self.port}/webhooks/default{path}"
        headers = {"x-webhook-signature": signature(body)}
        while True:
            try:
                answer = await http.post(url, content=body, headers=headers)
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
                continue
            assert answer.status_code in (200, 503), answer.text
            if answer.status_code == 200:
                said = answer.json()["id"]
                assert self.promised.setdefault(identity, said) == said
                return

    async def settled(self) -> None:
        async def waiting() -> int:
            async with self.stage.rt.store.read() as session:
                events = await session.scalar(
                    select(func.count()).where(col(WebhookEvent.status) == "pending")
                )
                forwards = await session.scalar(
                    select(func.count()).where(
                        col(Outbox.status) == "pending", col(Outbox.channel) == "forward"
                    )
                )
                return (events or 0) + (forwards or 0)

        async with asyncio.timeout(self.patience):
            while await waiting():
                await asyncio.sleep(0.1)

    async def until(self, question: Callable[[], bool]) -> None:
        async with asyncio.timeout(self.patience):
            while not question():
                await asyncio.sleep(0.01)


async def check(trial: Trial) -> None:
    """What was promised is there once, its effects happened once, the product was told of it."""
    stage = trial.stage
    events = await stage.events()
    assert {event.delivery_key: event.id for event in events} == trial.promised
    assert len(events) == len(trial.promised)
    assert {event.status for event in events} <= {"processed", "stale"}
    assert all(event.claimed_by is None for event in events)

    async with stage.rt.store.read() as session:
        observed = await session.scalar(
            select(func.count()).where(col(Observation.source) == "webhook")
        )
        counted = await session.scalar(select(func.sum(col(WebhookHour.events))))
        rows = await session.execute(select(col(Change.connection_id), col(Change.key)))
        changes = Counter(map(tuple, rows))
    seen = {event.delivery_key for event in events} & trial.about_connections
    assert observed == len(seen)
    assert counted == len(events)
    by_key = {event.delivery_key: event for event in events}
    named = Counter(
        dict.fromkeys(
            (by_key[key].connection_id, record)
            for key in by_key.keys() - trial.about_connections
            for record in orjson.loads(by_key[key].body or b"{}")["body"]
        )
    )
    assert changes == dict.fromkeys(named, 1)

    product = stage.product
    assert product.unverified == 0
    taken = [identity for identity, _ in product.taken]
    assert set(taken) == set(trial.promised.values())
    first = dict.fromkeys(taken)
    of_connection: dict[str, list[str]] = {}
    for identity, body in product.taken:
        if first.pop(identity, "") is None:
            of_connection.setdefault(body["data"]["connection"], []).append(identity)
    forwards = {row.payload["event"]: row.seq for row in await stage.forwards()}
    for order in of_connection.values():
        assert order == sorted(order, key=forwards.__getitem__)


async def test_three_kills_lose_nothing_and_repeat_nothing(stage: Stage, tmp_path: Path) -> None:
    trial = Trial(stage, tmp_path, seed=5)
    await trial.run(kills=3)
    assert trial.kills == {"receiver": 1, "consumer": 1, "other": 1}
    await check(trial)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
async def test_fifty_kills_lose_nothing_and_repeat_nothing(
    stage: Stage, tmp_path: Path, seed: int
) -> None:
    trial = Trial(stage, tmp_path, seed)
    await trial.run(kills=10)
    await check(trial)
    print(f"\nseed {seed}: {dict(trial.kills)} killed, {len(trial.promised):,} events once")
