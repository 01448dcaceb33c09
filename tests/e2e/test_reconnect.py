"""From "credentials changed" to "backfilled", as the customer and the operator see it."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser, Page, expect
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.config import DEFAULT_ENTITIES
from linekeeper.customers.change import CustomerChange, change_customer
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Reconnect,
    Record,
)
from sandbox import Settings as Sandbox
from tests.e2e.conftest import MAIL_ACCOUNT, ROOT, House, until
from tests.e2e.secrets import leaks, secrets_now
from tests.reconnect.post import Post, listening, text_of

IMAGES = os.environ.get("SCREENSHOTS")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture
async def post(house: House) -> AsyncIterator[Post]:
    """The mail server the house was told of."""
    async with listening(house.ports["mail"], account=MAIL_ACCOUNT) as server:
        yield server


def in_the_address(url: str) -> dict[str, str]:
    """The code and the state a customer's browser carries from Makini Link back to us."""
    query = parse_qs(urlsplit(url).query)
    is_ours = urlsplit(url).path == "/oauth/callback"
    return {name: query[name][0] for name in ("code", "state") if is_ours and name in query}


async def chosen(house: House) -> tuple[Connection, Customer]:
    """A connection that is well, and was never in trouble."""
    async with house.store() as store, store.read() as session:
        rows = await session.execute(
            select(Connection, Customer)
            .join(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(
                col(Connection.setup) == "live",
                col(Connection.health) == "healthy",
                col(Connection.id).not_in(select(col(IncidentConnection.connection_id))),
            )
            .order_by(col(Connection.makini_key).desc())
            .limit(1)
        )
        connection, customer = rows.one()
        return connection, customer


async def sample_product(house: House, key: str, connection: str) -> str:
    """What docs/samples/product.py says; it calls Makini with the token it is handed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "docs/samples/product.py"), connection),
        env={
            "LINEKEEPER_URL": house.url("receiver"),
            "LINEKEEPER_KEY": key,
            "MAKINI_URL": house.url("sandbox"),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def rows(house: House, statement: Any) -> list[Any]:
    async with house.store() as store, store.read() as session:
        return list(await session.scalars(statement))


async def message_about(house: House, text: str) -> dict[str, Any] | None:
    """The incident's message, which is not in a thread."""
    found = [m for m in await house.slack() if text in str(m) and not m.get("thread_ts")]
    return found[-1] if found else None


async def waiting_run(house: House, incident_id: str) -> Any:
    for run in await house.runs(state="Suspended"):
        if run.parameters.get("incident") == incident_id:
            return run
    return None


async def ask_for_a_login(house: House, post: Post) -> tuple[Connection, Customer, Incident, Any]:
    """Change a system's credentials; returns what there is once its run waits."""
    connection, customer = await chosen(house)
    known = CustomerChange(contacts=f"Ann <ann@{customer.slug}.example>", time_zone="Europe/Berlin")
    async with house.store() as store:
        await change_customer(store, customer.name, known, by="Petra", now=utcnow())
    await house.control(f"connections/{connection.makini_key}/change-credentials")

    async def opened() -> Any:
        open_ones = await rows(
            house,
            select(Incident).where(
                col(Incident.resolved_at).is_(None),
                col(Incident.cause).contains(connection.id),
            ),
        )
        return open_ones[0] if open_ones else None

    incident = await until(opened, what="the incident")
    run = await until(lambda: waiting_run(house, incident.id), what="the run to wait", seconds=90)
    return connection, customer, incident, run


async def missing(house: House, connection: Connection) -> set[tuple[str, str]]:
    """(entity, key) of what the system has and we don't, of the entities we read."""
    answer = await house.http.get(
        f"{house.url('sandbox')}/_control/truth", params={"connection": connection.makini_key}
    )
    there = answer.json()["records"][connection.makini_key]
    ours = await rows(house, select(Record).where(col(Record.connection_id) == connection.id))
    have = {(one.entity, one.key) for one in ours}
    return {
        (entity, key)
        for entity, records in there.items()
        for key in records
        if entity in DEFAULT_ENTITIES and (entity, key) not in have
    }


async def paste_a_code(house: House, connection: Connection, key: str) -> str:
    """An operator stores a code of Makini Link on the receiver's page; returns the code."""
    box = house.url("sandbox")
    asked = {
        "response_type": "code",
        "client_id": Sandbox().client_id,
        "redirect_uri": f"{house.url('receiver')}/oauth/callback",
        "state": "none-of-ours",
    }
    form = {"connection": connection.makini_key, "username": "pat", "password": "x"}
    answer = await house.http.post(
        f"{box}/oauth/authorize", data={**asked, **form, "answer": "approve"}
    )
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    pasted = await house.http.post(
        f"{house.url('receiver')}/paste",
        data={"key": key, "by": "Petra", "connection": connection.makini_key, "login": code},
    )
    assert pasted.status_code == 200, pasted.text
    return code


@pytest.fixture
async def phone(browser: Browser) -> AsyncIterator[Page]:
    """A page as narrow as a phone, in which no script runs."""
    context = await browser.new_context(
        viewport={"width": 375, "height": 667}, java_script_enabled=False
    )
    context.set_default_timeout(30_000)
    yield await context.new_page()
    await context.close()


async def looked_at(phone: Page, name: str) -> None:
    """Nothing of the page is beyond a phone's edge; a picture is kept where one is wanted."""
    for box in [await locator.bounding_box() for locator in await phone.locator("main *").all()]:
        assert box is None or box["x"] + box["width"] <= 375
    if IMAGES:
        await phone.screenshot(path=Path(IMAGES) / f"{name}.png", full_page=True)


async def test_credentials_change_and_the_customer_logs_in_again(
    house: House, page: Page, phone: Page, post: Post
) -> None:
    secrets = await secrets_now(house)
    phone.on("request", lambda request: secrets.update(in_the_address(request.url)))
    connection, customer, incident, run = await ask_for_a_login(house, post)
    label = f"{customer.name} · {connection.provider}"
    assert run.name == label
    assert {"waiting:customer", f"connection:{connection.slug}"} <= set(run.tags)
    assert f"customer:{customer.slug}" in run.tags
    lost = (await secrets_now(house)).get(f"access token of {connection.id}")

    # What changes meanwhile, nobody tells us of.
    await house.control(
        "records", connection=connection.makini_key, make=40, change=0, delete=0, announce=False
    )
    assert len(await missing(house, connection)) >= 40

    async def notified() -> Any:
        message = await message_about(house, label)
        return message if message and "/connect/" in str(message) else None

    message = await until(notified, what="the message with the link")
    [link] = set(re.findall(r"http://[^\s|>\"]+/connect/[\w-]+", str(message)))
    mail = await until(post.first, what="the mail")
    assert link in text_of(mail)

    await phone.goto(link)
    await expect(phone.get_by_role("heading", level=1)).to_contain_text("Please log in to")
    await looked_at(phone, "connect")
    await phone.get_by_role("link", name=re.compile("Log in to")).click()
    await phone.get_by_label("System").select_option(connection.makini_key)
    await phone.get_by_label("User name").fill("pat")
    await phone.get_by_label("Password").fill("the new one")
    await phone.get_by_role("button", name="Approve").click()
    await expect(phone.get_by_role("heading", level=1)).to_have_text("Done, thank you")
    await expect(phone.get_by_text("is connected again")).to_be_visible()
    await looked_at(phone, "connected")

    ended = await house.ended(run.id)
    assert ended.state is not None
    assert ended.state.name == "Reconnected", ended.state.message
    assert "backfilled" in str(ended.state.message)

    async def green() -> Any:
        now = await message_about(house, label)
        return now if now and "large_green_circle" in str(now) else None

    settled = await until(green, what="the message to turn green")
    assert settled["ts"] == message["ts"]  # the same one, edited
    assert "/connect/" not in str(settled)
    assert await missing(house, connection) == set()
    [case] = await rows(house, select(Reconnect).where(col(Reconnect.incident_id) == incident.id))
    assert case.outcome == "reconnected"
    assert case.counts[connection.id]["caught_up"] >= 40
    thanks = await until(lambda: post.with_subject("connected again"), what="the thanks")
    assert customer.slug in thanks["To"]

    await page.goto(f"{house.url('prefect')}/runs?state=Reconnected")
    await expect(page.get_by_text(re.compile(re.escape(label))).first).to_be_visible()

    code, said = await house.linekeeper("key", "add", f"product-{incident.id}")
    assert code == 0, said
    key = said.split()[-1]
    read = await sample_product(house, key, connection.makini_key)
    assert "work orders:" in read
    new = await secrets_now(house)
    assert new[f"access token of {connection.id}"] != lost

    secrets |= {f"new {name}": one for name, one in new.items()}
    secrets |= {"product's key": key, "pasted code": await paste_a_code(house, connection, key)}
    secrets |= {f"pasted {name}": one for name, one in (await secrets_now(house)).items()}
    assert {"code", "state"} <= secrets.keys()
    assert any("minted" in name for name in secrets)
    said_to_people = {
        "Slack": str(await house.slack()),
        **{f"mail {number}": mail.as_string() for number, mail in enumerate(post.mails)},
        "the sample product": read,
    }
    assert leaks(house, secrets, said_to_people) == []
    # It does look: in every place where that is to be found.
    named = {"the incident": incident.id, "the connection": label}
    seen = " ".join(leaks(house, named, said_to_people))
    for place in ("prefect", "linekeeper.db", "logs/", "Slack", "mail"):
        assert place in seen
