"""A sandbox's fleet with records, a runtime on each database, and the truth to compare with."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr
from sqlmodel import col, select

import sandbox
from linekeeper.clock import utcnow
from linekeeper.consumer.record_events import process_record_events
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.meaning import EventNames
from linekeeper.reconcile.identity import source_time
from linekeeper.reconcile.run import reconcile
from linekeeper.reconcile.service import ReconcileRun
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.keys import stored_key
from linekeeper.store.tables import Change, Connection, Drift, ReceiverHeartbeat, Record
from linekeeper.sweep.sweep import take_list
from sandbox.world import World

ENTITIES = ("eam/work-orders", "eam/assets", "eam/sites", "erp/purchase-orders")


@dataclass(slots=True)
class Peer:
    """The sandbox, by its controls."""

    url: str
    http: httpx.AsyncClient
    world: World | None = None
    """Where it runs in this process."""

    def at_call(self, number: int, does: Callable[[], None], *, route: str) -> None:
        """Do something when `route` is called for the `number`-th time from now on."""
        assert self.world is not None
        self.world.calls = CallsWith(route, number, does)

    async def set(self, path: str, **body: Any) -> Any:
        """`POST /_control/<path>`."""
        answer = await self.http.post(f"{self.url}/_control/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def truth(self) -> dict[str, dict[str, dict[str, str | None]]]:
        """Every live record's time by connection key, entity and key, of the entities we read."""
        answer = await self.http.get(f"{self.url}/_control/truth?webhooks=0")
        records = answer.json()["records"]
        return {
            connection: {
                entity: times for entity, times in found.items() if entity in ENTITIES and times
            }
            for connection, found in records.items()
        }

    async def calls(self) -> dict[str, int]:
        """How often each route was called since the last look."""
        answer = await self.http.get(f"{self.url}/_control/calls")
        await self.http.delete(f"{self.url}/_control/calls")
        calls: dict[str, int] = answer.json()["calls"]
        return calls


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A Makini with four connections of sixty records in which nothing happens by itself."""
    settings = sandbox.Settings(
        port=0, connections=4, records_per_connection=60, scenario="quiet", per_minute=0
    )
    async with sandbox.serving(settings) as served, httpx.AsyncClient() as http:
        yield Peer(served.url, http, served.world)


class CallsWith(Counter[tuple[str, str]]):
    """The sandbox's counts, and something that happens at one of them."""

    def __init__(self, route: str, number: int, does: Callable[[], None]) -> None:
        super().__init__()
        self._at = ("GET", route), number
        self._does = does

    def __setitem__(self, key: tuple[str, str], value: int) -> None:
        super().__setitem__(key, value)
        if (key, value) == self._at:
            self._does()


async def no_sleep(_: float) -> None:
    """Time flies."""
    await asyncio.sleep(0)


async def run(rt: Runtime, **options: Any) -> ReconcileRun:
    """A run that doesn't wait."""
    return await reconcile(rt, **{"sleep": no_sleep, **options})


async def away(store: Store, hours: float) -> tuple[object, object]:
    """The receiver was away for so long, until a minute ago."""
    back = utcnow() - timedelta(minutes=1)
    gone = back - timedelta(hours=hours)
    async with store.write() as session:
        for since, at in ((gone - timedelta(days=1), gone), (back, utcnow())):
            session.add(ReceiverHeartbeat(receiver="r", since=since, at=at))
        await session.flush()
    return gone, back


def pointed_at(settings: Settings, url: str, **changes: Any) -> Settings:
    """Settings of a runtime that manages the sandbox at `url`."""
    return settings.model_copy(
        update={
            "makini_api_url": url,
            "makini_client_id": "sandbox-client",
            "makini_client_secret": SecretStr("sandbox-secret"),
            "makini_mode": "manage",
            "makini_per_minute": 0,
            "makini_entities": ENTITIES,
            **changes,
        }
    )


@pytest.fixture
async def one(rt: Runtime) -> Connection:
    """The first of the connections."""
    async with rt.store.read() as session:
        found = (await session.scalars(select(Connection).order_by(col(Connection.id)))).first()
    assert found is not None
    return found


@pytest.fixture
async def rt(settings: Settings, store: Store, peer: Peer) -> AsyncIterator[Runtime]:
    """A runtime that manages the sandbox's fleet, adopted."""
    async with Runtime.open(pointed_at(settings, peer.url)) as runtime:
        await adopt(runtime)
        yield runtime


@pytest.fixture
async def forwarding(settings: Settings, store: Store, peer: Peer) -> AsyncIterator[Runtime]:
    """A runtime whose product is to hear of every change."""
    own_settings = pointed_at(settings, peer.url, forward_url="http://127.0.0.1:9/hooks")
    async with Runtime.open(own_settings) as runtime:
        await adopt(runtime)
        yield runtime


async def adopt(rt: Runtime) -> None:
    """Take the sandbox's connections into the books."""
    for app in (await rt.configuration()).apps.values():
        await take_list(rt, app, now=utcnow())


async def index(rt: Runtime) -> dict[str, dict[str, dict[str, Any]]]:
    """The live index as `Peer.truth` gives the truth, times as datetimes."""
    return await index_of(rt.store)


async def index_of(store: Store) -> dict[str, dict[str, dict[str, Any]]]:
    """The same of a store."""
    async with store.read() as session:
        rows = await session.execute(
            select(
                col(Connection.makini_key),
                col(Record.entity),
                col(Record.key),
                col(Record.updated_at),
            )
            .join(Connection, col(Connection.id) == col(Record.connection_id))
            .where(col(Record.deleted_at).is_(None))
        )
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for connection, entity, key, updated_at in rows:
            found.setdefault(connection, {}).setdefault(entity, {})[key] = updated_at
        return found


def parsed(truth: dict[str, dict[str, dict[str, str | None]]]) -> dict[str, Any]:
    """The truth with its times read and its keys as they are stored."""
    return {
        connection: {
            entity: {
                stored_key(key): source_time({"updatedAt": time}) for key, time in times.items()
            }
            for entity, times in found.items()
        }
        for connection, found in truth.items()
    }


async def feed(rt: Runtime) -> list[Change]:
    """Every change, each connection's in order."""
    async with rt.store.read() as session:
        rows = await session.scalars(
            select(Change).order_by(col(Change.connection_id), col(Change.seq))
        )
        return list(rows)


async def deliver(
    rt: Runtime, makini_key: str | None, keys: list[str], *, plural: str = "assets"
) -> None:
    """A webhook that names `keys` comes in, as the receiver stores it."""
    app = await rt.app("default")
    raw = orjson.dumps({"event": f"{plural}.updated", "body": keys})
    now = utcnow()
    names = EventNames(app.entities, app.event_kinds)
    identity = identify(app.name, names, {}, makini_key, raw, now=now)
    async with Intake.open(rt.store) as intake:
        await intake.store(make_delivery(new_id(), app.name, identity, raw, received_at=now))


async def process(rt: Runtime) -> None:
    """The consumer applies what waits."""
    while await process_record_events(rt):
        pass


async def drift(rt: Runtime) -> list[Drift]:
    """What was counted, oldest first."""
    async with rt.store.read() as session:
        return list(await session.scalars(select(Drift).order_by(col(Drift.run_at))))


Check = Callable[[], Awaitable[None]]


@pytest.fixture
def agree(store: Store, peer: Peer) -> Check:
    """`await agree()`: the index is what the sandbox really holds."""

    async def check() -> None:
        assert await index_of(store) == parsed(await peer.truth())

    return check
