"""An outage, planned work and the digest, as operators meet them in Slack and in the Prefect UI."""

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from sqlmodel import col, select

from linekeeper.store.tables import Connection, Customer, Silence
from tests.e2e.conftest import House, until
from tests.health.test_sweep import sweep

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PROVIDER = "UpKeep"


async def _fleet(house: House) -> list[tuple[Connection, Customer]]:
    async with house.store() as store, store.read() as session:
        rows = await session.execute(
            select(Connection, Customer)
            .join(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(col(Connection.setup) == "live", col(Connection.health) == "healthy")
            .order_by(col(Connection.makini_key))
        )
        return [(row[0], row[1]) for row in rows]


async def _window_from_its_form(house: House, page: Page, customer: str) -> None:
    """Fill in the form of `maintenance-window` for `customer` and press Submit."""
    async with house.prefect() as client:
        found = await client.read_deployment_by_name("maintenance-window/maintenance-window")
    parameters = f'{{"scope":"customer","subject":"{customer}","by":"Petra","hours":1}}'
    await page.goto(
        f"{house.url('prefect')}/deployments/deployment/{found.id}/run?parameters={parameters}"
    )
    await page.get_by_role("button", name="Submit").click()

    async def begun() -> Any:
        async with house.store() as store, store.read() as session:
            return await session.scalar(select(Silence).limit(1))

    await until(begun, what="the window")
    await page.goto("about:blank")  # its page asks and draws all the time


@pytest.mark.repeats(
    "health/test_sweep.py::test_a_provider_that_fails_is_one_incident",
    "notify/test_evaluate.py::test_maintenance_is_recorded_and_not_announced",
    "flows/test_alert_flows.py::test_a_window_is_begun_and_ended_by_the_form",
    "flows/test_alert_flows.py::test_the_digest_is_said_once_a_day_and_kept_as_an_artifact",
)
async def test_an_outage_is_one_message_planned_work_is_none_and_the_digest_tells_of_both(
    house: House, page: Page
) -> None:
    fleet = await _fleet(house)
    hit = [connection for connection, _ in fleet if connection.provider == PROVIDER]
    assert len(hit) >= 5, [connection.provider for connection, _ in fleet]
    owners = {customer.id for connection, customer in fleet if connection.provider == PROVIDER}
    planned, customer = next(
        (connection, whose)
        for connection, whose in fleet
        if whose.id not in owners and sum(other.id == whose.id for _, other in fleet) == 1
    )
    await _window_from_its_form(house, page, customer.name)
    before = len(await house.slack())
    keys = [connection.makini_key for connection in [*hit, planned]]
    await house.control("webhooks", drop=1.0)
    try:
        for key in keys:
            await house.control(f"connections/{key}/go-offline")
        async with house.core() as rt:
            for _ in range(3):
                await sweep(rt)

        async def notified() -> Any:
            return (await house.slack())[before:] or None

        [message] = await until(notified, what="the one message of the outage")
        assert f"{PROVIDER} · {len(hit)} connections" in message["text"]
        assert all(customer.name not in str(m) for m in (await house.slack())[before:])
        await page.goto(f"{house.url('sandbox')}/slack")
        shown = page.get_by_text(re.compile(rf"{PROVIDER} · {len(hit)} connections")).first
        await expect(shown).to_be_visible()

        run = await house.trigger("digest")
        assert run.state is not None
        assert "2 new incidents" in (run.state.message or "")
        [digest] = [m for m in (await house.slack())[before:] if "Digest" in m["text"]]
        assert "(not announced)" not in digest["text"]  # its end is not known yet
    finally:
        for key in keys:
            await house.control(f"connections/{key}/come-online")
        await house.control("webhooks", drop=0.0)
    async with house.core() as rt:
        await sweep(rt)

    async def green() -> Any:
        [message, *_] = (await house.slack())[before:]
        return "resolved" in message["text"] or None

    await until(green, what="the message to turn green")
    async with house.prefect() as client:
        [artifact] = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["digest"]))
        )
    await page.goto(f"{house.url('prefect')}/artifacts/artifact/{artifact.id}")
    await expect(page.get_by_text("How well alerts work").first).to_be_visible(timeout=30_000)
    chart = page.locator("img[src^='data:image/svg+xml']").first
    await expect(chart).to_be_visible(timeout=30_000)
