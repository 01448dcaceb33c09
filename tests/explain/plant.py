"""Causes planted in a running part or in the database, each with what a person would ask."""

from datetime import timedelta

from sqlalchemy import delete, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.store import new_id
from linekeeper.store.tables import (
    Connection,
    Credential,
    Deletion,
    DeliveryCount,
    Outage,
    Outbox,
    Record,
    WebhookEvent,
)
from tests.explain.plant_of_polls import (
    baseline,
    disconnected,
    entity_failing,
    entity_failing_of_a_known_record,
    entity_not_offered,
    listed_in_part,
    login_lost,
    login_lost_of_a_known_record,
    never_polled,
    never_seen,
    not_connected,
    outside_the_window,
    read_from_the_feed,
    too_long_ago,
    unreachable_with_a_known_record,
)
from tests.explain.planting import (
    ASSETS,
    Plant,
    Planted,
    fall,
    have_had_webhooks,
    mark,
    recovered,
    some_key,
    subject,
    write,
)
from tests.inbox.process.stage import Stage


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
    count = DeliveryCount(app="default", cause="bad_signature", minute=minute, count=1)
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


async def in_time_by_a_clock_of_days(stage: Stage) -> Planted:
    """The source dates a change by the beginning of its day."""
    which, now = stage.connections[0], utcnow()
    began, found = now - timedelta(hours=5), now - timedelta(minutes=1)
    rows = recovered(which, "day-1", updated_at=began, announced_at=found - timedelta(minutes=1))
    await write(stage, *rows, mark(which, grain_seconds=86_400.0))
    return Planted(await subject(stage, which, "day-1"), "nothing_missing", None, "nobody")


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


async def after_an_export(stage: Stage) -> Planted:
    """Nobody at Linekeeper can do anything: the product has the tokens."""
    which = stage.connections[0]
    async with stage.rt.store.write() as session:
        (await session.get_one(Connection, which.id)).custody = "exported"
        (await session.get_one(Credential, which.id)).expires_at = utcnow()
    await stage.deliver({"event": "assets.updated", "body": ["g-1"]}, to=which)
    await stage.process()
    asked = await subject(stage, which, "g-1")
    return Planted(asked, "deferred_given_back", "read", "product")


async def after_an_export_before_the_token_is_refused(stage: Stage) -> Planted:
    """In observe what was given back serves for its status, and reads no records."""
    which = stage.connections[0]
    async with stage.rt.store.write() as session:
        observed = await session.get_one(Connection, which.id)
        observed.custody, observed.mode = "exported", "observe"
    await stage.deliver({"event": "assets.updated", "body": ["g-2"]}, to=which)
    await stage.process()
    asked = await subject(stage, which, "g-2")
    return Planted(asked, "deferred_given_back", "read", "product")


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


PLANTS: list[Plant] = [
    lost,
    lost_by_number,
    never_set_up,
    forged,
    behind_our_outage,
    late,
    in_time_by_a_clock_of_days,
    unrouted,
    dead,
    dead_record,
    deferred_by_a_lost_login,
    deferred_by_an_unreachable_system,
    deferred_and_recovered,
    without_a_token,
    after_an_export,
    after_an_export_before_the_token_is_refused,
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
