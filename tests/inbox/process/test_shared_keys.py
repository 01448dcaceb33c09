"""Events that name no connection, where several connections have the same record keys."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlmodel import col
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from linekeeper.clock import utcnow
from linekeeper.inbox.unrouted import route_again
from linekeeper.makini import TokenPair
from linekeeper.reconcile.upsert import Arrived, upsert_records
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Change, Connection, Outbox, WebhookEvent
from linekeeper.tokens.stored import save_tokens
from tests.inbox.process.product import SECRET, Product, serving
from tests.inbox.process.stage import Stage

ENTITY = "eam/assets"


@dataclass
class Makini:
    """The records of each connection, by its token; each key with its version."""

    records: dict[str, dict[str, int]] = field(default_factory=dict)
    not_found: set[str] = field(default_factory=set)
    """The tokens to which it answers 404, whatever is asked."""
    paused: set[str] = field(default_factory=set)
    """The tokens of which it wants to hear nothing for an hour."""
    slow: dict[str, str] = field(default_factory=dict)
    """By token, the key that it can't give now."""

    def record(self, token: str, key: str) -> dict[str, Any] | None:
        version = self.records.get(token, {}).get(key)
        return None if version is None else {"key": key, "version": version}

    async def answer(self, request: Request) -> Response:
        token = request.headers["authorization"].removeprefix("Bearer ")
        if token in self.not_found:
            return JSONResponse({"message": "Not found."}, 404)
        if token in self.paused:
            return JSONResponse({"message": "Slow down."}, 429, {"Retry-After": "3600"})
        keys = request.query_params.getlist("filter[key]")
        if keys and token in self.slow:
            return JSONResponse({"data": [], "meta": {"last_page": 1}})
        if request.url.path.rpartition("/")[2] == self.slow.get(token):
            return JSONResponse({"message": "Away."}, 503)
        if keys:
            found = [record for key in keys if (record := self.record(token, key))]
            return JSONResponse({"data": found, "meta": {"last_page": 1}})
        record = self.record(token, request.url.path.rpartition("/")[2])
        return JSONResponse({"data": record}, 200 if record else 404)


@dataclass
class Fleet:
    stage: Stage
    makini: Makini

    async def index(self, *connections: Connection) -> None:
        """What a poll does: the index has what the source has."""
        now = utcnow()
        arrived = [
            Arrived(
                connection.id,
                ENTITY,
                [
                    {"key": key, "version": version}
                    for key, version in self.makini.records[connection.makini_key].items()
                ],
                bodies=False,
                fields=(),
                asked_at=now,
                received_at=now,
            )
            for connection in connections
        ]
        async with self.stage.rt.store.write() as session:
            await upsert_records(self.stage.rt.store, session, arrived, source="poll", now=now)

    async def announced(self) -> set[tuple[str, str]]:
        """Connection and key of each change that a webhook brought."""
        async with self.stage.rt.store.read() as session:
            rows = await session.execute(
                select(col(Change.connection_id), col(Change.key)).where(
                    col(Change.source) == "webhook"
                )
            )
            return {(row[0], row[1]) for row in rows}


async def fleet_of(rt: Runtime, makini: Makini, count: int) -> Fleet:
    connections = [
        Connection(
            id=new_id(),
            app="default",
            makini_key=f"c{n}",
            name=f"C{n}",
            slug=f"c{n}",
            provider="SAP ECC",
            setup="live",
            health="healthy",
        )
        for n in range(count)
    ]
    pairs = {connection.id: TokenPair(connection.makini_key) for connection in connections}
    async with rt.store.write() as session:
        session.add_all(connections)
        await session.flush()
        await save_tokens(rt.store, session, pairs, now=utcnow())
    stage = Stage(rt, None, Product(), connections)  # type: ignore[arg-type]
    return Fleet(stage, makini)


@pytest.fixture
async def makini() -> Makini:
    return Makini()


