"""`linekeeper status`: the glance itself, and how it is shown."""

import json
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from linekeeper.config import AppConfig, Configuration, SlackConfig
from linekeeper.outbox.queue import Message, claim, enqueue, outbox_of
from linekeeper.outbox.sender import End, Retry, end, schedule_retry
from linekeeper.store import Store, new_id
from linekeeper.store.tables import (
    AppState,
    Connection,
    Credential,
    Customer,
    Incident,
    IncidentConnection,
    Lease,
    Outbox,
)
from linekeeper.views.glance import glance
from tests.cli.commands import CommandLine

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
CONFIGURED = Configuration(apps={"default": AppConfig(mode="manage")})
SLACK = SlackConfig(bot_token=SecretStr("xoxb"), channel="ops")


async def test_the_fleet_is_counted_on_both_axes(store: Store) -> None:
    await _fleet(store)
    seen = await glance(store, CONFIGURED, now=NOW)
    assert (seen.connections, seen.customers, seen.without_token) == (3, 1, 2)
    assert seen.health == {"healthy": 2, "unreachable": 1}
    assert seen.setup == {"disconnected": 1, "live": 3}
    assert seen.apps["default"].mode == "manage"
    assert seen.apps["default"].last_list_at == NOW - timedelta(minutes=1)
    assert seen.apps["default"].last_check_at == NOW - timedelta(minutes=2)


async def test_an_open_incident_names_who_is_in_it_and_a_closed_one_is_gone(store: Store) -> None:
    await _fleet(store)
    seen = await glance(store, CONFIGURED, now=NOW)
    (incident,) = seen.incidents
    assert (incident.kind, incident.members, seen.open_incidents) == ("unreachable", 1, 1)
    assert incident.connections == ("Acme · SAP ECC",)


async def test_what_waits_and_what_was_given_up_is_counted_per_channel(store: Store) -> None:
    async with store.write() as session:
        await enqueue(store, session, [Message("slack", f"k{n}") for n in range(3)], now=NOW)
        await enqueue(store, session, [Message("event", "e")], now=NOW)
    slack, events = outbox_of("slack"), outbox_of("event")
    tried = await claim(store, slack, "me", limit=1, now=NOW)
    sent = await claim(store, events, "me", limit=1, now=NOW)
    async with store.write() as session:
        again = [Retry(tried.rows[0]["id"], NOW, "channel_not_found")]
        await schedule_retry(session, slack, tried.token, again)
        await end(session, events, sent.token, [End(sent.rows[0]["id"], "sent")], now=NOW)
    seen = await glance(store, CONFIGURED, now=NOW)
    assert list(seen.outbox) == ["slack"]
    assert (seen.outbox["slack"].pending, seen.outbox["slack"].dead) == (3, 0)
    assert seen.outbox["slack"].oldest_pending_at == NOW
    assert seen.outbox["slack"].last_error == "channel_not_found"


async def test_what_is_planned_for_later_is_no_backlog_and_what_is_tried_again_is(
    store: Store,
) -> None:
    soon = NOW + timedelta(minutes=30)
    async with store.write() as session:
        messages = [
            Message("run", "far", not_before=NOW + timedelta(hours=2)),
            Message("run", "soon", not_before=soon),
            Message("email", "monday", not_before=NOW + timedelta(days=2)),
            Message("slack", "now"),
        ]
        await enqueue(store, session, messages, now=NOW)
    seen = await glance(store, CONFIGURED, now=NOW + timedelta(minutes=27))
    assert {channel: (each.pending, each.planned) for channel, each in seen.outbox.items()} == {
        "email": (0, 1),
        "run": (0, 2),
        "slack": (1, 0),
    }
    assert seen.outbox["run"].oldest_pending_at is None
    late = soon + timedelta(minutes=5)
    work = outbox_of("run")
    held = await claim(store, work, "me", limit=1, now=late)
    seen = await glance(store, CONFIGURED, now=late)
    assert (seen.outbox["run"].pending, seen.outbox["run"].oldest_pending_at) == (1, soon)
    async with store.write() as session:
        retry = Retry(held.rows[0]["id"], late + timedelta(minutes=10), "Prefect is away")
        await schedule_retry(session, work, held.token, [retry])
    seen = await glance(store, CONFIGURED, now=late)
    assert (seen.outbox["run"].pending, seen.outbox["run"].planned) == (1, 1)
    assert seen.outbox["run"].oldest_pending_at == soon


