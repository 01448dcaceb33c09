"""The digest as a message for Slack and as an artifact. Pure; times are UTC."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.availability.service import read_month, sentence
from linekeeper.charts import BLUE, GREY, RED, YELLOW, Bars, draw_bars
from linekeeper.config import AppConfig
from linekeeper.incidents import kinds as words
from linekeeper.incidents.announce import said_about
from linekeeper.markdown import image, table
from linekeeper.markdown import text as as_markdown
from linekeeper.notify.view import Links
from linekeeper.outbox.about import is_a
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store import Store
from linekeeper.store.tables import Outbox
from linekeeper.text import Mrkdwn, counted, duration, health_name, named, width
from linekeeper.views.digest_measures import Life, Measures, Spread, measure
from linekeeper.views.digest_queries import Day, read_day
from linekeeper.views.managed import count_managed, managed_sentence, name_rules

CHART_DAYS = 14
_SHOWN = 10
_ROOM = 2_800
_SEVERITIES = {"critical": RED, "normal": YELLOW, "low": GREY}


def slack_text(day: Day, links: Links) -> str:
    """The message: what is open, new and resolved, and what is ahead. Under 3,000 units.

    It holds what a person acts on; how well alerts work is on the page.
    """
    pen = Mrkdwn()
    news = [
        _news(life, pen)
        for life in sorted(_of_day(day), key=lambda life: not _is_open(life, day.now))
    ]
    below = []
    older = [life for life in day.lives if _is_open(life, day.now) and life.opened_at <= day.since]
    if older:
        titles = (pen.text(life.title, 60) for life in older)
        below.append(f"*Open for longer* {named(titles)}")
    below += [f"*{name}* {pen.text(value, 400)}" for name, value in _ahead(day)]
    if url := links.artifact("digest"):
        below.append(pen.link(url, "The whole digest, with charts"))
    first = f"*{headline(day)}*"
    # What is ahead has its place, however much happened.
    return "\n".join([first, *_fitting(news, _ROOM - _width([first, *below])), *below])


def headline(day: Day) -> str:
    """`Digest: 3 new incidents, 5 resolved, 2 open`; a quiet day is no sign of health."""
    figures = measure(day.lives, since=day.since, now=day.now)
    if not (figures.opened or figures.resolved or figures.open):
        total, unwell = _fleet(day)
        if not total:
            return "Digest: no incidents, and no live connection"
        if not (unwell or day.listed):
            return "Digest: all healthy, nothing happened"
        known = total - unwell - day.listed
        which = f"{known:,} of {counted(total, 'connection')}" if known else "no connection"
        return f"Digest: no incidents; {which} {'is' if known < 2 else 'are'} known to be healthy"
    return (
        f"Digest: {counted(figures.opened, 'new incident')}, {figures.resolved} resolved, "
        f"{figures.open} open"
    )


def markdown(day: Day) -> str:
    """The artifact: the day, the measures of the day and of two weeks, charts."""
    long_ago = day.now - timedelta(days=CHART_DAYS)
    today = measure(day.lives, since=day.since, now=day.now)
    weeks = measure(day.lives, since=long_ago, now=day.now)
    parts = [
        f"# {headline(day)}",
        f"From {_at(day.since)} until {_at(day.now)}.",
        *_images(day),
        "## Ahead",
        "\n".join(f"- **{name}** {as_markdown(value, 600)}" for name, value in _ahead(day)),
        "## New since the last digest",
        _lives(_of_day(day)),
        "## Still open",
        _lives([life for life in day.lives if _is_open(life, day.now)]),
        "## How well alerts work",
        table(
            ["Measure", "Since the last digest", f"{CHART_DAYS} days"],
            [
                [name, short, long]
                for (name, short), (_, long) in zip(_figures(today), _figures(weeks), strict=True)
            ],
        ),
        "*False alarms* resolve within 15 minutes: the block `AlertPolicy` can wait for what "
        "lasts. *Time to detect* counts from the first sign.",
    ]
    return "\n\n".join(parts) + "\n"


def _of_day(day: Day) -> list[Life]:
    return [life for life in day.lives if life.opened_at > day.since and not life.merged]


def _is_open(life: Life, now: datetime) -> bool:
    return life.resolved_at is None or life.resolved_at > now


def _said(life: Life) -> str:
    return words.headline(life.kind) or health_name(life.kind)


def _figures(figures: Measures) -> list[tuple[str, str]]:
    return [
        ("New incidents", str(figures.opened)),
        ("Resolved", str(figures.resolved)),
        ("First messages", str(figures.messages)),
        ("Not announced", str(figures.withheld) if figures.withheld else "—"),
        ("Time to detect", _spread(figures.detect)),
        ("Time to reconnect", _spread(figures.reconnect)),
        ("Time to resolve, others", _spread(figures.resolve)),
        ("Resolved automatically", _share(figures.alone)),
        ("Acknowledged", _share(figures.acknowledged)),
        ("Time to acknowledge", _spread(figures.acknowledge)),
        ("False alarms", _share(figures.false_alarm_share)),
    ]


def _fleet(day: Day) -> tuple[int, int]:
    """How many connections are live, and how many of them are not healthy."""
    total = sum(day.fleet.values())
    return total, total - day.fleet.get("healthy", 0)


def _ahead(day: Day) -> list[tuple[str, str]]:
    total, unwell = _fleet(day)
    listed = f", {day.listed:,} only listed as active" if day.listed else ""
    lines = [("Fleet", f"{counted(total, 'live connection')}, {unwell:,} not healthy{listed}")]
    if day.managed:
        lines.append(("Mode", day.managed))
    if day.availability:
        lines.append(("Availability", day.availability))
    measured = sum(day.trust.get(state, 0) for state in ("good", "bad", "none"))
    if measured:
        others = f": {named(day.distrusted, _SHOWN)}" if day.distrusted else ""
        lines.append(
            ("Webhook trust", f"{day.trust.get('good', 0)} of {measured} can be relied on{others}")
        )
    expiry = f"{counted(day.expiring, 'token')} would end within 7 days unless renewed"
    if day.ending:
        one_or_many = "one login ends" if day.ending == 1 else f"{day.ending:,} logins end"
        expiry += f"; {one_or_many} that only the customer can renew"
    lines.append(("Expiry", expiry))
    if day.running:
        slips = f": {'; '.join(day.slips)}" if day.slips else ", all as planned"
        lines.append(("Implementations", f"{day.running} under way{slips}"))
    if day.credits:
        left = [
            f"{available} available" if len(day.credits) == 1 else f"{app}: {available} available"
            for app, available in day.credits.items()
        ]
        lines.append(("Credits (estimate)", "; ".join(left)))
    return lines


def _images(day: Day) -> list[str]:
    days = [day.now.date() - timedelta(days=n) for n in reversed(range(CHART_DAYS))]
    opened = Counter(
        (life.opened_at.date(), life.severity) for life in day.lives if not life.merged
    )
    notified = {
        (life.notified_at.date(), life.message)
        for life in day.lives
        if life.notified_at is not None and life.message
    }
    messages = Counter(at for at, _ in notified)
    by_severity = [(f"{at:%d %b}", [opened[at, name] for name in _SEVERITIES]) for at in days]
    by_day = [(f"{at:%d %b}", [messages[at]]) for at in days]
    return [
        image(
            "Incidents opened by day",
            draw_bars(Bars("Incidents opened", [*_SEVERITIES.items()], by_severity)),
        ),
        image(
            "First messages by day", draw_bars(Bars("First messages", [("messages", BLUE)], by_day))
        ),
    ]


def _lives(lives: Sequence[Life]) -> str:
    if not lives:
        return "None."
    rows = [
        [
            as_markdown(life.title),
            _said(life),
            life.severity,
            _at(life.opened_at),
            duration(life.resolved_at - life.opened_at) if life.resolved_at else "open",
            as_markdown(life.acknowledged_by) if life.acknowledged_by else "",
            as_markdown(life.withheld, 120) if life.withheld else "",
        ]
        for life in lives[:200]
    ]
    header = ["incident", "what", "severity", "since", "lasted", "taken by", "not announced"]
    and_more = f"\n\nand {len(lives) - 200} more" if len(lives) > 200 else ""
    return table(header, rows) + and_more


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "—"
    return f"{duration(spread.median)} (worst {duration(spread.worst)})"


def _share(share: float | None) -> str:
    return "—" if share is None else f"{share:.0%}"


def _at(moment: datetime) -> str:
    return f"{moment:%d %b %H:%M} UTC"


def _news(life: Life, pen: Mrkdwn) -> str:
    state = f"open since {pen.moment(life.opened_at)}"
    if life.resolved_at:
        ended = "ended as its app was removed," if life.is_unwatched else "resolved"
        state = f"{ended} after {duration(life.resolved_at - life.opened_at)}"
    suppressed = " (not announced)" if life.withheld else ""
    return f"• {pen.text(life.title, 80)} — {_said(life)}: {state}{suppressed}"


def _fitting(lines: Sequence[str], room: int) -> list[str]:
    """The first of `lines` that fit into `room`, and how many more there are."""
    shown = len(lines[:_SHOWN])
    while True:
        remaining = len(lines) - shown
        kept = [*lines[:shown], *([f"and {remaining} more"] if remaining else [])]
        if not shown or _width(kept) <= room:
            return kept
        shown -= 1


def _width(lines: Sequence[str]) -> int:
    return sum(width(line) + 1 for line in lines)


_LONGEST = timedelta(days=7)
_SAME_DAY = timedelta(hours=12)
_NEXT_DAY = timedelta(hours=18)


async def gather(store: Store, apps: Mapping[str, AppConfig], *, now: datetime) -> Day:
    """What happened since the last digest that was said: a day at least, a week at most.

    The first one in a month has the availability of the month before, whichever day that is.
    """
    async with store.read() as session:
        last = await _last_said(session)
        managed = managed_sentence(
            (await count_managed(session, apps)).values(), await name_rules(session)
        )
    said_at = last.created_at if last is not None else now - timedelta(days=1)
    if now - said_at < _SAME_DAY:
        said_at = now - timedelta(days=1)  # asked for again on the same day
    since = max(said_at, now - _LONGEST)
    day = await read_day(store, since=since, charts_since=now - timedelta(days=CHART_DAYS), now=now)
    day = replace(day, managed=managed)
    if (said_at.year, said_at.month) == (now.year, now.month):
        return day
    before = await read_month(store, f"{now.replace(day=1) - timedelta(days=1):%Y-%m}", now=now)
    return replace(day, availability=sentence(before))


async def say_digest(store: Store, day: Day, links: Links) -> str:
    """Say it in Slack, once a day; returns its ordering key.

    Days are counted in UTC, but one that comes most of a day after the last is another day's: in a
    zone whose clocks change, two days at the same local time may end on one day in UTC.
    """
    ordering_key = f"slack:say:digest:{day.now:%Y-%m-%d}"
    payload: dict[str, Any] = {"do": "say", "text": headline(day), "mrkdwn": slack_text(day, links)}
    payload |= said_about("digest")
    async with store.write() as session:
        last = await _last_said(session)
        if last is not None and last.dedupe_key == ordering_key:
            ordering_key += ":2" if day.now - last.created_at >= _NEXT_DAY else ""
        message = Message("slack", ordering_key, payload, kind="digest")
        await enqueue(store, session, [message], now=day.now)
    return ordering_key


async def _last_said(session: AsyncSession) -> Outbox | None:
    return await session.scalar(
        select(Outbox)
        .where(col(Outbox.channel) == "slack", is_a("digest"))
        .order_by(col(Outbox.created_at).desc())
        .limit(1)
    )
