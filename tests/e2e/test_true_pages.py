"""Whatever happens in the sandbox's day, every page and message agrees with the database."""

import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page
from sqlalchemy import select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.markdown import text
from linekeeper.store.tables import Connection, Incident, IncidentConnection, NoticeMessage
from linekeeper.views.health_chart import look
from tests.e2e.conftest import PARTS, House, free_ports, started, until

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

DAY = timedelta(minutes=16)
"""The demo's day, with its outage and what falls in the night."""
WITHIN = 90
"""Seconds until a page has to agree: a minute, and the reading of it on a busy machine."""


@pytest.fixture
async def day() -> AsyncIterator[House]:
    """What `make up` starts."""
    with tempfile.TemporaryDirectory(prefix="linekeeper-day-", ignore_cleanup_errors=True) as name:
        async with started(Path(name) / "home", free_ports(*PARTS), "--sandbox") as house:
            yield house


async def test_every_page_and_message_is_true_all_day(day: House, page: Page) -> None:
    seen: set[str] = set()
    until_when = utcnow() + DAY
    wrong: list[str] = []

    async def agrees() -> bool:
        wrong[:] = [*await _wrong_pages(day, seen), *await _wrong_messages(day)]
        return not wrong

    while utcnow() < until_when:
        try:
            await until(agrees, seconds=WITHIN, what="the pages to agree")
        except TimeoutError:
            raise AssertionError("\n".join(wrong)) from None
    assert len(seen) >= 8  # two logins, three systems alone, an outage of five
    for key in sorted(seen)[:3]:  # as a person sees them
        async with day.prefect() as client:
            answer = await client.request("GET", "/artifacts/{key}/latest", {"key": key})
        await page.goto(f"{day.url('prefect')}/artifacts/artifact/{answer.json()['id']}")
        shown = await page.locator(".markdown-renderer h1").first.inner_text()
        assert shown.strip("# ") in answer.json()["data"]


async def _wrong_pages(house: House, seen: set[str]) -> list[str]:
    """What pages of connections say that is not so."""
    async with house.prefect() as client:
        answer = await client.request("POST", "/artifacts/filter", json={"limit": 200})
    pages: dict[str, str] = {one["key"]: one["data"] for one in answer.json()}
    async with house.store() as store, store.read() as session:
        connections = list(await session.scalars(select(Connection)))
        members = (
            await session.execute(
                select(col(IncidentConnection.connection_id), Incident)
                .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
                .where(
                    col(IncidentConnection.left_at).is_(None), col(Incident.resolved_at).is_(None)
                )
            )
        ).all()
    wrong = []
    for connection in connections:
        key = f"connection-{connection.slug}"
        shown = pages.get(key)
        incidents = [incident for member, incident in members if member == connection.id]
        if shown is None:
            wrong += [f"{key}: no page of what is in trouble"] if incidents else []
            continue
        seen.add(key)
        head, _, rest = shown.partition("\n")
        lines: list[tuple[str, bool]] = [
            (f"health {connection.health}", look(connection.health).words in head),
            ("since", f"since {connection.health_since:%Y-%m-%d %H:%M} UTC" in rest),
            ("no age", " ago)" not in shown and "just now" not in shown),
            ("no incident", bool(incidents) or "## Open incidents\n\nNone." in shown),
            *(
                (f"incident {implementation.title}", text(implementation.title, 160) in rest)
                for implementation in incidents
            ),
        ]
        wrong += [f"{key}: {what}: {head}" for what, is_so in lines if not is_so]
    return wrong


async def _wrong_messages(house: House) -> list[str]:
    """Messages in Slack whose light is not that of their incident."""
    async with house.store() as store, store.read() as session:
        posted = {row.subject: row.ts for row in await session.scalars(select(NoticeMessage))}
        told = [
            (incident, posted[f"incident:{incident.id}"])
            for incident in await session.scalars(select(Incident))
            if f"incident:{incident.id}" in posted
        ]
    messages: dict[str, Any] = {message["ts"]: message for message in await house.slack()}
    return [
        f"{incident.title} is {incident.status}: {messages[ts]['text'][:80]}"
        for incident, ts in told
        if ts in messages
        and (incident.resolved_at is not None) != ("green_circle" in messages[ts]["text"])
    ]
