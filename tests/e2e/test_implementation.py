"""From the form to live, as an operator and a customer see it; the sandbox plays Makini."""

import json
import re
from datetime import date, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect
from prefect.client.schemas.objects import FlowRun
from sqlmodel import col, select

from linekeeper.store.tables import Connection, CreditEntry, Gate, Implementation
from tests.e2e.conftest import House, until
from tests.e2e.forms import submit
from tests.newest_runs import newest_runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1_800)]


async def start_from_its_form(house: House, page: Page, **parameters: Any) -> FlowRun:
    """Follow a prefilled link, say who one is, press Submit; returns the run, waiting."""
    async with house.prefect() as client:
        deployment = await client.read_deployment_by_name("implementation/implementation")
        before = {run.id for run in await newest_runs(client)}
    filled = quote(json.dumps(parameters))
    await page.goto(
        f"{house.url('prefect')}/deployments/deployment/{deployment.id}/run?parameters={filled}"
    )
    await expect(
        page.get_by_text("The customer's name; a new name creates the customer")
    ).to_be_visible()
    await field(page, "Who starts it").fill("Olaf")
    await submit(page)

    async def begun() -> Any:
        new = [run for run in await house.runs() if run.id not in before]
        return [run for run in new if run.deployment_id == deployment.id] or None

    [run] = await until(begun, what="the run to be created")
    await page.goto("about:blank")  # its page asks and draws all the time
    return await house.settled(run.id)


def field(place: Any, label: str) -> Any:
    """The text field of a Prefect form that `label` is about."""
    return place.locator(".schema-form-property", has_text=label).locator("textarea").first


async def waiting(house: House, title: str) -> FlowRun:
    """The suspended run of a gate."""

    async def suspended() -> Any:
        runs = await house.runs(state="Suspended")
        return next((run for run in runs if run.name.endswith(title)), None)

    found: FlowRun = await until(suspended, what=f"{title} to wait", seconds=400)
    return found


async def says(house: House, title: str, **changed: Any) -> FlowRun:
    """Answer the form of a gate through the API; returns the run, ended if that ends it."""
    run = await waiting(house, title)
    answer = {"outcome": "done", "evidence": f"ticket about {title}", "by": "Petra"}
    async with house.prefect() as client:
        await client.resume_flow_run(run.id, run_input=answer | changed)
    return await house.ended(run.id)


async def artifact(house: House, key: str) -> str:
    async with house.prefect() as client:
        answer = await client.request("GET", f"/artifacts/{key}/latest")
        return str(answer.json()["data"])


async def rows(house: House, statement: Any) -> list[Any]:
    async with house.store() as store, store.read() as session:
        return list(await session.scalars(statement))


async def gates(house: House, slug: str) -> dict[str, Gate]:
    """All gates of an implementation, by their ids in the plan."""
    found = await rows(
        house,
        select(Gate)
        .join(Implementation, col(Implementation.id) == col(Gate.implementation_id))
        .where(col(Implementation.slug) == slug),
    )
    return {one.gate: one for one in found}


async def log_in(house: House, page: Page, customer: str, system: str, provider: str) -> None:
    """The customer follows the link of `connect` and logs in to a new system."""
    made = await house.trigger("connect", customer=customer, system=system, by="Petra")
    assert made.state is not None
    assert made.state.name == "Completed", made.state.message
    found = re.search(r"\((http[^)]+)\)", await artifact(house, "connect-link"))
    assert found is not None
    await page.goto(found[1])
    await page.locator("a[href*=authorize]").first.click()
    await page.get_by_label("System").select_option(f"new:{provider}")
    await page.get_by_label("User name").fill("it@customer.example")
    await page.get_by_label("Password").fill("right")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Done, thank you")


async def is_live_as_promised(house: House, name: str, *, slug: str) -> None:
    """The implementation ended in time, its credit is spent, and it shows and was told."""
    [one] = await rows(house, select(Implementation).where(col(Implementation.slug) == slug))
    assert one.status == "live"
    assert one.actual["kept"] is True
    ledger = await rows(
        house, select(CreditEntry).where(col(CreditEntry.implementation_id) == one.id)
    )
    assert [(entry.reason, entry.delta) for entry in sorted(ledger, key=lambda e: e.id)] == [
        ("reserve", -1),
        ("release", 1),
        ("consume", -1),
    ]
    shown = await artifact(house, f"implementation-{slug}")
    assert "**live**" in shown
    assert "<b>" not in shown
    assert "data:image/svg+xml;base64," in shown
    assert name in await artifact(house, "portfolio")

    async def notified() -> Any:
        messages = [str(message) for message in await house.slack()]
        customer = name.split(" ", 1)[0]
        return any(customer in one and "is live, as promised" in one for one in messages)

    await until(notified, what="the message that it is live")


