"""The customer's page in a browser, on a desktop and on a phone, without scripts."""

import os
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from tests.customer_page.conftest import GERMAN, Portal
from tests.e2e.conftest import CHROMIUM, QUIET

IMAGES = os.environ.get("SCREENSHOTS")
SIZES = {"desktop": (1280, 900), "phone": (360, 740)}


AGAIN = pytest.mark.repeats(
    "customer_page/test_browser.py"
    "::test_the_page_is_readable_and_the_checklist_works_without_scripts"
)


@pytest.mark.parametrize("size", [pytest.param("desktop", marks=AGAIN), "phone"])
async def test_the_page_is_readable_and_the_checklist_works_without_scripts(
    portal: Portal, size: str
) -> None:
    width, height = SIZES[size]
    if size == "phone":
        await portal.speak(GERMAN)
    if IMAGES:
        await portal.call_it("Acme Metals")
    async with async_playwright() as playwright:
        chromium = next(path for path in CHROMIUM if Path(path).exists())
        browser = await playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        context = await browser.new_context(
            viewport={"width": width, "height": height}, java_script_enabled=False
        )
        page = await context.new_page()
        await page.goto(f"{portal.here.url}{portal.path}")
        if IMAGES:
            await page.screenshot(path=Path(IMAGES) / f"customer-{size}.png", full_page=True)
        await expect(page.get_by_role("heading", level=1)).to_have_count(1)
        for region in await page.get_by_role("region").all():
            assert await region.get_attribute("aria-labelledby")
        assert await page.locator("html").get_attribute("lang") == (
            "de" if size == "phone" else "en"
        )
        # Everything that takes an answer has a name, is big enough for a thumb, and is reachable.
        box = page.get_by_role("checkbox")
        await expect(box).to_have_count(1)
        await expect(page.get_by_role("textbox")).to_have_count(1)
        button = page.get_by_role("button")
        bounds = await button.bounding_box()
        assert bounds is not None
        assert bounds["height"] >= 44
        login = page.get_by_role("link", name="Maximo")
        assert "/connect/" in str(await login.get_attribute("href"))
        bounds = await page.locator("main").bounding_box()
        assert bounds is not None
        assert bounds["x"] + bounds["width"] <= width
        for table in await page.get_by_role("table").all():
            bounds = await table.bounding_box()
            assert bounds is not None
            assert bounds["x"] + bounds["width"] <= width
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        # With the keyboard alone every control is reached, in the order in which they are read.
        reached = []
        for _ in range(await page.locator("a, input:not([type=hidden]), textarea, button").count()):
            await page.keyboard.press("Tab")
            focused = page.locator(":focus")
            reached.append(await focused.evaluate("element => element.tagName"))
            assert await focused.evaluate("element => getComputedStyle(element).outlineStyle") != (
                "none"
            )
        assert reached[-3:] == ["INPUT", "TEXTAREA", "BUTTON"]
        # On paper what can only be clicked is left out, and what is said stays, black on white.
        await page.emulate_media(media="print", color_scheme="dark")
        await expect(button).to_be_hidden()
        await expect(page.get_by_role("table")).to_be_visible()
        ink = "element => getComputedStyle(element).color"
        assert await page.get_by_role("heading", level=1).evaluate(ink) == "rgb(0, 0, 0)"
        await page.emulate_media(media="screen", color_scheme="light")
        await box.check()
        await page.get_by_role("textbox").fill("Rule 17")
        await button.click()
        await expect(page.get_by_role("status")).to_be_visible()
        await expect(page.get_by_role("checkbox")).to_have_count(0)
        if IMAGES:
            await page.screenshot(path=Path(IMAGES) / f"customer-{size}-saved.png", full_page=True)
        await browser.close()
