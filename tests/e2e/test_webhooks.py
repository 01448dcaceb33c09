"""Webhooks dropped, repeated, out of order and forged: what the operator and the product see."""

import asyncio
import json
import os
import re
import sqlite3
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.reconcile.run import reconcile
from linekeeper.store.tables import Connection, Customer, DeliveryCount, WebhookEvent
from tests.e2e.conftest import PRODUCT_SECRET, ROOT, House, until

ENTITY = "eam/assets"
SHARE = 1 / 3


class Sample:
    """`docs/samples/webhook_receiver.py`, running."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def received(self) -> list[tuple[str, dict[str, Any]]]:
        """Id and body of each message, in the order of arrival."""
        with sqlite3.connect(self._file) as database:
            rows = database.execute("SELECT id, body FROM received ORDER BY rowid").fetchall()
        database.close()
        return [(identity, json.loads(body)) for identity, body in rows]


@pytest.fixture
async def sample(house: House, tmp_path: Path) -> AsyncIterator[Sample]:
    """The sample product, where the house hands on to."""
    file = tmp_path / "received.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "docs/samples/webhook_receiver.py"),
        str(house.ports["product"]),
        str(file),
        env={**os.environ, "FORWARD_SECRET": PRODUCT_SECRET},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    yield Sample(file)
    process.terminate()
    await process.wait()


async def _healthy(house: House, count: int) -> list[tuple[Connection, Customer]]:
    async with house.store() as store, store.read() as session:
        rows = await session.execute(
            select(Connection, Customer)
            .join(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(col(Connection.setup) == "live", col(Connection.health) == "healthy")
            .order_by(col(Connection.makini_key).desc())
            .limit(count)
        )
        return [(row[0], row[1]) for row in rows]


async def _events(house: House, since: Any) -> list[WebhookEvent]:
    async with house.store() as store, store.read() as session:
        rows = select(WebhookEvent).where(col(WebhookEvent.received_at) >= since)
        return list(await session.scalars(rows))


@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.repeats(
    "inbox/process/test_kills.py::test_three_kills_lose_nothing_and_repeat_nothing",
    "flows/test_webhook_flows.py::test_the_net_applies_what_is_left_and_is_red_once_for_each_dead_event",
    "docs/test_webhook_sample.py::test_it_keeps_what_is_genuine_once_and_refuses_the_rest",
)
async def test_spoilt_webhooks_reach_the_product_all_the_same_and_the_story_is_told(
    house: House, page: Page, sample: Sample
) -> None:
    fleet = await until(lambda: _healthy(house, 7), what="a fleet that is well")
    keys = [connection.makini_key for connection, _ in fleet]
    broken, customer = fleet[0]
    ids = [connection.id for connection, _ in fleet[1:]]
    async with house.core() as rt:
        await reconcile(rt, connections=ids, entities=[ENTITY])
    since = utcnow()

    # One that makes no sense, one that comes twice, one that says that a login is lost.
    send = "webhooks/send"
    senseless = {"id": "moon-1", "event": "moon.rising", "connection_id": keys[1]}
    await house.control(send, body=senseless)
    await house.control("webhooks", duplicate=1.0)
    said = {"id": "twice-1", "type": "sync.completed", "connection_id": keys[2]}
    await house.control(send, body=said)
    await house.control(f"connections/{keys[0]}/change-credentials")
    # And a third of everything is lost, repeated, late.
    await house.control("webhooks", drop=SHARE, duplicate=SHARE, reorder=SHARE, forge=SHARE)
    changed: dict[str, set[str]] = {}
    for connection, _ in fleet[1:]:
        made = await house.control(
            "records",
            connection=connection.makini_key,
            entity=ENTITY,
            make=5,
            change=5,
            per_webhook=1,
        )
        [lists] = made["records"][connection.makini_key].values()
        changed[connection.id] = {*lists["made"], *lists["changed"]}

    async def delivered() -> bool:
        truth = await house.http.get(
            f"{house.url('sandbox')}/_control/truth", params={"records": "0"}
        )
        waiting = [event for event in await _events(house, since) if event.status == "pending"]
        return not truth.json()["webhooks_outstanding"] and not waiting

    await until(delivered, what="all webhooks to be delivered and applied")

    async def counted() -> bool:
        async with house.store() as store, store.read() as session:
            causes = set(await session.scalars(select(col(DeliveryCount.cause))))
        return {"bad_signature", "duplicate"} <= causes

    await until(counted, what="what the receiver counts, which it writes every ten seconds")
    await house.control("webhooks", drop=0.0, duplicate=0.0, reorder=0.0, forge=0.0)
    async with house.core() as rt:
        await reconcile(rt, connections=ids, entities=[ENTITY])
    run = await house.trigger("process-webhooks")
    assert run.state is not None

    # The product: each event once under its id, and each change, also those that were dropped.
    events = await _events(house, since)
    keyed = [event.delivery_key for event in events if not event.delivery_key.startswith("content")]
    assert len(keyed) == len(set(keyed))

    async def everything() -> bool:
        return {event.id for event in events} <= {identity for identity, _ in sample.received()}

    await until(everything, seconds=90, what="the product to get each event")

    async def every_change() -> bool:
        notified: defaultdict[str, set[str]] = defaultdict(set)
        for _, body in sample.received():
            notified[body["data"]["connection"]].update(body["data"].get("keys", ()))
        return all(keys <= notified[one] for one, keys in changed.items())

    await until(every_change, seconds=60, what="the product to get each change")
    assert any(body["data"]["recovered"] for _, body in sample.received())

    # The operator: a red run for the dead one, the artifact, the message.
    assert run.name == "webhooks · 1 newly dead"
    assert run.state.name == "Failed"
    await page.goto(f"{house.url('prefect')}/runs?state=Failed")
    await expect(page.get_by_text("webhooks · 1 newly dead").first).to_be_visible(timeout=45_000)
    await page.goto(f"{house.url('prefect')}/artifacts/key/webhooks")
    await expect(page.get_by_text(re.compile(r"processed in a day, \d+ dead")).first).to_be_visible(
        timeout=45_000
    )
    latest = await house.http.get(f"{house.url('prefect')}/api/artifacts/webhooks/latest")
    for text in ("moon.rising", "| bad signature |", "| duplicate |", "Handed on to the product"):
        assert text in latest.json()["data"]
    await page.locator("a[href*='/artifacts/artifact/']").first.click()
    await expect(page.get_by_text("moon.rising").first).to_be_visible(timeout=60_000)

    async def notified() -> bool:
        return any(customer.name in json.dumps(row) for row in await house.slack())

    await until(notified, what="a message about the lost login")
    await house.control(f"connections/{broken.makini_key}/restore-credentials")