async def started_from_its_form(house: House, page: Page, customer: str, system: str) -> FlowRun:
    """The run of a customer's implementation, waiting for its kickoff."""
    committed = date.today() + timedelta(days=21)  # noqa: DTZ011  the form's own idea of a day
    run = await start_from_its_form(
        house,
        page,
        customer=customer,
        systems=[{"name": system}],
        kickoff=date.today().isoformat(),  # noqa: DTZ011
        committed=committed.isoformat(),
        owner="Petra Ops",
        by="",
    )
    assert run.state is not None
    assert run.state.name == "Suspended", run.state.message
    assert run.name.startswith(f"{customer} · {system} · ")
    return run


@pytest.mark.repeats(
    "flows/test_implementation_run.py::test_the_graph_has_every_gate_once_with_the_plans_edges_and_follows_the_work",
    "implementation/test_service.py::test_standard_goes_live_by_evidence_and_forms",
    "flows/test_renewed_forms.py::test_a_step_says_what_is_so_when_a_form_changes_it_and_by_the_hour",
)
async def test_an_implementation_is_started_from_its_form_and_moves_on_by_the_form_of_a_step(
    house: House, page: Page
) -> None:
    run = await started_from_its_form(house, page, "Zenith Tools", "UpKeep")
    kickoff = await waiting(house, "Kickoff and technical requirements")
    assert kickoff.name == "Zenith Tools · Kickoff and technical requirements"
    assert {"implementation:zenith-tools-upkeep", "owner:petra-ops", "waiting:us"} <= set(
        kickoff.tags
    )
    await page.goto(f"{house.url('prefect')}/runs/flow-run/{kickoff.id}")
    await page.get_by_role("button", name="Resume").first.click()
    form = page.get_by_role("dialog")
    await field(form, "Evidence, or the reason").fill("minutes: <b>wiki</b>/zenith $(reboot)")
    await field(form, "Your name").fill("Petra")
    await submit(form)
    ended = await house.ended(kickoff.id)
    assert ended.state is not None
    assert ended.state.name == "Completed", ended.state.message
    assert ended.name.endswith("· done")

    async def moved_on() -> str | None:
        shown = await artifact(house, "implementation-zenith-tools-upkeep")
        return shown if "wiki" in shown else None

    shown = await until(moved_on, seconds=120, what="the evidence on the implementation's page")
    assert "<b>" not in shown
    assert (await gates(house, "zenith-tools-upkeep"))["kickoff"].status == "done"
    again = await house.settled(run.id)
    assert again.state is not None
    assert again.state.name == "Suspended", again.state.message


@pytest.mark.soak
async def test_a_standard_implementation_goes_from_the_form_to_live(
    house: House, page: Page
) -> None:
    run = await started_from_its_form(house, page, "Zenith Works", "UpKeep")
    await says(house, "Zenith Works · Kickoff and technical requirements")
    await log_in(house, page, "Zenith Works", "UpKeep", "upkeep")
    await says(house, "Zenith Works · UpKeep · Basic workflow configuration")
    [connection] = await rows(
        house, select(Connection).order_by(col(Connection.created_at).desc()).limit(1)
    )
    await house.control("records", connection=connection.makini_key, change=3)

    async def delivered() -> Any:
        return (await gates(house, "zenith-works-upkeep"))["webhooks-1"].done_at

    await until(delivered, what="a signed delivery")
    await house.trigger("reconcile", connections=["Zenith Works · UpKeep"])

    async def listed() -> bool:
        shown = await artifact(house, "implementation-zenith-works-upkeep")
        return "It was listed for the first time; the next poll compares it." in shown

    await until(listed, seconds=120, what="a first list, with which nothing is compared")
    await house.trigger("reconcile", connections=["Zenith Works · UpKeep"])
    await says(house, "Zenith Works · Validation with the customer")
    await says(house, "Zenith Works · Go-live")

    await is_live_as_promised(house, "Zenith Works · UpKeep", slug="zenith-works-upkeep")
    over = await house.ended(run.id, seconds=120)
    assert over.state is not None
    assert over.state.name == "Live", over.state.message
