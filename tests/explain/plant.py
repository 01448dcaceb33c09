"""Causes planted in a running part or in the database, each with what a person would ask."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.customers.naming import label
from linekeeper.housekeeping import prune
from linekeeper.store import new_id
from linekeeper.store.tables import (
    ApiKey,
    Change,
    Connection,
    Credential,
    Customer,
    Deletion,
    DeliveryCount,
    FeedRead,
    Outage,
    Outbox,
    Record,
    Transition,
    Watermark,
    WebhookEvent,
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


async def lost(stage: Stage) -> Planted:
    which = stage.connections[0]
    await have_had_webhooks(stage)
    await write(stage, *recovered(which, "lost-1"))
    return Planted(await subject(stage, which, "lost-1"), "webhook_lost", "webhook", "makini")


async def lost_by_number(stage: Stage) -> Planted:
    which = stage.connections[0]
    await have_had_webhooks(stage)
    await write(stage, *recovered(which, "k/77 ü", number="WO 2026-17"))
    asked = await subject(stage, which, "WO 2026-17")
    return Planted(asked, "webhook_lost", "webhook", "makini")


async def never_set_up(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, *recovered(which, "never-1"))
    return Planted(await subject(stage, which, "never-1"), "webhooks_never", "webhook", "us")


async def forged(stage: Stage) -> Planted:
    which, at = stage.connections[0], utcnow() - timedelta(minutes=30)
    minute = at.replace(second=0, microsecond=0)
    count = DeliveryCount(app="default", cause="bad_signature", minute=minute, count=3)
    await write(stage, *recovered(which, "forged-1"), count)
    return Planted(await subject(stage, which, "forged-1"), "rejected", "accepted", "us")


async def behind_our_outage(stage: Stage) -> Planted:
    which, now = stage.connections[0], utcnow()
    outage = Outage(since=now - timedelta(hours=2), until=now - timedelta(minutes=30))
    await write(stage, *recovered(which, "away-1"), outage)
    return Planted(await subject(stage, which, "away-1"), "our_outage", "webhook", "us")


async def late(stage: Stage) -> Planted:
    which = stage.connections[0]
    rows = recovered(which, "late-1", announced_at=utcnow())
    await write(stage, *rows)
    return Planted(await subject(stage, which, "late-1"), "webhook_late", "webhook", "makini")


async def unrouted(stage: Stage) -> Planted:
    which = stage.connections[0]
    await stage.deliver({"event": "assets.updated", "body": ["4711"]}, to="nobody")
    await stage.process()
    return Planted(await subject(stage, which, "4711"), "unrouted", "read", "us")


async def dead(stage: Stage) -> Planted:
    which = stage.connections[0]
    receipt = await stage.deliver(b"\xff not JSON", to=which)
    await stage.process()
    return Planted(receipt.id, "dead", "read", "us")


async def dead_record(stage: Stage) -> Planted:
    which = stage.connections[0]
    receipt = await stage.deliver({"event": "nonsense", "body": ["dead-2"]}, to=which)
    await stage.process()
    event = await stage.event(receipt.id)
    assert event.status == "dead"
    return Planted(await subject(stage, which, "dead-2"), "dead", "read", "us")


async def deferred_by_a_lost_login(stage: Stage) -> Planted:
    which = stage.connections[0]
    key = await some_key(stage, which)
    await fall(stage, which, "reauthorization_required")
    await stage.deliver({"event": "assets.updated", "body": [key]}, to=which)
    await stage.process()
    await fall(stage, which, "healthy")  # as it is now says nothing of then
    return Planted(await subject(stage, which, key), "deferred_login", "read", "customer")


async def deferred_by_an_unreachable_system(stage: Stage) -> Planted:
    which = stage.connections[0]
    key = await some_key(stage, which)
    await fall(stage, which, "unreachable")
    await stage.deliver({"event": "assets.updated", "body": [key]}, to=which)
    await stage.process()
    return Planted(await subject(stage, which, key), "deferred_unreachable", "read", "customer")


async def deferred_and_recovered(stage: Stage) -> Planted:
    which = stage.connections[0]
    await fall(stage, which, "reauthorization_required")
    await stage.deliver({"event": "assets.updated", "body": ["back-1"]}, to=which)
    await stage.process()
    await fall(stage, which, "healthy")
    await write(stage, *recovered(which, "back-1", at=utcnow()))
    return Planted(await subject(stage, which, "back-1"), "deferred_login", "read", "customer")


async def without_a_token(stage: Stage) -> Planted:
    which = stage.connections[0]
    async with stage.rt.store.write() as session:
        await session.execute(delete(Credential).where(col(Credential.connection_id) == which.id))
    await stage.deliver({"event": "assets.updated", "body": ["t-1"]}, to=which)
    await stage.process()
    asked = await subject(stage, which, "t-1")
    return Planted(asked, "deferred_without_token", "read", "us")


async def outside_the_entities(stage: Stage) -> Planted:
    which = stage.connections[0]
    await stage.deliver({"event": "materials.updated", "body": ["m-1"]}, to=which)
    await stage.process()
    return Planted(await subject(stage, which, "m-1"), "outside_entities", "read", "us")


async def absent_at_the_source(stage: Stage) -> Planted:
    which = stage.connections[0]
    await stage.deliver({"event": "assets.updated", "body": ["nowhere-1"]}, to=which)
    await stage.process()
    asked = await subject(stage, which, "nowhere-1")
    return Planted(asked, "absent_at_source", "read", "customer")


async def taken_by_the_product(stage: Stage) -> Planted:
    which = stage.connections[0]
    key = await some_key(stage, which)
    await stage.deliver({"event": "assets.updated", "body": [key]}, to=which)
    await stage.process()
    await stage.forward()
    return Planted(await subject(stage, which, key), "product_accepted", None, "product")


async def refused_by_the_product(stage: Stage, status: int = 422) -> Planted:
    which = stage.connections[0]
    key = await some_key(stage, which)
    stage.product.answers = [status] * 50
    await stage.deliver({"event": "assets.updated", "body": [key]}, to=which)
    await stage.process()
    await stage.forward()
    return Planted(await subject(stage, which, key), "product_refused", "forward", "product")


async def redirected_by_the_product(stage: Stage) -> Planted:
    planted = await refused_by_the_product(stage, status=307)
    return Planted(planted.subject, "product_refused", "forward", "product")


async def behind_one_that_is_refused(stage: Stage) -> Planted:
    which = stage.connections[0]
    await refused_by_the_product(stage)
    key = await some_key(stage, which)
    receipt = await stage.deliver({"event": "assets.updated", "body": [key]}, to=which)
    await stage.process()
    await stage.forward()
    return Planted(receipt.id, "product_refused", "forward", "product")


async def behind_one_while_the_product_is_away(stage: Stage) -> Planted:
    which = stage.connections[0]
    await product_in_trouble(stage)
    key = await some_key(stage, which)
    receipt = await stage.deliver({"event": "assets.updated", "body": [key]}, to=which)
    await stage.process()
    return Planted(receipt.id, "product_unreachable", "forward", "product")


async def product_in_trouble(stage: Stage) -> Planted:
    which = stage.connections[0]
    key = await some_key(stage, which)
    stage.product.answers = [500] * 50
    await stage.deliver({"event": "assets.updated", "body": [key]}, to=which)
    await stage.process()
    await stage.forward()
    asked = await subject(stage, which, key)
    return Planted(asked, "product_unreachable", "forward", "product")


async def product_gone(stage: Stage) -> Planted:
    which = stage.connections[0]
    key = await some_key(stage, which)
    stage.product.answers = [410] * 50
    await stage.deliver({"event": "assets.updated", "body": [key]}, to=which)
    await stage.process()
    await stage.forward()
    return Planted(await subject(stage, which, key), "product_gone", "forward", "product")


async def forward_waits(stage: Stage) -> Planted:
    which = stage.connections[0]
    key = await some_key(stage, which)
    receipt = await stage.deliver({"event": "assets.updated", "body": [key]}, to=which)
    await stage.process()
    return Planted(receipt.id, "forward_waiting", "forward", "us")


async def forward_given_up(stage: Stage) -> Planted:
    planted = await product_in_trouble(stage)
    async with stage.rt.store.write() as session:
        await session.execute(update(Outbox).values(status="dead", error="given up"))
    return Planted(planted.subject, "forward_gave_up", "forward", "product")


async def waiting(stage: Stage) -> Planted:
    which = stage.connections[0]
    await stage.deliver({"event": "assets.updated", "body": ["w-1"]}, to=which)
    return Planted(await subject(stage, which, "w-1"), "waiting", "claimed", "us")


async def retrying(stage: Stage) -> Planted:
    which = stage.connections[0]
    receipt = await stage.deliver({"event": "assets.updated", "body": ["r-1"]}, to=which)
    async with stage.rt.store.write() as session:
        await session.execute(
            update(WebhookEvent)
            .where(col(WebhookEvent.id) == receipt.id)
            .values(attempts=2, error="503", next_attempt_at=utcnow() + timedelta(minutes=1))
        )
    return Planted(await subject(stage, which, "r-1"), "retrying", "read", "us")


async def deleted(stage: Stage) -> Planted:
    which, now = stage.connections[0], utcnow()
    rows = recovered(which, "gone-1", op="deleted", source="deletion", recovered=False)
    rows[0].deleted_at = now
    await write(stage, *rows)
    return Planted(await subject(stage, which, "gone-1"), "deleted", None, "nobody")


async def deletion_held(stage: Stage) -> Planted:
    which, now = stage.connections[0], utcnow()
    deletion = Deletion(
        id=new_id(), connection_id=which.id, entity=ASSETS, status="proposed", records=9, live=10
    )
    record = Record(
        connection_id=which.id,
        entity=ASSETS,
        key="held-1",
        hash="h",
        absent_since=now,
        deletion_id=deletion.id,
    )
    await write(stage, deletion, record)
    return Planted(await subject(stage, which, "held-1"), "deletion_held", "poll", "us")


def mark(which: Connection, **values: Any) -> Watermark:
    now = utcnow()
    known = {"position": now, "polled_at": now, "full_at": now, "moved_at": now}
    return Watermark(connection_id=which.id, entity=ASSETS, **(known | values))


async def outside_the_window(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which, window_since=utcnow() - timedelta(days=60)))
    return Planted(await subject(stage, which, "old-1"), "outside_window", "poll", "makini")


async def listed_in_part(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which, listed=40, source_total=60, indexed=40, inconsistent=2))
    return Planted(await subject(stage, which, "p-1"), "listing_incomplete", "poll", "makini")


async def entity_failing(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which, failures=3, failing_since=utcnow(), error="403 forbidden"))
    return Planted(await subject(stage, which, "e-1"), "entity_failing", "poll", "makini")


async def entity_not_offered(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which, offered=False))
    return Planted(await subject(stage, which, "n-1"), "entity_not_offered", "poll", "makini")


async def never_polled(stage: Stage) -> Planted:
    which = stage.connections[0]
    return Planted(await subject(stage, which, "p-1"), "never_polled", "poll", "us")


async def never_seen(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which))
    return Planted(await subject(stage, which, "x-1"), "never_seen", "source", "customer")


async def login_lost(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which))
    await fall(stage, which, "reauthorization_required")
    return Planted(await subject(stage, which, "l-1"), "login_lost", "poll", "customer")


async def login_lost_of_a_known_record(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which), recovered(which, "l-2")[0])
    await fall(stage, which, "reauthorization_required")
    return Planted(await subject(stage, which, "l-2"), "login_lost", "poll", "customer")


async def unreachable_with_a_known_record(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, mark(which), recovered(which, "u-2")[0])
    await fall(stage, which, "unreachable")
    return Planted(await subject(stage, which, "u-2"), "system_unreachable", "poll", "customer")


async def entity_failing_of_a_known_record(stage: Stage) -> Planted:
    which = stage.connections[0]
    failing = mark(which, failures=3, failing_since=utcnow(), error="403 forbidden")
    await write(stage, failing, recovered(which, "e-2")[0])
    return Planted(await subject(stage, which, "e-2"), "entity_failing", "poll", "makini")


async def not_connected(stage: Stage) -> Planted:
    which = stage.connections[0]
    await set_connection(stage, which, setup="authorizing")
    return Planted(await subject(stage, which, "a-1"), "not_connected", "source", "customer")


async def disconnected(stage: Stage) -> Planted:
    which = stage.connections[0]
    await set_connection(stage, which, setup="disconnected")
    return Planted(await subject(stage, which, "d-1"), "disconnected", "source", "customer")


async def baseline(stage: Stage) -> Planted:
    which = stage.connections[0]
    await write(stage, recovered(which, "b-1")[0])
    return Planted(await subject(stage, which, "b-1"), "baseline", None, "nobody")


async def read_from_the_feed(stage: Stage) -> Planted:
    which, key = stage.connections[0], ApiKey(name="crm", digest="x", created_by="tests")
    rows = recovered(which, "f-1", op="rekeyed", recovered=False, position=7)
    read = FeedRead(key_id=key.id, after=3, upto=9)
    await write(stage, *rows, key, read)
    return Planted(await subject(stage, which, "f-1"), "product_accepted", None, "product")


async def too_long_ago(stage: Stage) -> Planted:
    which = stage.connections[0]
    rows = recovered(which, "o-1", op="rekeyed", recovered=False)
    now = utcnow()
    rows[1].at = now - timedelta(days=40)
    await write(stage, *rows)
    ago = now - timedelta(days=14)
    await prune(stage.rt.store, outbox_before=ago, observations_before=ago, traces_before=ago)
    return Planted(await subject(stage, which, "o-1"), "not_recorded", None, "nobody")


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


PLANTS: list[Plant] = [
    lost,
    lost_by_number,
    never_set_up,
    forged,
    behind_our_outage,
    late,
    unrouted,
    dead,
    dead_record,
    deferred_by_a_lost_login,
    deferred_by_an_unreachable_system,
    deferred_and_recovered,
    without_a_token,
    outside_the_entities,
    absent_at_the_source,
    taken_by_the_product,
    refused_by_the_product,
    redirected_by_the_product,
    behind_one_that_is_refused,
    behind_one_while_the_product_is_away,
    product_in_trouble,
    product_gone,
    forward_waits,
    forward_given_up,
    waiting,
    retrying,
    deleted,
    deletion_held,
    outside_the_window,
    listed_in_part,
    entity_failing,
    entity_not_offered,
    never_polled,
    never_seen,
    login_lost,
    login_lost_of_a_known_record,
    unreachable_with_a_known_record,
    entity_failing_of_a_known_record,
    not_connected,
    disconnected,
    baseline,
    read_from_the_feed,
    too_long_ago,
]