@pytest.fixture
async def rt(settings: Settings, store: Store, makini: Makini) -> AsyncIterator[Runtime]:
    app = Starlette(routes=[Route("/{path:path}", makini.answer)])
    async with serving(app) as url:
        values = {
            "makini_api_url": url,
            "makini_client_id": "id",
            "makini_client_secret": SecretStr("secret"),
            "makini_mode": "manage",
            "makini_per_minute": 0,
            "forward_url": "http://127.0.0.1:1/hooks",
            "forward_secret": SecretStr(SECRET),
        }
        async with Runtime.open(settings.model_copy(update=values)) as runtime:
            yield runtime


def body(*keys: str) -> dict[str, Any]:
    return {"event": "assets.updated", "body": list(keys)}


async def forwards(stage: Stage) -> list[dict[str, Any]]:
    return [row.payload for row in await stage.forwards()]


async def test_a_key_of_several_goes_to_those_whose_record_changed(
    rt: Runtime, makini: Makini
) -> None:
    fleet = await fleet_of(rt, makini, 3)
    stage, [a, b, c] = fleet.stage, fleet.stage.connections
    makini.records = {"c0": {"k": 1, "own": 1}, "c1": {"k": 1}, "c2": {"k": 1}}
    await fleet.index(a, b, c)
    makini.records["c1"]["k"] = 2
    receipt = await stage.deliver(body("k"))
    await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.connection_id) == ("processed", b.id)
    makini.records["c0"]["k"] = makini.records["c2"]["k"] = 2
    two = await stage.deliver({**body("k", "own"), "n": 2})
    await stage.process()
    event = await stage.event(two.id)
    assert (event.status, event.connection_id) == ("processed", None)
    assert await fleet.announced() == {(x.id, "k") for x in (a, b, c)}
    assert await forwards(stage) == [
        {"event": receipt.id, "keys": ["k"]},
        {"event": two.id, "connection": a.id, "keys": ["k", "own"]},
        {"event": two.id, "connection": c.id, "keys": ["k"]},
    ]
    again = await stage.deliver({**body("k"), "n": 3})
    await stage.process()
    event = await stage.event(again.id)
    assert (event.status, event.connection_id) == ("processed", None)
    assert "changed in none of them" in (event.error or "")


async def test_a_delivery_of_one_is_not_the_late_delivery_of_another(
    rt: Runtime, makini: Makini
) -> None:
    fleet = await fleet_of(rt, makini, 2)
    stage, [a, b] = fleet.stage, fleet.stage.connections
    makini.records = {"c0": {"k": 1}, "c1": {"k": 1}}
    await fleet.index(a, b)
    makini.records["c0"]["k"] = 2
    await fleet.index(a)
    async with rt.store.write() as session:  # the poll that found it hands it on
        await session.execute(update(Change).values(recovered=True, due="missed"))
    makini.records["c1"]["k"] = 2
    await stage.deliver(body("k"))
    await stage.process()
    assert await fleet.announced() == {(b.id, "k")}
    assert await late(rt, a) == []
    await stage.deliver(body("k"))  # it changed nowhere since: whoever was not announced is now
    await stage.process()
    assert await late(rt, a) == ["k"]


async def late(rt: Runtime, connection: Connection) -> list[str]:
    """The keys of changes that a poll found and a delivery announced afterwards."""
    async with rt.store.read() as session:
        return list(
            await session.scalars(
                select(col(Change.key)).where(
                    col(Change.connection_id) == connection.id,
                    col(Change.source) == "poll",
                    col(Change.announced_at).is_not(None),
                )
            )
        )


