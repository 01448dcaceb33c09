"""Causes planted among many records and events: the right hop every time, on both databases."""

from datetime import timedelta

import pytest

from benchmarks.crowd import CONFIGURATION, delivery, fill, id_at, write
from benchmarks.explain import measure
from linekeeper.clock import utcnow
from linekeeper.explain.deliveries import SEARCHED
from linekeeper.explain.service import explain
from linekeeper.store import Store
from linekeeper.store.tables import WebhookEvent


async def test_every_planted_cause_is_found_in_a_small_crowd(store: Store) -> None:
    found = await measure(store, rows=6_000, count=56)
    assert found.wrong == []


async def test_a_delivery_behind_thousands_of_newer_ones_is_found(store: Store) -> None:
    now = utcnow()
    crowd = await fill(store, rows=600, now=now)
    own = crowd.connections[7]
    rows = []
    for number in range(SEARCHED + 2):
        at = now - timedelta(days=1) + timedelta(seconds=number)
        dead = {"status": "dead" if number == 0 else "processed", "error": "planted"}
        event = {"id": id_at(at), "delivery_key": f"many-{number}"}
        rows.append(delivery(own["id"], ["first" if number == 0 else "other"], at) | event | dead)
    await write(store, WebhookEvent, rows)
    found = await explain(store, CONFIGURATION, f"{own['name']} first", now=now)
    assert found.verdict.cause == "dead"


@pytest.mark.soak
async def test_every_planted_cause_is_found_among_a_million(store: Store) -> None:
    found = await measure(store, rows=1_000_000, count=200)
    print(f"200 causes among 1,000,000 rows: p95 {found.p95():.1f} ms")
    assert found.wrong == []
