"""Notifying others than Slack through Apprise: escalations, and what Slack can't be reached.

Rows of the outbox channel `elsewhere`, one for each URL, so that one that fails is tried again
without the others hearing twice. What is said is composed when it goes out, as things are then.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import apprise
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig, Configuration
from linekeeper.notify import compose, compose_others
from linekeeper.notify.channels import mark_broken, mark_well
from linekeeper.notify.evaluate import (
    Look,
    sent_to_fallback_channels,
    targets,
    withheld_from_fallback_channels,
)
from linekeeper.notify.steps import step_in
from linekeeper.notify.view import IncidentView, Links, load_views
from linekeeper.outbox.dispatcher import Dispatcher
from linekeeper.outbox.sender import (
    Ended,
    Failed,
    OutboxRow,
    Partition,
    Result,
    Sender,
    Settlement,
)
from linekeeper.store.engine import Store
from linekeeper.text import Plain, shown

CHANNEL = "elsewhere"
_TEXT_LIMIT = 3_000
_ALARMS_ONLY = frozenset({"pagerduty"})
"""Services in which all that Apprise sends is an alarm of its own: no end is sent to them."""
_BRACKETS = {"<": "\u2039", ">": "\u203a", "[": "\uff3b", "]": "\uff3d"}

logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it logs URLs, which are secrets


@dataclass(frozen=True, slots=True)
class FallbackText:
    """What is said in a fallback channel."""

    title: str
    body: str
    bad: bool = True


def fallback_sender(
    store: Store,
    owner: str,
    configured: Callable[[], Awaitable[Configuration]],
    *,
    links: Callable[[], Links] = Links,
    clock: Callable[[], datetime] = utcnow,
    look: Look | None = None,
) -> Dispatcher:
    """The dispatcher of channel `elsewhere`; `configured` and `links` are asked for each batch."""
    sender = AppriseSender(store, configured, links=links, clock=clock, look=look)
    return Dispatcher(store, owner, sender, clock=clock)


class AppriseSender(Sender):
    """Hands messages to Apprise; each URL is a destination of its own."""

    channel = CHANNEL
    deadline_seconds = 20.0
    longest_pause = 30.0

    def __init__(
        self,
        store: Store,
        configured: Callable[[], Awaitable[Configuration]],
        *,
        links: Callable[[], Links],
        clock: Callable[[], datetime],
        look: Look | None = None,
    ) -> None:
        self._store = store
        self._look = look
        self._configured = configured
        self._urls: Mapping[str, str] = {}
        self._apps: Mapping[str, AppConfig] = {}
        self._links = links
        self._clock = clock
        self._views: Mapping[str, IncidentView] = {}
        self._notified: Collection[tuple[str, str]] = ()
        """The incidents that go on in another one, each with the URLs that were notified of it."""
        self._withheld: Collection[tuple[str, str]] = ()
        """The incidents that are over, each with the URLs to which it was not escalated in time."""

    async def partitions(self) -> Mapping[str, Partition]:
        """All of them: a URL that takes nothing holds up its own messages one by one."""
        configuration = await self._configured()
        self._urls, self._apps = targets(configuration.alerts.elsewhere), configuration.apps
        return {"": Partition()}

    @asynccontextmanager
    async def prepare(self, rows: Sequence[OutboxRow]) -> AsyncIterator[Mapping[str, Result]]:
        """The incidents that `rows` are about."""
        ids = [item["incident_id"] for row in rows for item in row.payload.get("items", ())]
        if self._look is not None:
            await self._look(ids)
        self._views = await load_views(self._store, ids, self._apps)
        merged = [each.id for each in self._views.values() if each.merged_into is not None]
        async with self._store.read() as session:
            self._notified = await sent_to_fallback_channels(session, merged, self._urls)
            over = [each.id for each in self._views.values() if each.resolved_at is not None]
            self._withheld = await withheld_from_fallback_channels(session, over, self._urls)
        yield {}

    def destination(self, row: OutboxRow) -> str:
        """The URL, by the name that rows carry."""
        return str(row.payload.get("target"))

    async def send(self, row: OutboxRow) -> Result:
        """Say what is still worth saying; nothing more goes to a URL that was removed."""
        url = self._urls.get(self.destination(row))
        unnotified = {
            each.id
            for each in self._views.values()
            if (each.id, self.destination(row)) in self._withheld
            or (
                each.merged_into is not None
                and (each.id, self.destination(row)) not in self._notified
            )
        }
        views = {name: view for name, view in self._views.items() if name not in unnotified}
        words = words_of(row, views, now=self._clock(), links=self._links())
        if words is None or url is None or _needless(url, words):
            return Ended("skipped")
        return await _send(url, words)

    def timed_out(self, row: OutboxRow) -> Failed:
        """The service does not answer."""
        scheme = _scheme(self._urls.get(self.destination(row), ""))
        why = f"{scheme}://… did not answer within {self.deadline_seconds:.0f} s"
        return Failed(why, pauses=True)

    async def settled(
        self, session: AsyncSession, settlement: Settlement, *, now: datetime
    ) -> None:
        """Keep which services take messages."""
        for row, ended in settlement.ended:
            if ended.became == "sent":
                await mark_well(session, f"{CHANNEL} {self.destination(row)}")
        for row, failed, _ in settlement.retried:
            name = f"{CHANNEL} {self.destination(row)}"
            await mark_broken(self._store, session, name, failed.why, needs_fix=True, now=now)


def words_of(
    row: OutboxRow, views: Mapping[str, IncidentView], *, now: datetime, links: Links
) -> FallbackText | None:
    """What `row` says as things are now; None if there is nothing left to say."""
    if text := row.dated(now).get("text"):
        return FallbackText("Linekeeper", Plain().text(str(text), _TEXT_LIMIT, keep_lines=True))
    parts: list[tuple[IncidentView, str]] = []
    for item in row.payload.get("items", ()):
        view = views.get(item["incident_id"])
        step = step_in(item)
        taken = view is not None and step.kind == "escalation" and view.acknowledged_at is not None
        if view is None or taken or (view.resolved_at is not None and step.kind != "resolved"):
            continue  # only its end is left to say
        calling = compose_others.plain_reminder(view, step, str(item["why"]), now=now)
        parts.append((view, calling))
    if not parts:
        return None
    bad = any(view.resolved_at is None for view, _ in parts)
    if len(parts) > 1:
        lines = [calling for _, calling in parts]
        title = f"Linekeeper: {len(parts)} incidents"
        return FallbackText(title, "\n".join(lines)[:_TEXT_LIMIT], bad)
    [(view, calling)] = parts
    whole = compose.plain(view, now=now, links=links)
    return FallbackText(f"Linekeeper: {_title(view.title)}", f"{calling}\n\n{whole}", bad)


def can_read(url: str) -> bool:
    """Whether Apprise knows what `url` is for. It logs nothing: what is wrong with it is secret."""
    try:
        return apprise.Apprise().add(url)
    except Exception:  # a plug-in's own trouble with what it can't read, such as `windows://?`
        return False


def _title(raw: str) -> str:
    """A title, in which Apprise escapes nothing: without what some service makes markup of."""
    return shown(raw, escape=lambda character: _BRACKETS.get(character, character))


def _needless(url: str, words: FallbackText) -> bool:
    return not words.bad and url.partition("://")[0].lower() in _ALARMS_ONLY


def _scheme(url: str) -> str:
    return url.partition("://")[0][:20]


async def _send(url: str, words: FallbackText) -> Result:
    """Hand it over; what is wrong is said without the URL: it is a secret."""
    sender, scheme = apprise.Apprise(), _scheme(url)
    # The first time loads all plug-ins.
    if not (await asyncio.to_thread(can_read, url) and sender.add(url)):
        return Failed(
            f"Apprise can't read the URL {scheme}://…: correct it in the AlertPolicy block"
        )
    kind = apprise.NotifyType.FAILURE if words.bad else apprise.NotifyType.SUCCESS
    try:
        taken = await sender.async_notify(
            body=words.body,
            title=words.title,
            notify_type=kind,
            body_format=apprise.NotifyFormat.TEXT,  # else HTML and Markdown are made of names
        )
    except Exception as error:  # a plug-in's own trouble must not hold up the others
        return Failed(f"{scheme}://… failed: {type(error).__name__}", pauses=True)
    if taken:
        return Ended()
    return Failed(f"{scheme}://… did not take the message: check its URL and its service")
