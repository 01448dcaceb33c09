"""Webhooks get lost; the next run makes the index right and says how many were missed."""

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from sqlmodel import col, func, select

from linekeeper.reconcile.run import reconcile
from linekeeper.store.tables import Drift, WebhookEvent
from tests.e2e.conftest import House, until
from tests.reconcile.conftest import ENTITIES, index_of, parsed


async def _truth(house: House) -> dict[str, Any]:
    answer = await house.http.get(f"{house.url('sandbox')}/_control/truth")
    return dict(answer.json())


@pytest.mark.e2e
@pytest.mark.repeats(
    "flows/test_reconcile_flows.py::test_a_run_recovers_what_was_missed_and_says_so_in_name_table_chart_and_one_line"
)
async def test_the_next_run_makes_the_index_right_and_tells_the_miss_rate(
    house: House, page: Page
) -> None:
    async with house.core() as rt:
        await reconcile(rt)

    await house.control("webhooks", drop=0.3)
    await house.control("records", change=700, per_webhook=1)

    async def settled() -> bool:
        if (await _truth(house))["webhooks_outstanding"]:
            return False
        async with house.store() as store, store.read() as session:
            waiting = await session.scalar(
                select(func.count())
                .select_from(WebhookEvent)
                .where(col(WebhookEvent.status) == "pending")
            )
        return waiting == 0

    await until(settled, what="every webhook to be applied")
    await house.control("webhooks", drop=0.0)
    truth = await _truth(house)
    sent = [one for one in truth["webhooks"] if one["keys"] and one["fate"] != "unannounced"]
    dropped = sum(one["dropped"] for one in sent) / len(sent)
    assert 0.2 < dropped < 0.4

    run = await house.trigger("reconcile")
    assert run.state is not None
    assert run.state.is_completed(), run.state.message
    wanted = {
        connection: {entity: times for entity, times in found.items() if entity in ENTITIES}
        for connection, found in truth["records"].items()
        if truth["states"][connection] not in ("pending", "inactive")
    }
    async with house.store() as store:
        index = await index_of(store)
    assert index == {
        connection: {entity: times for entity, times in found.items() if times}
        for connection, found in parsed(wanted).items()
    }, run.state.message

    async with house.store() as store, store.read() as session:
        missed, late, seen = (
            await session.execute(
                select(
                    func.sum(col(Drift.missed)),
                    func.sum(col(Drift.late)),
                    func.sum(col(Drift.webhooks_seen)),
                )
            )
        ).one()
        lost, announced = (
            await session.execute(
                # What changed at a system that was away is held against nobody, here as there.
                select(func.sum(col(Drift.missed)), func.sum(col(Drift.webhooks_seen))).where(
                    col(Drift.cause).is_(None)
                )
            )
        ).one()
    assert late == 0
    assert abs(missed / (missed + seen) - dropped) < 0.02

    said = [str(row) for row in await house.slack() if "can't be trusted" in str(row)]
    assert len(said) == 1

    async with house.prefect() as client:
        [artifact] = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["webhook-trust"]))
        )
    await page.goto(f"{house.url('prefect')}/artifacts/artifact/{artifact.id}")
    rate = re.compile(rf"{lost / (lost + announced):.1%}")
    await expect(page.get_by_text(rate).first).to_be_visible(timeout=30_000)
    await expect(page.locator("table th", has_text=rate).first).to_be_visible(timeout=30_000)
    picture = page.locator("img[src^='data:image/svg+xml']").first
    await expect(picture).to_be_visible(timeout=30_000)
    assert await picture.evaluate("image => image.naturalWidth") > 500
    await page.goto(f"{house.url('prefect')}/runs/flow-run/{run.id}")
    name = page.get_by_text(re.compile("reconcile · 2. read")).first
    await expect(name).to_be_visible(timeout=30_000)
