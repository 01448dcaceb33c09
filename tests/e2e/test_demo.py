"""`linekeeper demo` says what to click next; a browser does that, and nothing else."""

import asyncio
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.e2e.conftest import PARTS, ROOT, House, free_ports, started, until
from tests.e2e.forms import submit, write

pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.timeout(2700)]


@pytest.fixture
async def living() -> AsyncIterator[House]:
    """What `make up` starts, with its schedules: a sweep every 30 seconds."""
    with tempfile.TemporaryDirectory(prefix="linekeeper-demo-", ignore_cleanup_errors=True) as name:
        options = ("--sandbox", "--scenario", "quiet")
        async with started(Path(name) / "home", free_ports(*PARTS), *options) as house:
            yield house


async def _logs_in(page: Page, address: str) -> None:
    await page.goto(address)
    await page.get_by_role("link", name=re.compile("Log in to")).click()
    lost = page.get_by_label("System").locator("option", has_text="(Reauthorization required)")
    await page.get_by_label("System").select_option(await lost.first.get_attribute("value"))
    await page.get_by_label("User name").fill("pat")
    await page.get_by_label("Password").fill("anything")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Done, thank you")


async def _acknowledges(house: House, page: Page) -> None:
    await page.goto(f"{house.url('sandbox')}/slack")
    await page.get_by_role("button", name="Acknowledge").first.click()


async def _runs(house: House, page: Page, deployment: str) -> None:
    async with house.prefect() as client:
        found = await client.read_deployment_by_name(f"{deployment}/{deployment}")
    await page.goto(f"{house.url('prefect')}/deployments/deployment/{found.id}")
    async with page.expect_response(re.compile("/create_flow_run$")) as asked:
        await page.get_by_role("button", name="Run", exact=True).first.click()
        await page.get_by_text("Quick run").first.click()
    answer = await asked.value
    assert answer.ok, answer.status


async def _answers(page: Page, address: str) -> None:
    await page.goto(address)
    await page.get_by_role("button", name="Resume").first.click()
    form = page.get_by_role("dialog")
    await write(form, "Evidence, or the reason", "minutes of the kickoff")
    await write(form, "Your name", "Petra")
    await submit(form)


async def _asks(page: Page, address: str) -> None:
    await page.goto(address)
    await submit(page)


async def _ticks(page: Page, address: str) -> None:
    await page.goto(address)
    await page.get_by_role("checkbox").first.check()
    await page.get_by_role("textbox").first.fill("rule 17, by Jo")
    await page.get_by_role("button").first.click()
    await expect(page.get_by_role("status")).to_be_visible()


async def test_the_demo_is_followed_to_its_end(living: House, page: Page) -> None:
    house = living
    # It picks what is well: wait for the first sweep.
    await until(lambda: _is_known(house), seconds=600, what="the fleet to be known")
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "linekeeper.cli", "demo"),
        env=house.environment,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said = await _follows(demo, house, page)
    finally:
        if demo.returncode is None:
            demo.terminate()
            await demo.wait()
    for wanted in (
        "Reconnected.",
        "acknowledged by",
        "4 changes that no webhook announced",
        "Done by Petra",
        "webhook is missing",
        "rule 17",
    ):
        assert wanted in said, said
    assert "That was it." in said


async def _follows(demo: asyncio.subprocess.Process, house: House, page: Page) -> str:
    """Do what the demo says, to its end; returns all it said."""
    assert demo.stdout is not None
    said, step = "", ""
    while line := (await demo.stdout.readline()).decode():
        said += line
        print(line, end="")
        if found := re.search(r"http\S+/connect/\S+", line):
            await _logs_in(page, found[0])
        elif "Acknowledge" in line:
            await _acknowledges(house, page)
        elif "Quick run" in line:
            await _runs(house, page, "reconcile")
        elif found := re.search(r"Open (http\S+/runs/flow-run/\S+)", line):
            step = found[1]
        elif found := re.search(r"http\S+/run\?parameters=\S+", line):
            await _asks(page, found[0])
        elif found := re.search(r"http\S+/customer/\S+", line):
            await _ticks(page, found[0])
        elif step and "Resume" in line:
            await _answers(page, step)
    assert await demo.wait() == 0, said
    return said


async def _is_known(house: House) -> bool:
    _, said = await house.linekeeper("status", "--json")
    return '"healthy": 24' in said
