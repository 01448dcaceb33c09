"""The Prefect UI as the operator's desk: from a red run to a connection that is well again.

With `SCREENSHOTS=docs/images` the pages on the way are kept there, as the docs show
them.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from sqlmodel import col, select

from linekeeper.store.tables import Audit, Connection, Customer, Incident, IncidentConnection
from tests.e2e.conftest import House, until
from tests.newest_runs import newest_runs

IMAGES = os.environ.get("SCREENSHOTS")


async def _keep(page: Page, name: str) -> None:
    """A picture of the page for the docs, if they are wanted."""
    if IMAGES:
        await page.wait_for_timeout(1_500)  # charts and tables draw themselves
        await page.screenshot(path=Path(IMAGES) / f"{name}.png", scale="css")


async def _victim(house: House) -> tuple[Connection, str]:
    """A connection that is well, and what people call it."""
    async with house.store() as store, store.read() as session:
        row = (
            await session.execute(
                select(Connection, Customer.name)
                .join(Customer, col(Customer.id) == col(Connection.customer_id))
                .where(col(Connection.setup) == "live", col(Connection.health) == "healthy")
                .order_by(col(Connection.makini_key).desc())
                .limit(1)
            )
        ).one()
    return row[0], row[1]


async def _incident(house: House, connection_id: str) -> Incident:
    async with house.store() as store, store.read() as session:
        found = await session.scalar(
            select(Incident)
            .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
            .where(
                col(IncidentConnection.connection_id) == connection_id,
                col(IncidentConnection.left_at).is_(None),
            )
        )
    assert found is not None
    return found


async def _open_artifact(house: House, page: Page, key: str) -> None:
    """From the page a link leads to, its one version."""
    await page.goto(f"{house.url('prefect')}/artifacts/key/{key}")
    await page.locator("a[href*='/artifacts/artifact/']").first.click()
    await expect(page).to_have_url(re.compile("/artifacts/artifact/"))


async def _submit(house: House, page: Page, flow: str, *, path: str | None = None) -> Any:
    """Press Submit on a form (`path`: one a link filled in); returns the run, ended."""
    async with house.prefect() as client:
        deployment = await client.read_deployment_by_name(f"{flow}/{flow}")
        before = {run.id for run in await newest_runs(client)}
    if path is None:
        await page.goto(f"{house.url('prefect')}/deployments/deployment/{deployment.id}/run")
    else:
        await page.goto(path)

    async def begun() -> Any:
        return [
            run
            for run in await house.runs()
            if run.id not in before and run.deployment_id == deployment.id
        ]

    await expect(page.get_by_role("button", name="Submit")).to_be_enabled()
    if flow == "check-connection":
        await _keep(page, "form-check-connection")
    await page.get_by_role("button", name="Submit").click()
    [run] = await until(begun, what=f"the run of {flow} to be created")
    await page.goto("about:blank")  # its page asks and draws all the time
    return await house.ended(run.id)


async def _shown_in_slack(house: House, page: Page, words: re.Pattern[str]) -> None:
    """Until the sandbox's page of Slack's messages has the words."""

    async def shown() -> bool:
        await page.goto(f"{house.url('sandbox')}/slack")
        return await page.get_by_text(words).count() > 0

    await until(shown, what=f"{words.pattern} in Slack")


@pytest.mark.e2e
@pytest.mark.repeats(
    "flows/test_sweep_flow.py::test_red_means_new",
    "health/test_report.py::test_links_lead_to_the_artifact_and_to_the_filled_in_form",
    "flows/test_reconnect_forms.py::test_an_incident_is_acknowledged_and_snoozed_by_somebody",
    "flows/test_sweep_flow.py::test_one_connection_is_checked_by_any_of_its_names",
)
async def test_an_operator_goes_from_a_failed_run_to_the_cause_takes_it_and_checks_again(
    house: House, page: Page
) -> None:
    connection, customer = await _victim(house)
    await house.control("webhooks", drop=1.0)  # the sweep is to find it by itself
    await house.control(f"connections/{connection.makini_key}/change-credentials")
    red = await _submit(house, page, "health-sweep")
    assert red.state is not None
    assert red.state.name == "Failed"
    ui = house.url("prefect")

    # Failed runs: the sweep that is red is there by its name, and leads to its connection.
    await page.goto(f"{ui}/runs?state=Failed")
    link = page.get_by_role("link", name=re.compile(r"sweep · 1 new")).first
    await expect(link).to_be_visible()
    await _keep(page, "failed-runs")
    await link.click()
    await expect(page.get_by_text(customer).first).to_be_visible()
    await _keep(page, "red-sweep")

    # Slack has a message about it.
    await _shown_in_slack(house, page, re.compile(re.escape(customer)))

    # Its artifact says what is known; a link there opens the form of a check, filled in.
    await _open_artifact(house, page, f"connection-{connection.slug}")
    check = page.get_by_role("link", name=re.compile("check", re.I)).first
    await expect(check).to_be_visible()
    await _keep(page, "connection-artifact")
    filled = str(await check.evaluate("link => link.href"))
    assert "parameters=" in filled

    incident = await _incident(house, connection.id)
    async with house.prefect() as client:
        taking = await client.read_deployment_by_name("acknowledge/acknowledge")
    answer = f"%7B%22incident%22%3A%22{incident.id}%22%2C%22by%22%3A%22Petra%22%7D"
    form = f"{ui}/deployments/deployment/{taking.id}/run?parameters={answer}"
    taken = await _submit(house, page, "acknowledge", path=form)
    assert taken.state is not None
    assert taken.state.name == "Completed", taken.state.message
    async with house.store() as store, store.read() as session:
        [entry] = await session.scalars(select(Audit).where(col(Audit.subject) == incident.id))
        assert (entry.by, entry.action) == ("Petra", "incident.acknowledged")

    await house.control(f"connections/{connection.makini_key}/restore-credentials")
    checked = await _submit(house, page, "check-connection", path=filled)
    assert checked.state is not None
    assert checked.state.name == "Completed", checked.state.message
    await page.goto(f"{ui}/runs/flow-run/{checked.id}")
    await expect(page.get_by_text(re.compile(r"check · .* · Healthy")).first).to_be_visible()

    async def over() -> bool:
        async with house.store() as store, store.read() as session:
            found = await session.get_one(Incident, incident.id)
        return found.resolved_at is not None

    await until(over, what="the incident to be resolved")
    await _shown_in_slack(house, page, re.compile("resolved", re.IGNORECASE))
    await house.control("webhooks", drop=0.0)
    if IMAGES:
        await _tour(house, page)


async def _tour(house: House, page: Page) -> None:
    """The pages the docs show besides."""
    ui = house.url("prefect")
    await house.trigger("health-sweep")
    for name, path in (
        ("deployments", "deployments"),
        ("automations", "automations"),
    ):
        await page.goto(f"{ui}/{path}")
        await page.wait_for_load_state("networkidle")
        await _keep(page, name)
    for key in ("fleet", "audit"):
        await _open_artifact(house, page, key)
        await _keep(page, key)
    await page.goto(f"{house.url('sandbox')}/slack")
    await _keep(page, "slack")


@pytest.mark.e2e
async def test_every_form_says_what_it_does_and_what_each_field_takes(house: House) -> None:
    async with house.prefect() as client:
        deployments = await client.read_deployments()
        failing = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(name=FlowRunFilterName(like_="no app"))
        )
    assert not failing
    for deployment in deployments:
        assert "**" in (deployment.description or ""), deployment.name
        assert "linekeeper" in deployment.tags, deployment.name
        assert deployment.work_queue_name in {"urgent", "routine", "bulk"}, deployment.name
        for name, field in deployment.parameter_openapi_schema.get("properties", {}).items():
            assert field.get("title"), (deployment.name, name)
