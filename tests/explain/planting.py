"""What planting a cause takes: rows in the database, a record at the source, what to ask."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.customers.naming import label
from linekeeper.store.tables import (
    Change,
    Connection,
    Customer,
    Record,
    Transition,
    Watermark,
)
from tests.inbox.process.stage import Stage

ASSETS = "eam/assets"


@dataclass(frozen=True, slots=True)
class Planted:
    """What to ask, and what has to come out."""

    subject: str
    cause: str
    missing: str | None
    owner: str


Plant = Callable[[Stage], Awaitable[Planted]]


async def named(stage: Stage, which: Connection) -> str:
    """`Customer · System`, or the key where two connections are called the same."""
    async with stage.rt.store.read() as session:
        customer = await session.scalar(
            select(col(Customer.name)).where(col(Customer.id) == which.customer_id)
        )
    return label(customer, which.provider, which.name, which.told_apart_by)


async def subject(stage: Stage, which: Connection, key: str) -> str:
    return f"{await named(stage, which)} {key}"


async def write(stage: Stage, *rows: Any) -> None:
    async with stage.rt.store.write() as session:
        for row in rows:
            session.add(row)
            await session.flush()


async def some_key(stage: Stage, which: Connection) -> str:
    """A key that the source has, and of which it has told nobody."""
    made = await stage.control(
        "records", connection=which.makini_key, entity=ASSETS, make=1, announce=False
    )
    [[key]] = [each["made"] for each in made["records"][which.makini_key].values()]
    return str(key)


def recovered(which: Connection, key: str, **values: Any) -> list[Any]:
    """A record that a poll brought a moment ago, and its change."""
    now = utcnow()
    updated = values.pop("updated_at", now - timedelta(hours=1))
    change = {
        "connection_id": which.id,
        "seq": values.pop("seq", 1),
        "entity": ASSETS,
        "key": key,
        "op": "updated",
        "updated_at": updated,
        "at": now - timedelta(minutes=1),
        "source": "poll",
        "recovered": True,
    }
    return [
        Record(
            connection_id=which.id,
            entity=ASSETS,
            key=key,
            hash="h",
            updated_at=updated,
            number=values.pop("number", None),
        ),
        Change(**(change | values)),
    ]


async def have_had_webhooks(stage: Stage) -> None:
    async with stage.rt.store.write() as session:
        await session.execute(update(Connection).values(last_webhook_at=utcnow()))


def mark(which: Connection, **values: Any) -> Watermark:
    now = utcnow()
    known = {"position": now, "polled_at": now, "full_at": now, "moved_at": now}
    return Watermark(connection_id=which.id, entity=ASSETS, **(known | values))


async def fall(stage: Stage, which: Connection, health: str) -> None:
    before = (await stage.connection(which)).health
    await set_connection(stage, which, health=health)
    await write(
        stage,
        Transition(
            connection_id=which.id, axis="health", before=before, after=health, source="probe"
        ),
    )


async def set_connection(stage: Stage, which: Connection, **values: Any) -> None:
    async with stage.rt.store.write() as session:
        await session.execute(
            update(Connection).where(col(Connection.id) == which.id).values(**values)
        )
