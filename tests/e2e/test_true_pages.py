"""Whatever happens in the sandbox's day, every page and message agrees with the database."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, TimeoutError
from sqlalchemy import select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.incidents import kinds as words
from linekeeper.markdown import text
from linekeeper.notify.merged import FLEET
from linekeeper.store.tables import Connection, Incident, IncidentConnection, NoticeMessage
from linekeeper.views.health_chart import look
from tests.e2e.conftest import PARTS, House, free_ports, started, until

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

DAY = timedelta(minutes=16)
"""The demo's day, with its outage and what falls in the night."""
WITHIN = timedelta(seconds=90)
"""Until a page has to agree: a minute, and the reading of it on a busy machine."""


@pytest.fixture
async def day() -> AsyncIterator[House]:
    """What `make up` starts."""
    with tempfile.TemporaryDirectory(prefix="linekeeper-day-", ignore_cleanup_errors=True) as name:
        async with started(Path(name) / "home", free_ports(*PARTS), "--sandbox") as house:
            yield house


async def test_every_page_and_message_is_true_all_day(day: House, page: Page) -> None:
    seen: set[str] = set()
    ends = utcnow() + DAY
    wrong_since: dict[str, datetime] = {}

    async def is_over() -> bool:
        wrong = {
            *await _wrong_pages(day, seen),
            *await _wrong_fleet(day),
            *await _wrong_messages(day),
        }
        now = utcnow()
        for what in [what for what in wrong_since if what not in wrong]:
            del wrong_since[what]
        for what in wrong:
            wrong_since.setdefault(what, now)
        lasting = sorted(what for what, since in wrong_since.items() if now - since > WITHIN)
        assert not lasting, "\n".join(lasting)
        await asyncio.sleep(1)
        return now >= ends and not wrong

    seconds = (DAY + 2 * WITHIN).total_seconds()
    await until(is_over, seconds=seconds, what="the day to end with everything true")
    assert len(seen) >= 8  # two logins, three systems alone, an outage of five
    for key in sorted(seen)[:3]:
        await see_as_a_person(day, page, key)


async def see_as_a_person(house: House, page: Page, key: str) -> None:
    """The page `key` in the UI says what it was written to say, also if it is written meanwhile."""

    async def is_shown() -> bool:
        # `/artifacts/KEY/latest` gives the id of the collection, which has no page.
        async with house.prefect() as client:
            answer = await client.request("POST", "/artifacts/filter", json={"limit": 200})
        written = next(each for each in answer.json() if each["key"] == key)
        heading = page.locator(".markdown-renderer h2").first
        try:
            await page.goto(f"{house.url('prefect')}/artifacts/artifact/{written['id']}")
            await heading.wait_for(timeout=60_000)
        except TimeoutError:  # a busy machine draws it later
            return False
        return (await heading.inner_text()).strip("# ") in written["data"]

    await until(is_shown, seconds=300, what=f"the page {key} to be drawn")


def as_shown(artifact: dict[str, Any]) -> str:
    """An artifact as Prefect shows it: its description above its text."""
    return f"{artifact['description']}\n\n{artifact['data']}"


async def _wrong_pages(house: House, seen: set[str]) -> list[str]:
    """What pages of connections say that is not so."""
    async with house.prefect() as client:
        answer = await client.request("POST", "/artifacts/filter", json={"limit": 200})
    pages: dict[str, str] = {shown["key"]: as_shown(shown) for shown in answer.json()}
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


async def _wrong_fleet(house: House) -> list[str]:
    """What the page `fleet` counts that is not so."""
    async with house.prefect() as client:
        answer = await client.request("POST", "/artifacts/filter", json={"limit": 200})
    pages: dict[str, str] = {shown["key"]: as_shown(shown) for shown in answer.json()}
    async with house.store() as store, store.read() as session:
        healths = Counter(await session.scalars(select(col(Connection.health))))
    if FLEET not in pages:
        return ["fleet: no page"] if healths else []
    written = pages[FLEET].split("\n\n")[1]
    return [
        f"fleet: {count} {health}"
        for health, count in healths.items()
        if f"{count} {look(health).words}" not in written
    ]


async def _wrong_messages(house: House) -> list[str]:
    """What messages in Slack say of an incident that is not so, and links they lack."""
    async with house.store() as store, store.read() as session:
        posted = {row.subject: row.ts for row in await session.scalars(select(NoticeMessage))}
        announced = [
            (incident, posted[f"incident:{incident.id}"])
            for incident in await session.scalars(select(Incident))
            if f"incident:{incident.id}" in posted
        ]
    messages: dict[str, Any] = {message["ts"]: message for message in await house.slack()}
    wrong = []
    for incident, ts in announced:
        if ts not in messages:
            continue
        shown, blocks = messages[ts]["text"], str(messages[ts]["blocks"])
        is_over = incident.resolved_at is not None
        since = incident.reopened_at or incident.opened_at
        lines = [
            ("title", incident.title[:60] in shown),
            ("light", is_over == any(f"{over}_circle" in shown for over in ("green", "white"))),
            ("kind", is_over or words.headline(incident.kind) in shown),
            ("since", f"<!date^{int(since.timestamp())}^" in blocks),
            ("fleet", "|Fleet>" in blocks),
            ("explain", is_over or "|Explain>" in blocks),
        ]
        wrong += [f"{incident.title}: {what}: {shown[:80]}" for what, is_so in lines if not is_so]
    return wrong
