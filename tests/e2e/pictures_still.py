"""The pictures that need no running Linekeeper: a mail, the customer's page, the plans' charts."""

import asyncio
import html
import os
import shlex
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.async_api import Page

from linekeeper.notify.mail_text import SystemToLogIn, compose
from tests.docs.test_planning import BLOCK, PAGE
from tests.e2e.camera import IMAGES, keep
from tests.e2e.conftest import COMMAND, ROOT

_MAIL = (
    '<div style="font:14px/1.7 system-ui,sans-serif;border-bottom:1px solid #ccc;'
    'padding:0 0 1em"><b>From:</b> linekeeper@example.com<br>'
    "<b>To:</b> it@acme.example<br><b>Subject:</b> {subject}</div>"
)
_CUSTOMER = "test_the_page_is_readable_and_the_checklist_works_without_scripts"


async def mail(page: Page) -> None:
    """The mail to a customer whose login ends within a week."""
    ends = datetime.now(UTC).replace(hour=10, minute=3) + timedelta(days=7)
    url = "https://line.operator.example/connect/AaIhnDirdvaf2Yjm7VKwTp36zIDhMJmpGxAcJAJVriM"
    written = compose(
        "ending", "Acme Metals", [SystemToLogIn("UpKeep", ends, url)], until=ends, page=None
    )
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": 720, "height": 300})
    head = _MAIL.format(subject=html.escape(written.subject))
    await page.set_content(written.html.replace("<body", f"{head}<body", 1))
    await keep(page, "mail-login-ending", whole=True)


async def customer(page: Page) -> None:
    """The customer's own page, on a desktop, and in German on a phone, as its test sees it."""
    with tempfile.TemporaryDirectory() as folder:
        test = f"tests/customer_page/test_browser.py::{_CUSTOMER}"
        testing = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pytest", "-n", "0", "-q", "-k", "sqlite", test),
            cwd=ROOT,
            env={**os.environ, "SCREENSHOTS": folder},
        )
        if await testing.wait() != 0:
            raise RuntimeError("the test that takes the pictures failed")
        for name in ("customer-desktop.png", "customer-phone.png"):
            (IMAGES / name).write_bytes((Path(folder) / name).read_bytes())


async def plan(page: Page) -> None:
    """The charts of docs/planning.md, by the commands that stand there."""
    for command, _ in BLOCK.findall(PAGE.read_text()):
        words = shlex.split(command.replace("\\\n", " "))[1:]
        if "--svg" not in words:
            continue
        drawing = await asyncio.create_subprocess_exec(
            *(*COMMAND, *words), cwd=IMAGES, stdout=asyncio.subprocess.DEVNULL
        )
        if await drawing.wait() != 0:
            raise RuntimeError(f"{command} failed")
