"""A house of many records and events, all well: what a cause has to be found among.

Connections with records, deliveries of thirty days, and of every fourth of these the change it
brought, its forward and the product's answer.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from pydantic import SecretStr
from sqlalchemy import insert
from sqlmodel import SQLModel

from linekeeper.config import AlertPolicy, AppConfig, Configuration, SlackConfig
from linekeeper.store import Store, new_id
from linekeeper.store.tables import (
    Change,
    Connection,
    Credential,
    Customer,
    ForwardAttempt,
    Outbox,
    Record,
    Watermark,
    WebhookEvent,
)
from linekeeper.store.types import table_of

ENTITY = "eam/work-orders"
CONNECTIONS = 600
BUSY = 0.1
"""Share of all deliveries that belong to one connection: it has more than are searched at once."""
_ROWS = 5_000
CONFIGURATION = Configuration(
    apps={
        "default": AppConfig(forward_url="http://product.test/"),
        "feed": AppConfig(name="feed"),
    },
    alerts=AlertPolicy(quiet_hours="00:00-23:59"),
    slack=SlackConfig(bot_token=SecretStr("x"), channel="alerts"),
)


@dataclass(slots=True)
class Crowd:
    """The connections, and what all rows are dated by."""

    now: datetime
    connections: list[dict[str, Any]] = field(default_factory=list)


def id_at(at: datetime) -> str:
    """A new id that sorts by `at`, as that of a row written then."""
    digits = f"{int(at.timestamp() * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}-{new_id()[14:]}"


async def fill(store: Store, *, rows: int, now: datetime) -> Crowd:
    """A crowd of about `rows` records and events: half of them records, a third deliveries."""
    chance, crowd = random.Random(23), Crowd(now)
    customers = [
        {"id": new_id(), "name": f"Customer {n}", "slug": f"customer-{n}"}
        for n in range(CONNECTIONS)
    ]
    crowd.connections = [
        {
            "id": new_id(),
            "app": "default",
            "makini_key": f"key{n:05d}",
            "name": f"Customer {n} Maximo",
            "slug": f"customer-{n}-maximo",
            "provider": "Maximo",
            "customer_id": customers[n]["id"],
            "setup": "live",
            "health": "healthy",
            "last_webhook_at": now,
        }
        for n in range(CONNECTIONS)
    ]
    of_entity = {"entity": ENTITY, "polled_at": now, "full_at": now, "moved_at": now}
    await write(store, Customer, customers)
    await write(store, Connection, crowd.connections)
    ids = [connection["id"] for connection in crowd.connections]
    tokens = [{"connection_id": own, "access_token": "x"} for own in ids]
    await write(store, Credential, tokens)
    marks = [{"connection_id": own, "position": now, **of_entity} for own in ids]
    await write(store, Watermark, marks)
    await write(store, Record, _records(ids, rows // 2, now))
    deliveries = rows // 3
    for start in range(0, deliveries, _ROWS):
        made = list(_deliveries(chance, ids, start, min(_ROWS, deliveries - start), rows, now))
        await write(store, WebhookEvent, made)
        for model, consequences in _consequences(made):
            await write(store, model, consequences)
    if not store.is_sqlite:
        async with store.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as plain:
            await plain.exec_driver_sql("ANALYZE")
    return crowd


async def write(store: Store, model: type[SQLModel], rows: Any) -> None:
    """Insert `rows`, which have the same columns, with the defaults of the model."""
    table, batch = table_of(model), []
    defaults: dict[str, Any] = {}
    for row in rows:
        if not defaults:
            made = model(**row)
            required = (column.key for column in table.columns if not column.nullable)
            defaults = {name: getattr(made, name) for name in required if name not in row}
        fresh = {"id": new_id()} if "id" in defaults else {}
        batch.append(defaults | fresh | row)
        if len(batch) == _ROWS:
            await _insert(store, table, batch)
            batch = []
    if batch:
        await _insert(store, table, batch)


async def _insert(store: Store, table: Any, rows: list[dict[str, Any]]) -> None:
    async with store.write() as session:
        await session.execute(insert(table), rows)


def _records(ids: list[str], count: int, now: datetime) -> Iterator[dict[str, Any]]:
    for n in range(count):
        yield {
            "connection_id": ids[n % len(ids)],
            "entity": ENTITY,
            "key": f"{n:08d}",
            "number": f"WO-{n:07d}",
            "hash": "0" * 64,
            "updated_at": now - timedelta(days=90),
        }


def _deliveries(
    chance: random.Random, ids: list[str], start: int, count: int, rows: int, now: datetime
) -> Iterator[dict[str, Any]]:
    """The deliveries `start` and after, spread over thirty days, the oldest first."""
    for n in range(start, start + count):
        at = now - timedelta(days=30) * (1 - n / (rows // 3 + 1))
        own = 0 if chance.random() < BUSY else chance.randrange(len(ids))
        key = chance.randrange(max(1, rows // 2 // len(ids))) * len(ids) + own
        yield {
            "id": id_at(at),
            "delivery_key": f"evt_{n:08d}",
            **delivery(ids[own], [f"{key:08d}"], at),
        }


def delivery(connection_id: str | None, keys: list[str], at: datetime) -> dict[str, Any]:
    """One delivery that names `keys`, processed a second after it came."""
    return {
        "app": "default",
        "status": "processed",
        "connection_id": connection_id,
        "event": "work-orders.updated",
        "kind": "record.updated",
        "entity": ENTITY,
        "ordering_key": f"connection:{connection_id}",
        "received_at": at,
        "next_attempt_at": at,
        "processed_at": at + timedelta(seconds=1),
        "attempts": 1,
        "body": orjson.dumps(
            {"event": "work-orders.updated", "timestamp": at.isoformat(), "body": keys}
        ),
    }


def _consequences(
    deliveries: list[dict[str, Any]],
) -> list[tuple[type[SQLModel], list[dict[str, Any]]]]:
    """Of every fourth delivery the change it brought, its forward and the product's answer."""
    changes, forwards, attempts = [], [], []
    for event in deliveries[::4]:
        at, own = event["received_at"], event["connection_id"]
        [key] = orjson.loads(event["body"])["body"]
        seq = int(event["delivery_key"][4:])
        changes.append(
            {
                "id": id_at(at),
                "connection_id": own,
                "seq": seq,
                "position": seq,
                "entity": ENTITY,
                "key": key,
                "op": "updated",
                "updated_at": at - timedelta(seconds=5),
                "at": at + timedelta(seconds=1),
                "source": "webhook",
                "announced_at": at,
            }
        )
        forwards.append(forward(event["id"], own, "sent", at))
        attempts.append({"id": id_at(at), "message_id": event["id"], "at": at, "status": 200})
    return [(Change, changes), (Outbox, forwards), (ForwardAttempt, attempts)]


def forward(event: str, connection_id: str, status: str, at: datetime) -> dict[str, Any]:
    """The outbox row of a forward."""
    return {
        "id": id_at(at),
        "seq": id_at(at),
        "channel": "forward",
        "dedupe_key": f"forward:{event}",
        "ordering_key": f"forward:{connection_id}",
        "payload": {"event": event},
        "status": status,
        "created_at": at,
        "next_attempt_at": at + timedelta(days=1),
        "settled_at": at if status != "pending" else None,
    }
