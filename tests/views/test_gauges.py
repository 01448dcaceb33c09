"""What Prometheus is told beyond the receiver: consumer, outbox, budget, fleet."""

import re
from datetime import timedelta

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig, Configuration
from linekeeper.consumer.alive import beat
from linekeeper.makini.budget import new_bucket
from linekeeper.store import Store
from linekeeper.store.leases import TOKENS, acquire
from linekeeper.store.tables import (
    AppState,
    Connection,
    Customer,
    Incident,
    Outbox,
    ReceiverHeartbeat,
    WebhookEvent,
)
from linekeeper.views.gauges import down, exposition, read_gauges

NOW = utcnow()


def figures(text: bytes) -> dict[str, float]:
    """`name{labels}` → its figure."""
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


async def test_an_empty_database_has_figures(store: Store) -> None:
    found = figures(exposition(await read_gauges(store, Configuration(), now=NOW)))
    assert found["linekeeper_up"] == 1
    assert found["linekeeper_reconnects_open"] == 0
    assert any(name.startswith("linekeeper_build_info{") for name in found)


async def test_consumer_outbox_budget_and_fleet_are_told_by_app_and_channel(store: Store) -> None:
    bucket = new_bucket(600, NOW)
    async with store.write() as session:
        customer = Customer(name="A", slug="a")
        session.add(customer)
        await session.flush()
        session.add_all(
            [
                Connection(
                    app="default",
                    makini_key="k",
                    customer_id=customer.id,
                    name="n",
                    slug="n",
                    provider="sap",
                    setup="live",
                    health="unreachable",
                    last_checked_at=NOW - timedelta(minutes=5),
                ),
                Incident(kind="unreachable", scope="app", cause="c", app="default", title="t"),
                Outbox(
                    channel="slack",
                    dedupe_key="a",
                    ordering_key="l",
                    created_at=NOW - timedelta(minutes=2),
                ),
                Outbox(channel="slack", dedupe_key="b", ordering_key="l", status="dead"),
                Outbox(
                    channel="run",
                    dedupe_key="later",
                    ordering_key="later",
                    created_at=NOW - timedelta(minutes=27),
                    due_at=NOW + timedelta(minutes=7),
                ),
                Outbox(
                    channel="email",
                    dedupe_key="due",
                    ordering_key="due",
                    created_at=NOW - timedelta(days=1),
                    due_at=NOW - timedelta(seconds=3),
                ),
                Outbox(channel="slack", dedupe_key="c", ordering_key="l", status="sent"),
                ReceiverHeartbeat(receiver="one", since=NOW, at=NOW),
                ReceiverHeartbeat(receiver="old", since=NOW, at=NOW - timedelta(hours=1)),
                WebhookEvent(
                    app="default",
                    delivery_key="d",
                    kind="x",
                    ordering_key="l",
                    received_at=NOW - timedelta(seconds=90),
                ),
                AppState(
                    app="default",
                    budget={
                        "tokens": bucket.tokens,
                        "at": NOW.isoformat(),
                        "blocked_until": (NOW + timedelta(seconds=30)).isoformat(),
                    },
                    last_list_at=NOW - timedelta(minutes=4),
                ),
            ]
        )
    configuration = Configuration(apps={"default": AppConfig()})
    found = figures(exposition(await read_gauges(store, configuration, now=NOW)))
    assert {
        name: found[name]
        for name in (
            'linekeeper_connections{app="default",health="unreachable"}',
            'linekeeper_incidents_open{kind="unreachable",status="open"}',
            'linekeeper_outbox_pending{channel="slack"}',
            'linekeeper_outbox_oldest_seconds{channel="slack"}',
            'linekeeper_outbox_oldest_seconds{channel="email"}',
            'linekeeper_outbox_planned{channel="run"}',
            'linekeeper_outbox_dead{channel="slack"}',
            'linekeeper_events_pending{app="default"}',
            'linekeeper_budget_blocked_seconds{app="default"}',
            'linekeeper_budget_per_minute{app="default"}',
            'linekeeper_list_age_seconds{app="default"}',
            'linekeeper_check_age_seconds{app="default"}',
            "linekeeper_receivers",
        )
    } == {
        'linekeeper_connections{app="default",health="unreachable"}': 1,
        'linekeeper_incidents_open{kind="unreachable",status="open"}': 1,
        'linekeeper_outbox_pending{channel="slack"}': 1,
        'linekeeper_outbox_oldest_seconds{channel="slack"}': 120,
        'linekeeper_outbox_oldest_seconds{channel="email"}': 3,
        'linekeeper_outbox_planned{channel="run"}': 1,
        'linekeeper_outbox_dead{channel="slack"}': 1,
        'linekeeper_events_pending{app="default"}': 1,
        'linekeeper_budget_blocked_seconds{app="default"}': 30,
        'linekeeper_budget_per_minute{app="default"}': 600,
        'linekeeper_list_age_seconds{app="default"}': 240,
        'linekeeper_check_age_seconds{app="default"}': 300,
        "linekeeper_receivers": 1,
    }
    assert 'linekeeper_outbox_pending{channel="run"}' not in found
    assert 'linekeeper_outbox_oldest_seconds{channel="run"}' not in found


async def test_every_figure_has_a_help_and_a_unit_in_its_name_where_it_has_one(
    store: Store,
) -> None:
    text = exposition(await read_gauges(store, Configuration(), now=NOW)).decode()
    names = re.findall(r"^# HELP (\S+) \S", text, re.M)
    assert len(names) == len(set(names)) > 15
    assert all(name.startswith("linekeeper_") for name in names)
    assert figures(down()) == {"linekeeper_up": 0}


async def test_leases_are_counted_by_what_they_are_for(store: Store) -> None:
    """One figure for each connection would be a new time series for each, for good."""
    await beat(store, "consumer 1")
    for number in range(3):
        await acquire(store, TOKENS, "a", subject=f"connection {number}", seconds=60, now=NOW)
    await acquire(store, "health-sweep", "a", seconds=60, now=NOW)
    found = figures(exposition(await read_gauges(store, Configuration(), now=NOW)))
    held = {name: figure for name, figure in found.items() if "lease" in name}
    assert held == {
        'linekeeper_lease_held{name="health-sweep"}': 1,
        'linekeeper_lease_held{name="token"}': 3,
    }
    assert found["linekeeper_consumers"] == 1
