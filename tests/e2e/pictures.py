"""The docs' pictures, made anew: `make pictures`, or `make pictures ARGS="desk plan"` for some.

Most scenes start a sandbox of their own. What a browser shows is kept in docs/images, or where
`SCREENSHOTS` says.
"""

import asyncio
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright
from sqlmodel import col, select

from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    Reconnect,
)
from tests.e2e.camera import keep, show, show_artifact, sweep
from tests.e2e.conftest import CHROMIUM, PARTS, QUIET, House, free_ports, started, until
from tests.e2e.pictures_still import customer, mail, plan
from tests.e2e.pictures_weeks import weeks

DAY_SHOWN = (("alerts-slack", 9.5), ("alerts-morning", 15.5))
"""Minutes of the demo after which the Slack page is kept."""


async def slack(house: House, page: Page, *, most: int = 4_000) -> None:
    """The sandbox's Slack, as high as its newest messages, of which none is cut off."""
    await page.set_viewport_size({"width": 1000, "height": 900})
    await page.goto(f"{house.url('sandbox')}/slack")
    for summary in await page.locator(".thread:not([open]) summary").all():
        await summary.click()
    around, *tops = await page.locator("#messages").evaluate(
        """part => [innerHeight - part.clientHeight, ...[...part.querySelectorAll(":scope > *")]
            .map(each => part.scrollHeight - each.offsetTop + part.offsetTop)]"""
    )
    shown = max((top for top in tops if top <= most), default=most)
    await page.set_viewport_size({"width": 1000, "height": int(shown + around) + 30})
    await page.locator("#messages").evaluate("part => part.scrollTo(0, part.scrollHeight)")


async def connections(house: House) -> list[tuple[Connection, str]]:
    """Every connection, and its customer's name."""
    async with house.store() as store, store.read() as session:
        rows = await session.execute(
            select(Connection, Customer.name)
            .join(Customer, col(Customer.id) == col(Connection.customer_id))
            .order_by(col(Customer.name))
        )
        return [(connection, name) for connection, name in rows]


async def desk(house: House, page: Page) -> None:
    """From a red sweep to Reconnected."""
    await sweep(house)
    owners = house.home / "customers.csv"
    answer = await house.http.get(f"{house.url('sandbox')}/customers.csv")
    owners.write_bytes(answer.content)
    await house.linekeeper("customer", "import", str(owners))
    [lost, away, *_] = [row for row in await connections(house) if row[0].health == "healthy"]
    await house.control("webhooks", drop=1.0)
    await house.control(f"connections/{away[0].makini_key}/go-offline")
    await house.control(f"connections/{lost[0].makini_key}/change-credentials")
    await sweep(house)

    async def failed() -> Any:
        return next((run for run in await house.runs(state="Failed") if "health" in run.tags), None)

    red = str((await until(failed, seconds=120, what="a red sweep")).id)  # by hand or scheduled
    await show(house, page, "runs?state=Failed")
    await keep(page, "failed-runs")
    await show(house, page, f"runs/flow-run/{red}")
    await keep(page, "red-sweep")
    async with house.prefect() as client:
        found = await client.request(
            "POST",
            "/task_runs/filter",
            json={
                "task_runs": {
                    "flow_run_id": {"any_": [red]},
                    "state": {"type": {"any_": ["FAILED"]}},
                }
            },
        )
    await page.set_viewport_size({"width": 1440, "height": 1_060})  # down to its tags
    await show(house, page, f"runs/task-run/{found.json()[0]['id']}")
    await keep(page, "red-task")
    await page.set_viewport_size({"width": 1440, "height": 900})
    await show_artifact(house, page, f"connection-{lost[0].slug}")
    await keep(page, "connection-artifact")
    check = await page.get_by_role("link", name=re.compile("check", re.I)).first.get_attribute(
        "href"
    )
    await page.goto(f"{house.url('prefect')}/{str(check).removeprefix('../..').lstrip('/')}")
    await keep(page, "form-check-connection")
    for key, height in (("fleet", 1_000), ("connections", 900)):
        await page.set_viewport_size({"width": 1440, "height": height})
        await show_artifact(house, page, key)
        await keep(page, key)
    for name in ("deployments", "automations"):
        await show(house, page, name)
        await keep(page, name)

    async def reconnecting() -> Any:
        async with house.store() as store, store.read() as session:
            case = await session.scalar(
                select(Reconnect)
                .join(Incident, col(Incident.id) == col(Reconnect.incident_id))
                .order_by(col(Reconnect.incident_id).desc())
            )
        runs = await house.runs(state="Suspended")
        return next((run for run in runs if case and "reconnect" in run.tags), None)

    run = await until(reconnecting, seconds=180, what="the run reconnect to wait")
    await slack(house, page)
    mine = f".message:has-text('{lost[1]}')"
    await keep(page, "slack", of=mine)
    link = page.locator(mine).get_by_role("link", name="Connect link").first
    address = str(await link.get_attribute("href"))
    async with house.prefect() as client:
        form = await client.read_deployment_by_name("acknowledge/acknowledge")
        incident = str(run.parameters.get("incident") or "")
        await client.create_flow_run_from_deployment(
            form.id, parameters={"incident": incident, "by": "Petra"}
        )
    await page.set_viewport_size({"width": 930, "height": 1000})
    await page.goto(address)
    await keep(page, "connect")
    await house.control("records", connection=lost[0].makini_key, change=7)
    await page.get_by_role("link", name=re.compile("Log in to")).click()
    await page.get_by_label("User name").fill("pat")
    await page.get_by_label("Password").fill("the new one")
    await page.get_by_role("button", name="Approve").click()
    await house.ended(run.id, seconds=240)
    await page.set_viewport_size({"width": 1500, "height": 900})
    await show(house, page, f"runs/flow-run/{run.id}")
    await keep(page, "reconnect-graph")
    await page.wait_for_timeout(15_000)
    await slack(house, page)
    await keep(page, "slack-over", of=mine)
    await page.set_viewport_size({"width": 1440, "height": 900})
    await show_artifact(house, page, "audit")
    await keep(page, "audit")


