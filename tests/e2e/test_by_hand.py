"""An implementation by hand: every form filled in, every link followed, in the browser.

The sandbox plays the customer's Makini. `make soak` runs it.
"""

import re
import socket
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from playwright.async_api import Page, expect
from prefect.client.schemas.objects import FlowRun
from sqlmodel import col, select

from linekeeper.store.tables import Connection, Implementation
from tests.e2e.conftest import House, until
from tests.e2e.forms import add_systems, choose, field, follow, open_artifact, pick, submit, write
from tests.e2e.test_implementation import artifact, gates, is_live_as_promised, rows, says, waiting
from tests.newest_runs import newest_runs

pytestmark = [pytest.mark.e2e, pytest.mark.soak]


async def sent(house: House, page: Page, deployment: str, fill: Callable[[], Any]) -> FlowRun:
    """Fill in the form of a deployment that is open, press Submit; returns the run, ended."""
    async with house.prefect() as client:
        known = await client.read_deployment_by_name(f"{deployment}/{deployment}")
        before = {run.id for run in await newest_runs(client)}
    await expect(page.get_by_role("button", name="Submit")).to_be_visible()
    await fill()
    await submit(page)

    async def begun() -> Any:
        new = [run for run in await house.runs() if run.id not in before]
        return [run for run in new if run.deployment_id == known.id] or None

    [run] = await until(begun, what="the run to be created")
    ended = await house.settled(run.id, seconds=240)
    assert ended.state is not None
    return ended


async def nothing() -> None:
    """The form is filled in already."""


async def open_form(house: House, page: Page, deployment: str) -> None:
    """The form of a deployment, empty."""
    async with house.prefect() as client:
        known = await client.read_deployment_by_name(f"{deployment}/{deployment}")
    await page.goto(f"{house.url('prefect')}/deployments/deployment/{known.id}/run")
    await expect(page.get_by_role("button", name="Submit")).to_be_visible()


async def says_in_the_browser(house: House, page: Page, slug: str, title: str, text: str) -> None:
    """From the implementation's page to the gate that waits, and its form filled in."""
    run = await waiting(house, title)
    await open_artifact(house, page, f"implementation-{slug}", shows=str(run.id))
    await follow(page, title)
    await expect(page).to_have_url(re.compile(str(run.id)))
    await page.get_by_role("button", name="Resume").first.click()
    form = page.get_by_role("dialog")
    await write(form, "Evidence, or the reason", text)
    await write(form, "Your name", "Petra")
    await submit(form)
    ended = await house.settled(run.id, seconds=240)
    assert ended.state is not None
    assert ended.state.name == "Completed", ended.state.message
    assert ended.name.endswith("· done")


async def log_in(house: House, page: Page, customer: str, system: str, provider: str) -> None:
    """The operator gets the link from the implementation's page; the customer logs in by it."""
    await follow(page, "Get the link")

    async def by() -> None:
        await expect(field(page, "Customer").locator("textarea").first).to_have_value(customer)
        await write(page, "Your name", "Petra")

    made = await sent(house, page, "connect", by)
    assert made.state is not None
    assert made.state.name == "Completed", made.state.message
    await open_artifact(house, page, "connect-link", shows=f"{customer} · {system}")
    await follow(page, "/connect/")
    await page.locator("a[href*=authorize]").first.click()
    await page.get_by_label("System").select_option(f"new:{provider}")
    await page.get_by_label("User name").fill("it@customer.example")
    await page.get_by_label("Password").fill("right")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Done, thank you")


