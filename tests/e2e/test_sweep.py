"""A login is lost and mended, as an operator sees it in the Prefect UI."""

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.e2e.conftest import House, until
from tests.newest_runs import newest_runs


async def _connection(house: House, status: str = "live") -> Any:
    from sqlmodel import col, select

    from linekeeper.store.tables import Connection, Customer

    async with house.store() as store, store.read() as session:
        return (
            await session.execute(
                select(Connection, Customer)
                .join(Customer, col(Customer.id) == col(Connection.customer_id))
                .where(col(Connection.setup) == status, col(Connection.health) == "healthy")
                .order_by(col(Connection.makini_key))
                .limit(1)
            )
        ).one_or_none()


async def _sweep_from_its_form(house: House, page: Page) -> str:
    """Press Submit on the form of `health-sweep`; returns the address of the run's page."""
    async with house.prefect() as client:
        deployment = await client.read_deployment_by_name("health-sweep/health-sweep")
        before = {run.id for run in await newest_runs(client)}

    async def begun() -> Any:
        return [run for run in await house.runs() if run.id not in before] or None

    async def pressed() -> Any:
        address = f"{house.url('prefect')}/deployments/deployment/{deployment.id}/run"
        await page.goto(address, wait_until="networkidle")
        await page.get_by_role("button", name="Submit").click()
        try:
            return await until(begun, seconds=20)
        except TimeoutError:  # the page had not loaded to its end: the press went nowhere
            return None

    [run, *_] = await until(pressed, seconds=120, what="the run to be created")
    run = await house.ended(run.id)
    assert run.state is not None
    return f"{house.url('prefect')}/runs/flow-run/{run.id}"


@pytest.mark.e2e
async def test_a_lost_login_is_a_red_run_an_incident_and_a_message_and_mends(
    house: House, page: Page
) -> None:
    await _sweep_from_its_form(house, page)
    connection, customer = await _connection(house)
    named = f"{customer.name} · {connection.name}"

    await house.control("webhooks", drop=1.0)  # the sweep is to find it by itself
    await house.control(f"connections/{connection.makini_key}/change-credentials")
    run = await _sweep_from_its_form(house, page)
    await page.goto(run)
    await expect(page.get_by_text(re.compile(r"sweep · 1 new")).first).to_be_visible()
    await expect(page.get_by_text(customer.name).first).to_be_visible()

    await page.goto(f"{house.url('prefect')}/runs?state=Failed")
    await expect(page.get_by_text(re.compile(r"sweep · 1 new")).first).to_be_visible()

    slack = f"{house.url('sandbox')}/slack"

    async def told() -> Any:
        await page.goto(slack)
        return await page.get_by_text(customer.name).count() or None

    await until(told, what=f"a message about {named}")

    await house.control(f"connections/{connection.makini_key}/restore-credentials")
    run = await _sweep_from_its_form(house, page)

    async def resolved() -> Any:
        await page.goto(slack)
        return await page.get_by_text(re.compile("resolved|mended|well again", re.I)).count()

    await until(resolved, what="the message to turn green")
    await page.goto(run)
    well = re.compile(r"sweep · (all healthy|\d+ known)")
    await expect(page.get_by_text(well).first).to_be_visible()
    await house.control("webhooks", drop=0.0)
