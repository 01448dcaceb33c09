"""Questions that a person asks and nobody planned for, each against rows written by hand."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy, AppConfig, Configuration
from linekeeper.config.alerts import quiet_times
from linekeeper.customers.find import NotFound, find_customer
from linekeeper.explain.answer import Explanation, HopName, HopState
from linekeeper.explain.service import explain
from linekeeper.explain.words import moment
from linekeeper.store import Store, new_id
from linekeeper.store.tables import (
    Change,
    Connection,
    ConnectionSetting,
    Customer,
    ForwardAttempt,
    Incident,
    IncidentConnection,
    Outbox,
    Record,
    WebhookEvent,
)
from tests.explain.test_notified import opened

ASSETS, ORDERS = "eam/assets", "eam/work-orders"
NOW = utcnow().replace(microsecond=0)


@dataclass
class World:
    """A customer with connections, of which rows are written by hand."""

    store: Store
    configuration: Configuration = field(
        default_factory=lambda: Configuration(
            apps={"default": AppConfig(forward_url="https://p.example", entities=(ASSETS, ORDERS))}
        )
    )

    async def add(self, *rows: Any) -> None:
        async with self.store.write() as session:
            for row in rows:
                session.add(row)
                await session.flush()

    async def connection(self, key: str, customer: str = "Acme", **values: Any) -> Connection:
        async with self.store.write() as session:
            try:
                owner = await find_customer(session, customer)
            except NotFound:
                owner = Customer(name=customer, slug=f"{customer.lower()}-{key}")
                session.add(owner)
                await session.flush()
            made = {"name": f"n {key}", "slug": key, "provider": "Maximo", "setup": "live"}
            row = Connection(app="default", makini_key=key, customer_id=owner.id, **made | values)
            session.add(row)
        return row

    async def ask(self, subject: str) -> Explanation:
        return await explain(self.store, self.configuration, subject, now=NOW)


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


def record(of: Connection, key: str, entity: str = ASSETS, **values: Any) -> Record:
    return Record(connection_id=of.id, entity=entity, key=key, hash="h", **values)


def change(of: Connection, key: str, seq: int, entity: str = ASSETS, **values: Any) -> Change:
    given: dict[str, Any] = {"op": "updated", "source": "poll", "recovered": True}
    given |= {"updated_at": NOW - timedelta(hours=1), "at": NOW - timedelta(minutes=1)} | values
    return Change(connection_id=of.id, seq=seq, entity=entity, key=key, **given)


def delivery(of: Connection | None, *keys: str, entity: str = ASSETS, **values: Any) -> Any:
    body = {"event": f"{entity.rpartition('/')[2]}.updated", "body": list(keys)}
    given: dict[str, Any] = {"kind": "record.updated", "ordering_key": "l", "status": "processed"}
    given |= {"received_at": NOW, "attempts": 1, "event": body["event"]} | values
    return WebhookEvent(
        app="default",
        delivery_key=f"content:{entity}{keys}{values}"[:200],
        connection_id=of.id if of else None,
        entity=entity,
        body=orjson.dumps(body),
        **given,
    )


async def test_a_key_from_before_a_reconnect_leads_to_the_one_of_today(world: World) -> None:
    after = await world.connection("after")
    before = await world.connection("before", setup="disconnected", replaced_by=after.id)
    await world.add(record(after, "new-1"))
    await world.add(change(after, "new-1", 1, op="rekeyed", old_key="old-1", recovered=False))
    for subject in ("Acme · Maximo old-1", "before old-1", f"{before.id} old-1", "old-1"):
        found = await world.ask(subject)
        webhook = next(hop for hop in found.hops if hop.name is HopName.webhook)
        assert webhook.state is HopState.not_needed  # nobody announces a new key
        assert found.title == f"Acme · Maximo · {ASSETS} new-1, was old-1"
        assert found.ids["connection"] == after.id


@pytest.mark.parametrize("renamed", [False, True])
async def test_a_delivery_of_before_a_reconnect_is_not_said_to_be_absent_at_the_source(
    world: World, renamed: bool
) -> None:
    """It was read, and its record went over to the successor: with a new key, or not matched."""
    after = await world.connection("after")
    between = await world.connection("between", setup="disconnected", replaced_by=after.id)
    before = await world.connection("before", setup="disconnected", replaced_by=between.id)
    await world.add(record(after, "new-1" if renamed else "old-1"))
    if renamed:
        await world.add(change(between, "mid-1", 1, op="rekeyed", old_key="old-1"))
        await world.add(change(after, "new-1", 1, op="rekeyed", old_key="mid-1"))
    row = delivery(before, "old-1", received_at=NOW - timedelta(hours=2))
    await world.add(row)
    found = await world.ask(row.id)
    assert found.verdict.cause not in ("absent_at_source", "never_seen")
    for subject in ("before old-1", "after old-1" if not renamed else "between old-1"):
        found = await world.ask(subject)
        assert found.verdict.cause not in ("absent_at_source", "never_seen", "disconnected")
        assert found.ids["connection"] == after.id


async def test_of_two_connections_called_alike_none_is_guessed(world: World) -> None:
    for key in ("a", "b"):
        await world.add(record(await world.connection(key), "4711", number="WO-7"))
    for subject in ("Acme · Maximo 4711", "Acme · Maximo WO-7", "WO-7", "4711"):
        with pytest.raises(NotFound, match=r"2 connections .*: a \S+; b \S+"):
            await world.ask(subject)
    assert (await world.ask("b 4711")).verdict.cause == "baseline"


async def test_of_two_called_alike_the_one_that_has_the_record_is_meant(world: World) -> None:
    await world.connection("a")
    await world.add(record(second := await world.connection("b"), "4711"))
    assert (await world.ask("Acme · Maximo 4711")).ids["connection"] == second.id


async def test_of_two_called_alike_the_one_that_lives_is_meant(world: World) -> None:
    await world.add(record(await world.connection("a", setup="disconnected"), "4711"))
    await world.add(record(second := await world.connection("b"), "4711"))
    assert (await world.ask("Acme · Maximo 4711")).ids["connection"] == second.id


async def test_customers_called_alike_are_told_apart_or_refused(world: World) -> None:
    await world.connection("a", customer="Acme")
    await world.add(Customer(name="Acme - Metals", slug="x"), Customer(name="ACME", slug="y"))
    await world.add(Customer(name="Acme Metals", slug="z"))
    async with world.store.read() as session:
        assert (await find_customer(session, "Acme")).name == "Acme"
        assert (await find_customer(session, "Acme Metals")).slug == "z"
        with pytest.raises(NotFound, match="2 customers: give the id"):
            await find_customer(session, "acme")


async def test_one_key_in_two_entities_is_two_records(world: World) -> None:
    which = await world.connection("a")
    await world.add(record(which, "17"), record(which, "17", ORDERS))
    await world.add(change(which, "17", 1), delivery(which, "17", entity=ORDERS))
    found = await world.ask("Acme · Maximo 17")
    assert (found.title, found.verdict.cause) == ("Acme · Maximo · eam/assets 17", "webhooks_never")
    assert any("eam/work-orders" in limit for limit in found.limits)
    for entity in ("work-orders", ORDERS, "Work-Orders"):
        other = await world.ask(f"Acme · Maximo {entity} 17")
        assert other.title == "Acme · Maximo · eam/work-orders 17"
        assert other.verdict.cause == "no_news"


async def test_what_was_no_news_then_says_nothing_of_what_came_after_the_login_was_lost(
    world: World,
) -> None:
    which = await world.connection("a", health="reauthorization_required")
    await world.add(record(which, "18", ORDERS), delivery(which, "18", entity=ORDERS))
    found = await world.ask("Acme · Maximo 18")
    assert (found.verdict.cause, found.verdict.missing) == ("login_lost", HopName.poll)
    assert "log" in found.verdict.next_step


async def test_an_event_with_a_key_of_another_connection_is_not_its(world: World) -> None:
    mine, other = await world.connection("a"), await world.connection("b", customer="Beta")
    await world.add(record(mine, "77"), change(mine, "77", 1), delivery(other, "77"))
    found = await world.ask("Acme · Maximo 77")
    assert "event" not in found.ids
    assert found.verdict.missing is HopName.webhook


@pytest.mark.parametrize("source", ["deletion", "poll"])
async def test_how_a_record_came_to_be_deleted_is_said(world: World, source: str) -> None:
    which = await world.connection("a", last_webhook_at=NOW)
    gone = record(which, "9")
    gone.deleted_at = NOW
    await world.add(gone, change(which, "9", 1, op="deleted", source=source))
    verdict = (await world.ask("Acme · Maximo 9")).verdict
    assert verdict.cause == "deleted"
    assert ("two complete listings" in verdict.summary) == (source == "deletion")
    assert ("the time of its deletion" in verdict.summary) == (source == "poll")


async def test_a_record_that_was_deleted_and_made_again_lives(world: World) -> None:
    which = await world.connection("a", last_webhook_at=NOW)
    await world.add(record(which, "9"), change(which, "9", 1, op="deleted", source="deletion"))
    await world.add(change(which, "9", 2, op="inserted"))
    assert (await world.ask("Acme · Maximo 9")).verdict.cause == "webhook_lost"


async def test_a_replay_that_worked_is_what_counts(world: World) -> None:
    which = await world.connection("a")
    first = delivery(which, "5", status="dead", error="x", received_at=NOW - timedelta(hours=1))
    again = delivery(which, "5", source="replay", replay_of=first.id)
    taken = ForwardAttempt(message_id=first.id, status=200, at=NOW)
    brought = change(which, "5", 1, source="webhook", recovered=False, announced_at=NOW)
    brought.updated_at = NOW - timedelta(minutes=2)
    await world.add(record(which, "5"), first, again, brought)
    key = f"forward:{again.id}"
    sent = Outbox(seq=new_id(), channel="forward", dedupe_key=key, ordering_key="l", status="sent")
    await world.add(sent, taken)
    assert (await world.ask("Acme · Maximo 5")).verdict.cause == "product_accepted"


async def test_a_delivery_of_many_records_says_how_many(world: World) -> None:
    which = await world.connection("a")
    await world.add(came := delivery(which, "1", "2", "3"))
    found = await world.ask(came.id)
    assert any("2 more records" in limit for limit in found.limits)


async def test_a_recovered_change_was_forwarded_though_its_webhook_came_late(world: World) -> None:
    which = await world.connection("a")
    found_by_poll = change(which, "3", 1, announced_at=NOW, at=NOW - timedelta(minutes=30))
    await world.add(record(which, "3"), found_by_poll, delivery(which, "3"))
    await world.add(ForwardAttempt(message_id=found_by_poll.id, status=204, at=NOW))
    found = await world.ask("Acme · Maximo 3")
    assert found.verdict.cause == "webhook_late"
    assert "HTTP 204" in next(hop for hop in found.hops if hop.name is HopName.forward).text


async def test_a_delivery_that_announced_one_change_does_not_announce_the_next(
    world: World,
) -> None:
    """The record changed again six seconds later, of which no webhook came: a poll found it."""
    which = await world.connection("a", last_webhook_at=NOW)
    first, second = NOW - timedelta(minutes=9, seconds=6), NOW - timedelta(minutes=9)
    fields: dict[str, Any] = {
        "source": "webhook",
        "recovered": False,
        "announced_at": first,
        "updated_at": first,
    }
    announced = change(which, "6", 1, at=first, **fields)
    lost = change(which, "6", 2, updated_at=second)
    await world.add(record(which, "6"), announced, lost, delivery(which, "6", received_at=first))
    for subject in ("Acme · Maximo 6", lost.id):
        found = await world.ask(subject)
        assert (found.verdict.cause, found.verdict.missing) == ("webhook_lost", HopName.webhook)
        [webhook] = [hop for hop in found.hops if hop.name is HopName.webhook]
        assert "No accepted delivery announced this change" in webhook.text
        assert f"the record came at {moment(first)}" in webhook.text  # there is one of another
    assert (await world.ask(announced.id)).verdict.cause != "webhook_lost"


async def test_a_connection_without_a_target_of_its_own_is_not_forwarded(world: World) -> None:
    which, sent = await world.connection("a"), await world.connection("b", customer="Beta")
    target = {"crm": {"url": "https://crm.example", "secret": "whsec_x"}}
    world.configuration = Configuration(apps={"default": AppConfig(forward_targets=target)})
    for each in (which, sent):
        brought = change(each, "8", 1, source="webhook", recovered=False)
        brought.announced_at = NOW - timedelta(minutes=59)
        await world.add(record(each, "8"), brought)
    await world.add(ConnectionSetting(connection_id=sent.id, entity=ASSETS, forward_to="crm"))
    assert (await world.ask("a 8")).verdict.cause == "feed_unread"
    assert (await world.ask("b 8")).verdict.cause == "nothing_missing"


async def test_an_incident_that_goes_on_in_a_wider_one_names_it(world: World) -> None:
    which = await world.connection("a")
    narrow = Incident(kind="unreachable", scope="connection", cause="c", app="default", title="One")
    wide = Incident(kind="unreachable", scope="provider", cause="p", app="default", title="Maximo")
    narrow.resolved_at, narrow.status = NOW, "resolved"
    await world.add(narrow, wide)
    for incident, left in ((narrow, NOW), (wide, None)):
        joined: dict[str, Any] = {
            "kind": "unreachable",
            "joined_at": NOW - timedelta(hours=1),
            "left_at": left,
        }
        await world.add(
            IncidentConnection(incident_id=incident.id, connection_id=which.id, **joined)
        )
    found = await world.ask(narrow.id)
    assert (found.verdict.cause, "“Maximo”" in found.verdict.summary) == ("merged", True)


@pytest.mark.parametrize(
    "subject", ["Acme · Maximo \0", "Acme \ud800 9", "%", "'; --", "·", "\u202e", "x" * 5_000]
)
async def test_whatever_is_asked_is_answered_or_refused(world: World, subject: str) -> None:
    await world.connection("a")
    with suppress(NotFound):
        assert (await world.ask(subject)).verdict.summary


@pytest.mark.parametrize("dash", ["·", "-", "–", "|", "/", ":"])
async def test_names_are_written_as_people_write_them(world: World, dash: str) -> None:
    which = await world.connection("a", customer="Müller & Söhne GmbH")
    await world.add(record(which, "00 47/11", number="WO 2026-17"))
    for key in ("00 47/11", "WO 2026-17"):
        found = await world.ask(f"MÜLLER & SÖHNE GMBH {dash}  maximo {key}")
        assert found.ids["connection"] == which.id


@pytest.mark.parametrize(
    ("day", "asked", "ends"),
    [
        # Clocks go forward at 2:00 in Berlin: 22:00 to 7:00 is an hour shorter.
        ((2026, 3, 28), (23, 0), datetime(2026, 3, 29, 5, tzinfo=UTC)),
        # … and back at 3:00, so that 2:30 is there twice.
        ((2026, 10, 24), (23, 0), datetime(2026, 10, 25, 6, tzinfo=UTC)),
    ],
)
async def test_quiet_hours_end_by_the_clock_on_the_wall_also_when_it_is_changed(
    world: World, day: tuple[int, int, int], asked: tuple[int, int], ends: datetime
) -> None:
    at = datetime(*day, *asked, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    assert quiet_times("22:00-07:00", "", "Europe/Berlin").until(at) == ends
    policy = AlertPolicy(
        quiet_hours="22:00-07:00", time_zone="Europe/Berlin", first_after_minutes=0
    )
    world.configuration = Configuration(apps={}, alerts=policy)
    incident = await opened(world.store)
    async with world.store.write() as session:
        row = await session.get(Incident, incident.id)
        assert row is not None
        row.scope, row.opened_at = "connection", at
    found = await explain(
        world.store, world.configuration, incident.id, now=at + timedelta(minutes=30)
    )
    assert found.verdict.cause == "quiet_hours"
    assert f"until {ends:%Y-%m-%d %H:%M}" in found.verdict.summary


@pytest.mark.parametrize("spelled", ["WO/é-1", "WO\\/é-1", "WO/\\u00e9-1", "WO\\/\\u00e9-1"])
async def test_a_key_is_found_however_json_spells_it(world: World, spelled: str) -> None:
    """Makini's PHP writes a slash with a backslash before it."""
    which = await world.connection("a", last_webhook_at=NOW)
    came = delivery(which, "WO/é-1")
    came.body = f'{{"event":"assets.updated","body":["{spelled}"]}}'.encode()
    await world.add(record(which, "WO/é-1"), came)
    explained = await world.ask("Acme · Maximo WO/é-1")
    assert explained.ids.get("event") == came.id


@pytest.mark.parametrize("over", [True, False])
async def test_what_a_killed_consumer_had_claimed_is_not_being_worked_on(
    world: World, over: bool
) -> None:
    which = await world.connection("a")
    until = NOW - timedelta(hours=1) if over else NOW + timedelta(minutes=1)
    came = delivery(which, "1", status="pending", claimed_by="host:1:ab", next_attempt_at=until)
    await world.add(came)
    explained = await world.ask(came.id)
    assert explained.verdict.cause == "waiting"
    assert ("is being worked on" in explained.verdict.summary) is not over
