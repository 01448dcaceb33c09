"""Prefect's forms and pages, used as a person uses them."""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from typing import Any
from urllib.parse import urljoin

from playwright.async_api import Locator, Page, TimeoutError, expect
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from tests.e2e.conftest import House, until

PRESSES = 4


def field(form: Page | Locator, label: str) -> Locator:
    """What a form asks for under the title `label`, beside the entries of its lists."""
    return _titled(form.locator(".schema-form-property:not(.schema-form-property *)"), label)


def _titled(properties: Locator, label: str) -> Locator:
    """Those of the properties whose own title is `label`, whatever is nested in them."""
    title = re.compile(rf"^\s*{re.escape(label)}( \(Optional\))?\s*$")
    own = ":scope > :not(.p-label__body) .schema-form-property__label"
    return properties.filter(has=properties.page.locator(own, has_text=title))


async def write(place: Page | Locator, label: str, text: str) -> None:
    """Fill in a text."""
    await field(place, label).locator("textarea, input").first.fill(text)


async def add_systems(page: Page, names: Sequence[str], **more: str) -> None:
    """Add an entry for each system; `more` are texts of its other fields, by their titles."""
    for number, name in enumerate(names):
        systems = field(page, "Systems")
        await systems.get_by_role("button", name="Add item").click()
        entry = systems.locator(".schema-form-property-array-item__control").nth(number)
        for title, text in {"Name": name, **more}.items():
            asked = _titled(entry.locator(".schema-form-property"), title)
            await asked.locator("textarea, input").first.fill(text)


async def choose(page: Page, label: str, option: str) -> None:
    """Take one of the choices, by keyboard."""
    await field(page, label).locator(".p-select-button__control").press("ArrowDown")
    await page.locator(".p-select-option").filter(has_text=option).first.click()


async def pick(page: Page, label: str, day: date) -> None:
    """Pick a day in the calendar."""
    place = field(page, label)
    if await (kind := place.get_by_role("button", name="date", exact=True)).count():
        await kind.click()
    await place.locator(".p-date-button button").first.click()
    calendar = page.locator(".p-date-picker")
    title = calendar.locator(".p-calendar-header__title").first
    while f"{day:%B}" not in await title.inner_text():
        await calendar.locator(".p-calendar-header__arrow").last.click()
    days = calendar.locator(".p-calendar-date-picker__date--in-month")
    await days.get_by_text(str(day.day), exact=True).click()
    await calendar.get_by_role("button", name="Apply").click()
    await expect(calendar).to_have_count(0)


async def submit(place: Page | Locator) -> None:
    """Press Submit until the form is gone: a press on one that hasn't settled does nothing."""
    button = place.get_by_role("button", name="Submit")
    await button.wait_for()
    for _ in range(PRESSES):
        with suppress(TimeoutError):  # it went while the press before was answered
            await button.click(timeout=5_000)
        with suppress(AssertionError):
            return await expect(button).to_be_hidden(timeout=5_000)
    raise AssertionError("the form is still there: something in it is wrong")


async def open_artifact(house: House, page: Page, key: str, *, shows: str) -> None:
    """Open the page of an artifact, once its Markdown has a text."""

    async def there() -> Any:
        async with house.prefect() as client:
            found = await client.read_artifacts(
                artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
            )
        return next(
            (each for each in found[:1] if shows in f"{each.description}\n{each.data}"), None
        )

    artifact = await until(there, what=f"{key} to show {shows!r}", seconds=180)
    await page.goto(f"{house.url('prefect')}/artifacts/artifact/{artifact.id}")
    await expect(page.locator(".markdown-renderer").first).to_be_visible()


async def follow(page: Page, name: str) -> None:
    """Go where a link of the page leads; Prefect opens those of an artifact in a tab of its own."""
    address = await page.get_by_role("link", name=name).first.get_attribute("href")
    assert address is not None
    await page.goto(urljoin(page.url, address))