async def test_a_standard_implementation_goes_from_the_form_to_live(
    house: House, page: Page
) -> None:
    today, slug = date.today(), "anvil-tools-upkeep"  # noqa: DTZ011  the form's own idea of a day

    async def fill() -> None:
        await write(page, "Customer", "Anvil Tools")
        await add_systems(page, ["UpKeep"])
        await pick(page, "Kickoff", today)
        await write(page, "Your name", "Olaf")
        await pick(page, "Committed go-live", today + timedelta(days=21))
        await write(page, "Owner", "Petra Ops")

    await open_form(house, page, "implementation")
    run = await sent(house, page, "implementation", fill)
    assert run.state is not None
    assert run.state.name == "Suspended", run.state.message
    assert run.name.startswith("Anvil Tools · UpKeep · ")

    kickoff = await waiting(house, "Kickoff and technical requirements")
    assert kickoff.name == "Anvil Tools · Kickoff and technical requirements"
    assert {f"implementation:{slug}", "owner:petra-ops", "waiting:us"} <= set(kickoff.tags)
    hostile = "minutes: <b>wiki</b>/anvil $(reboot)"
    await says_in_the_browser(house, page, slug, "Kickoff and technical requirements", hostile)

    await open_artifact(house, page, f"implementation-{slug}", shows="Get the link")
    await expect(page.get_by_text(hostile)).to_be_visible()
    assert await page.locator("b", has_text="wiki").count() == 0
    await log_in(house, page, "Anvil Tools", "UpKeep", "upkeep")
    await says_in_the_browser(house, page, slug, "Basic workflow configuration", "it runs")
    [connection] = await rows(
        house, select(Connection).order_by(col(Connection.created_at).desc()).limit(1)
    )
    await house.control("records", connection=connection.makini_key, change=3)
    for lacks in ("It was not reconciled yet", "It was listed for the first time"):
        await open_artifact(house, page, f"implementation-{slug}", shows=lacks)
        await follow(page, "Read it now")
        read = await sent(house, page, "reconcile", nothing)
        assert read.state is not None
        assert read.state.name == "Completed", read.state.message
    await says_in_the_browser(house, page, slug, "Validation with the customer", "protocol")
    await says_in_the_browser(house, page, slug, "Go-live", "announced")
    await open_artifact(house, page, f"implementation-{slug}", shows="Live since")

    await is_live_as_promised(house, "Anvil Tools · UpKeep", slug="anvil-tools-upkeep")


async def look(house: House, slug: str) -> tuple[date, str, str]:
    """The go-live that is likely, the chart, and the text of the artifact."""
    [connection] = await rows(house, select(Implementation).where(col(Implementation.slug) == slug))
    shown = await artifact(house, f"implementation-{slug}")
    chart = re.search(r"base64,([^)]+)", shown)
    assert chart is not None
    return connection.p50, chart[1], shown


async def test_an_enterprise_waits_for_a_closed_port_and_moves_on_when_it_opens(
    house: House, page: Page
) -> None:
    slug = "rivet-works-sap-ecc-ibm-maximo"
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))  # bound, and closed: whoever knocks is refused
        target = f"127.0.0.1:{door.getsockname()[1]}"

        async def fill() -> None:
            await write(page, "Customer", "Rivet Works")
            systems = ["SAP ECC", "IBM Maximo"]
            await add_systems(page, systems, **{"Host and port": target})
            await pick(page, "Kickoff", date.today())  # noqa: DTZ011  the form's own idea of a day
            await write(page, "Your name", "Olaf")
            await choose(page, "Complexity", "enterprise")
            await choose(page, "Hosting", "on-premises")
            await write(page, "Custom workflows", "2")
            await write(page, "Owner", "Petra Ops")

        await open_form(house, page, "implementation")
        started = await sent(house, page, "implementation", fill)
        assert started.state is not None
        assert started.state.name == "Suspended", started.state.message
        await says(house, "Rivet Works · Kickoff and technical requirements")
        await says(house, "Rivet Works · Security review")
        side_by_side = [await waiting(house, title) for title in ("preparation", "Solution design")]
        assert {tag for run in side_by_side for tag in run.tags if "waiting" in tag} == {
            "waiting:us",
            "waiting:customer",
        }
        await says(house, "Rivet Works · Network preparation")
        await says(house, "Rivet Works · Solution design")

        await open_artifact(house, page, f"implementation-{slug}", shows="Check now")
        await follow(page, "Check now")
        shut = await sent(house, page, "preflight", nothing)
        assert shut.state is not None
        assert shut.state.name == "Failed"
        assert f"{target}: No connection" in str(shut.state.message)
        await open_artifact(house, page, f"implementation-{slug}", shows="No connection to port")
        await expect(page.get_by_text("No connection to port").first).to_be_visible()
        before = await look(house, slug)

        door.listen(16)
        await follow(page, "Check now")
        opened = await sent(house, page, "preflight", nothing)
        assert opened.state is not None
        assert opened.state.name == "Completed", opened.state.message
    after = await look(house, slug)
    assert after[0] < before[0]
    assert after[1] != before[1]
    assert "Get the link" in after[2]
    assert (await gates(house, slug))["preflight"].status == "done"
    await open_artifact(house, page, f"implementation-{slug}", shows="Get the link")
    await follow(page, "Hand-over for the customer's IT")
    await expect(page.locator("body")).to_contain_text(f"--dport {target.rpartition(':')[2]}")
