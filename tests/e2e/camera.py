"""A browser that keeps what it sees of a running house as a picture of the docs."""

import os
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from tests.e2e.conftest import ROOT, House, until

IMAGES = Path(os.environ.get("SCREENSHOTS", ROOT / "docs/images"))


async def keep(page: Page, name: str, *, of: str | None = None, whole: bool = False) -> None:
    """A picture of the page, or of one element; charts and tables draw themselves first."""
    await page.wait_for_timeout(2_000)
    path = IMAGES / f"{name}.png"
    if of is not None:
        await page.locator(of).first.screenshot(path=path, scale="css")
    else:
        await page.screenshot(path=path, scale="css", full_page=whole)


async def show(house: House, page: Page, path: str) -> None:
    """A page of the Prefect UI, drawn."""
    await page.goto(f"{house.url('prefect')}/{path}")
    await page.wait_for_load_state("networkidle")


async def show_artifact(house: House, page: Page, key: str) -> None:
    """The page `key`, once it is there."""

    async def written() -> Any:
        async with house.prefect() as client:
            answer = await client.request("POST", "/artifacts/filter", json={"limit": 200})
        return next((shown["id"] for shown in answer.json() if shown["key"] == key), None)

    identifier = await until(written, what=f"the page {key}")
    await show(house, page, f"artifacts/artifact/{identifier}")


async def sweep(house: House) -> str:
    """A sweep by hand; returns the id of its run."""
    return str((await house.trigger("health-sweep")).id)
