"""Telling others than Slack through Apprise: escalations, and what Slack can't be reached.

Rows of the outbox channel `elsewhere`, one for each URL, so that one that fails is tried again
without the others hearing twice. What is said is composed when it goes out, as things are then.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import apprise

from linekeeper.clock import utcnow
from linekeeper.config import Configuration
from linekeeper.notify import compose
from linekeeper.notify.channels import mark_broken, mark_well
from linekeeper.notify.evaluate import targets
from linekeeper.notify.queries import load_views
from linekeeper.notify.text import Plain, shown
from linekeeper.notify.view import IncidentView, Links
from linekeeper.outbox.queue import claim, dead_letter, postpone, retry_at, settle
from linekeeper.store.engine import Store
from linekeeper.store.tables import Outbox

GIVE_UP_AFTER = timedelta(days=3)
_TIMEOUT_SECONDS = 20.0
_BATCH = 4
_NO_LINKS = Links()
_TEXT_LIMIT = 3_000
_ALARMS_ONLY = frozenset({"pagerduty"})
"""Services in which all that Apprise sends is an alarm of its own: they hear of no end."""
_BRACKETS = {"<": "\u2039", ">": "\u203a", "[": "\uff3b", "]": "\uff3d"}

logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it logs URLs, which are secrets


@dataclass(frozen=True, slots=True)
class Words:
    """What is said elsewhere."""

    title: str
    body: str
    bad: bool = True


async def deliver_elsewhere(
    store: Store,
    configuration: Configuration,
    owner: str,
    *,
    links: Links = _NO_LINKS,
    clock: Callable[[], datetime] = utcnow,
) -> bool:
    """Say what is due elsewhere; returns whether anything was said. Trouble stays in the row."""
    rows = await claim(store, "elsewhere", owner, limit=_BATCH, now=clock())
    if not rows:
        return False
    urls = targets(configuration.alerts.elsewhere)
    ids = [item["incident_id"] for row in rows for item in row.payload.get("items", ())]
    views = await load_views(store, ids)
    said = False
    for row in rows:
        target = str(row.payload.get("target"))
        words = words_of(row, views, now=clock(), links=links)
        if words is None or target not in urls or _needless(urls[target], words):
            await settle(store, [row], owner, now=clock(), became="skipped")
            continue
        trouble = await _send(urls[target], words)
        now = clock()
        if not trouble:
            said = True
            await settle(store, [row], owner, now=now)
            await mark_well(store, f"elsewhere {target}")
            continue
        await mark_broken(store, f"elsewhere {target}", trouble, needs_mending=True, now=now)
        if now - row.created_at > GIVE_UP_AFTER:
            await dead_letter(store, row, owner, f"given up after 3 days: {trouble}", now=now)
        else:
            await postpone(store, [row], owner, trouble, until=retry_at(row.attempts, now=now))
    return said


def words_of(
    row: Outbox, views: Mapping[str, IncidentView], *, now: datetime, links: Links
) -> Words | None:
    """What `row` says as things are now; None if there is nothing left to say."""
    if text := row.payload.get("text"):
        return Words("Linekeeper", Plain().text(str(text), _TEXT_LIMIT, keep_lines=True))
    parts: list[tuple[IncidentView, str]] = []
    for item in row.payload.get("items", ()):
        view = views.get(item["incident_id"])
        step = str(item["step"])
        taken = view is not None and step == "escalation" and view.acknowledged_at is not None
        if view is None or taken or (view.resolved_at is not None and step == "escalation"):
            continue
        calling = compose.plain_reminder(view, step, str(item["why"]), now=now)
        parts.append((view, calling))
    if not parts:
        return None
    bad = any(view.resolved_at is None for view, _ in parts)
    if len(parts) > 1:
        lines = [calling for _, calling in parts]
        title = f"Linekeeper: {len(parts)} incidents"
        return Words(title, "\n".join(lines)[:_TEXT_LIMIT], bad)
    [(view, calling)] = parts
    whole = compose.plain(view, now=now, links=links)
    return Words(f"Linekeeper: {_title(view.title)}", f"{calling}\n\n{whole}", bad)


def _title(raw: str) -> str:
    """A title, in which Apprise escapes nothing: without what some service makes markup of."""
    return shown(raw, escape=lambda character: _BRACKETS.get(character, character))


def _needless(url: str, words: Words) -> bool:
    return not words.bad and url.partition("://")[0].lower() in _ALARMS_ONLY


async def _send(url: str, words: Words) -> str:
    """Hand it over; returns what is wrong, without the URL: it is a secret. Empty: nothing."""
    sender = apprise.Apprise()
    scheme = url.partition("://")[0][:20]
    if not await asyncio.to_thread(sender.add, url):  # the first time loads all plug-ins
        return f"Apprise can't read the URL {scheme}://…: correct it in the AlertPolicy block"
    kind = apprise.NotifyType.FAILURE if words.bad else apprise.NotifyType.SUCCESS
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            taken = await sender.async_notify(
                body=words.body,
                title=words.title,
                notify_type=kind,
                body_format=apprise.NotifyFormat.TEXT,  # else HTML and Markdown are made of names
            )
    except TimeoutError:
        return f"{scheme}://… did not answer within {_TIMEOUT_SECONDS:.0f} s"
    except Exception as error:  # a plug-in's own trouble must not hold up the others
        return f"{scheme}://… failed: {type(error).__name__}"
    return "" if taken else f"{scheme}://… did not take the message: check its URL and its service"