async def test_without_slack_it_shows_what_would_have_been_sent(store: Store) -> None:
    async with store.write() as session:
        session.add_all(
            Outbox(
                channel="slack",
                dedupe_key=f"k{n}",
                ordering_key=f"k{n}",
                status="skipped",
                settled_at=NOW + timedelta(seconds=n),
                error=f"number {n}",
            )
            for n in range(12)
        )
    seen = await glance(store, Configuration(slack=None), now=NOW)
    assert seen.slack_configured is False
    assert seen.unsent[:2] == ("number 11", "number 10")
    assert len(seen.unsent) == 10
    assert (await glance(store, Configuration(slack=SLACK), now=NOW)).slack_configured


async def test_a_lease_that_ran_out_is_not_shown(store: Store) -> None:
    async with store.write() as session:
        session.add(Lease(name="sweep:default", owner="a", until=NOW + timedelta(seconds=5)))
        session.add(Lease(name="old", owner="b", until=NOW))
    seen = await glance(store, CONFIGURED, now=NOW)
    assert [lease.name for lease in seen.leases] == ["sweep:default"]


async def test_its_json_is_plain_and_its_keys_stay(store: Store) -> None:
    await _fleet(store)
    plain = json.loads(json.dumps((await glance(store, CONFIGURED, now=NOW)).as_json()))
    assert sorted(plain) == [
        "apps",
        "at",
        "connections",
        "customers",
        "evidence",
        "health",
        "incidents",
        "leases",
        "mode_rules",
        "open_incidents",
        "outbox",
        "records",
        "setup",
        "slack_configured",
        "unsent",
        "webhooks",
        "windows",
        "without_token",
    ]
    assert plain["at"] == "2027-03-01T12:00:00+00:00"
    assert plain["incidents"][0]["opened_at"] == "2027-03-01T11:00:00+00:00"


def test_an_empty_installation_says_what_to_do_next(command: CommandLine) -> None:
    command.migrated()
    said = command("status")
    assert said.code == 0
    assert "no Makini is configured" in said.out
    assert "Slack is not configured" in said.out
    assert json.loads(command("status", "--json").out)["connections"] == 0


async def _fleet(store: Store) -> None:
    """Three connections of one customer (one in trouble), and a fourth that is gone."""
    customer = Customer(name="Acme", slug="acme")
    connections = [
        Connection(
            app="default",
            makini_key=str(n),
            customer_id=customer.id,
            name=f"Acme - {n}",
            slug=f"acme-{n}",
            provider="SAP ECC",
            setup="disconnected" if n == 3 else "live",
            health="unreachable" if n == 0 else "healthy",
            last_checked_at=NOW - timedelta(minutes=2 + n),
        )
        for n in range(4)
    ]
    incidents = [
        Incident(
            id=new_id(),
            kind="unreachable",
            scope="connection",
            cause=f"connection:{n}",
            app="default",
            title="Acme · SAP ECC can't be reached",
            opened_at=NOW - timedelta(hours=1),
            resolved_at=resolved,
            status="resolved" if resolved else "open",
        )
        for n, resolved in enumerate((None, NOW))
    ]
    async with store.write() as session:
        session.add(customer)
        await session.flush()
        session.add_all([*connections, *incidents])
        session.add(AppState(app="default", last_list_at=NOW - timedelta(minutes=1)))
        await session.flush()
        session.add(Credential(connection_id=connections[0].id, access_token="x"))
        session.add(
            IncidentConnection(
                incident_id=incidents[0].id, connection_id=connections[0].id, kind="unreachable"
            )
        )