async def kinds(house: House, page: Page) -> None:
    """Incidents that are not a system that is down."""
    await sweep(house)
    [unknown, gone, forbidden, *_] = [row[0] for row in await connections(house)]
    await house.control("webhooks", drop=1.0)
    await house.control(f"connections/{unknown.makini_key}/status", status="Migrating")
    await house.control("settings", refused="eam/assets=403")
    await house.trigger("reconcile", connections=[forbidden.makini_key])
    await house.control("settings", refused="")
    await house.control(f"connections/{gone.makini_key}/disconnect")
    for _ in range(3):
        await sweep(house)
    await house.control("settings", admin_list="truncated")
    await sweep(house)
    await page.wait_for_timeout(15_000)
    await slack(house, page)
    await keep(page, "alerts-kinds")


async def project(house: House, page: Page) -> None:
    """An implementation's page, and the form of a step."""
    await sweep(house)
    await house.trigger(
        "implementation",
        customer="Cobalt Mills",
        systems=[{"name": "SAP ECC"}, {"name": "IBM Maximo"}],
        kickoff=f"{datetime.now(UTC):%Y-%m-%d}",
        committed=f"{datetime.now(UTC) + timedelta(days=58):%Y-%m-%d}",
        owner="Petra Ops",
        by="Olaf",
    )

    async def waiting() -> Any:
        runs = await house.runs(state="Suspended")
        return next((run for run in runs if run.name.endswith("technical requirements")), None)

    step = await until(waiting, seconds=180, what="the first step to wait")
    await show(house, page, f"runs/flow-run/{step.id}")
    await page.get_by_role("button", name="Resume").first.click()
    await keep(page, "gate-form")

    async def key() -> Any:
        async with house.prefect() as client:
            answer = await client.request("POST", "/artifacts/filter", json={"limit": 200})
        keys = [shown["key"] for shown in answer.json() if shown["key"]]
        return next((found for found in keys if found.startswith("implementation-")), None)

    await show_artifact(house, page, await until(key, what="its page"))
    await keep(page, "implementation")


async def day(house: House, page: Page) -> None:
    """The demo's day with its night, as Slack shows it."""
    began = datetime.now(UTC)
    for name, minute in DAY_SHOWN:
        left = began + timedelta(minutes=minute) - datetime.now(UTC)
        await asyncio.sleep(max(left.total_seconds(), 0))
        await slack(house, page, most=2_200)
        await keep(page, name)


SCENES: dict[str, tuple[Callable[[House, Page], Awaitable[None]], tuple[str, ...]]] = {
    "desk": (desk, ("--scenario", "quiet", "--connections", "12")),
    "kinds": (kinds, ("--scenario", "quiet", "--no-schedules", "--connections", "6")),
    "project": (project, ("--scenario", "quiet", "--no-schedules", "--connections", "6")),
    "weeks": (weeks, ("--scenario", "quiet", "--no-schedules", "--connections", "6")),
    "day": (day, ("--scenario", "demo")),
}
STILL = {"mail": mail, "customer": customer, "plan": plan}
"""Scenes that need no running Linekeeper."""


async def _make(name: str) -> None:
    async with _page() as page:
        if name in STILL:
            await STILL[name](page)
            return
        scene, options = SCENES[name]
        with tempfile.TemporaryDirectory(
            prefix="linekeeper-pictures-", ignore_cleanup_errors=True
        ) as at:
            ports = free_ports(*PARTS)
            async with started(Path(at) / "home", ports, "--sandbox", *options) as house:
                await scene(house, page)


@asynccontextmanager
async def _page() -> AsyncIterator[Page]:
    chromium = next(path for path in CHROMIUM if Path(path).exists())
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        page = await browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="dark")
        page.set_default_timeout(60_000)
        yield page
        await browser.close()


if __name__ == "__main__":
    for chosen in sys.argv[1:] or (*STILL, *SCENES):
        asyncio.run(_make(chosen))