@pytest.mark.parametrize("count", [1, 2])
async def test_an_entity_that_is_not_found_just_then_confirms_no_deletion(
    rt: Runtime, makini: Makini, count: int
) -> None:
    """Each connection has the keys; one deleted the records, the others' entity answers 404."""
    fleet = await fleet_of(rt, makini, 3)
    stage, [a, b, c] = fleet.stage, fleet.stage.connections
    keys = [f"k{n}" for n in range(count)]
    makini.records = {f"c{n}": dict.fromkeys(keys, 1) for n in range(3)}
    await fleet.index(a, b, c)
    makini.records["c1"] = {}
    makini.not_found = {"c2"}
    receipt = await stage.deliver({"event": "assets.deleted", "body": keys})
    await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.connection_id) == ("processed", b.id)
    assert await forwards(stage) == [{"event": receipt.id, "keys": keys}]


async def test_an_unknown_key_waits_for_the_poll_that_brings_it(
    rt: Runtime, makini: Makini
) -> None:
    fleet = await fleet_of(rt, makini, 2)
    stage, [a, b] = fleet.stage, fleet.stage.connections
    makini.records = {"c0": {"old": 1}, "c1": {"old": 1, "new": 1}}
    await fleet.index(a)
    receipt = await stage.deliver(body("new"))
    await stage.process()
    assert (await stage.event(receipt.id)).status == "unrouted"
    assert await route_again(rt.store, now=utcnow()) == 0
    await fleet.index(b)
    assert await route_again(rt.store, now=utcnow()) == 1
    await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.connection_id) == ("processed", b.id)


async def test_a_key_of_more_connections_than_are_asked_is_left_to_the_poll(
    rt: Runtime, makini: Makini
) -> None:
    fleet = await fleet_of(rt, makini, 22)
    makini.records = {f"c{n}": {"k": 1} for n in range(22)}
    await fleet.index(*fleet.stage.connections)
    receipt = await fleet.stage.deliver(body("k"))
    await fleet.stage.process()
    event = await fleet.stage.event(receipt.id)
    assert (event.status, event.connection_id) == ("deferred", None)
    assert "more than 20 connections" in (event.error or "")


@pytest.mark.parametrize(
    ("connections", "webhooks"),
    [(30, 200), pytest.param(1_000, 10_000, marks=pytest.mark.soak)],
)
async def test_of_many_webhooks_with_colliding_keys_none_is_told_a_wrong_connection(
    rt: Runtime, makini: Makini, connections: int, webhooks: int
) -> None:
    """Each webhook announces the change of one connection's record; up to four have its key."""
    chance = random.Random(7)
    fleet = await fleet_of(rt, makini, connections)
    stage, of_key = fleet.stage, {}
    makini.records = {f"c{n}": {} for n in range(connections)}
    for n in range(webhooks):
        of_key[f"k{n:06d}"] = chance.sample(range(connections), chance.randint(1, 4))
        for owner in of_key[f"k{n:06d}"]:
            makini.records[f"c{owner}"][f"k{n:06d}"] = 1
    for start in range(0, connections, 100):
        await fleet.index(*stage.connections[start : start + 100])
    truth: dict[str, str] = {}
    for start in range(0, webhooks, 1_000):
        bodies = []
        for n in range(start, min(start + 1_000, webhooks)):
            key = f"k{n:06d}"
            changed = chance.choice(of_key[key])
            makini.records[f"c{changed}"][key] = 2
            truth[key] = stage.connections[changed].id
            bodies.append((body(key), None))
        await stage.deliver_all(bodies)
        await stage.process()
    assert await fleet.announced() == {(owner, key) for key, owner in truth.items()}
    async with rt.store.read() as session:
        rows = await session.execute(
            select(col(WebhookEvent.status), col(WebhookEvent.connection_id), col(WebhookEvent.id))
        )
        events = {row.id: (row.status, row.connection_id) for row in rows}
        sent = list(await session.scalars(select(Outbox).where(col(Outbox.channel) == "forward")))
    assert Counter(status for status, _ in events.values()) == {"processed": webhooks}
    assert Counter(owner for _, owner in events.values()) == Counter(truth.values())
    assert {truth[row.payload["keys"][0]] for row in sent} == set(truth.values())
    for row in sent:
        [key] = row.payload["keys"]
        assert events[row.payload["event"]][1] == truth[key]
