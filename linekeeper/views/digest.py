"""The digest of a day: read once, said once, kept as an artifact."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import col, select

from linekeeper.availability.service import read_month, sentence
from linekeeper.config import AppConfig
from linekeeper.notify.routing import said_about
from linekeeper.notify.view import Links
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store import Store
from linekeeper.store.tables import Outbox
from linekeeper.views.digest_page import CHART_DAYS, headline, slack_text
from linekeeper.views.digest_queries import Day, read_day
from linekeeper.views.managed import count_managed, managed_sentence, name_rules

_LONGEST = timedelta(days=7)


async def gather(store: Store, apps: Mapping[str, AppConfig], *, now: datetime) -> Day:
    """What happened since the last digest that was said: a day at least, a week at most."""
    async with store.read() as session:
        last = await session.scalar(
            select(Outbox.created_at)
            .where(col(Outbox.dedupe_key).startswith("slack:say:digest:"))
            .order_by(col(Outbox.created_at).desc())
            .limit(1)
        )
        managed = managed_sentence(
            (await count_managed(session, apps)).values(), await name_rules(session)
        )
    since = now - timedelta(days=1) if last is None else max(last, now - _LONGEST)
    if now - since < timedelta(hours=12):
        since = now - timedelta(days=1)  # asked for again on the same day
    day = await read_day(store, since=since, charts_since=now - timedelta(days=CHART_DAYS), now=now)
    day = replace(day, managed=managed)
    if now.day != 1:
        return day
    before = await read_month(store, f"{now - timedelta(days=1):%Y-%m}", now=now)
    return replace(day, availability=sentence(before))


async def say_digest(store: Store, day: Day, links: Links) -> str:
    """Say it in Slack, once a day; returns the lane of the outbox it is in."""
    lane = f"slack:say:digest:{day.now:%Y-%m-%d}"
    payload: dict[str, Any] = {"do": "say", "text": headline(day), "mrkdwn": slack_text(day, links)}
    payload |= said_about("digest")
    async with store.write() as session:
        await enqueue(store, session, [Message("slack", lane, payload)], now=day.now)
    return lane
