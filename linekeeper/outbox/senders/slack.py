"""Slack: what the alert policy lets through is rendered as things are now, and sent."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.clock import utcnow
from linekeeper.config import Configuration, SlackConfig
from linekeeper.incidents.announce import counts_key, first_key, show_key
from linekeeper.notify.about import channels_of_messages
from linekeeper.notify.channels import (
    gather_burst,
    hold_channel,
    known_as,
    mark_broken,
    suppress_backlog,
)
from linekeeper.notify.evaluate import Look, evaluate_alerts
from linekeeper.notify.outage import (
    before_a_try,
    decide_after_quiet,
    decided_before,
    is_back,
)
from linekeeper.notify.plain import said
from linekeeper.notify.refusals import ENTRY_TRIES, UNANSWERED_WAIT, SlackTrouble, unreachable
from linekeeper.notify.renderer import InvalidMessage, Renderer
from linekeeper.notify.routing import (
    DEFAULT,
    EarlierMessageWaits,
    First,
    channels_of,
    due_messages,
    first_notices,
    incidents_of,
    trouble_of,
    withheld_texts,
)
from linekeeper.notify.situations import NoticeDecision
from linekeeper.notify.slack_channel import Pacer, open_channel
from linekeeper.notify.view import IncidentView, Links, load_views
from linekeeper.outbox.dispatcher import Dispatcher
from linekeeper.outbox.queue import OUTBOX
from linekeeper.outbox.sender import (
    Ended,
    Failed,
    OutboxRow,
    Partition,
    Refusal,
    Result,
    Sender,
    Settlement,
)
from linekeeper.reconnect.remind import put_off
from linekeeper.store.engine import Store

CHANNEL = "slack"
PACER = Pacer()
"""The pace of this process in each Slack channel."""


@dataclass(slots=True)
class Delivered:
    """What became of the rows that were due; `unsent` would have been said if Slack were there."""

    sent: int = 0
    unsent: list[str] = field(default_factory=list)


async def deliver_due(
    store: Store,
    configuration: Configuration,
    owner: str,
    *,
    clock: Callable[[], datetime] = utcnow,
    limit: int = 50,
    links: Links | None = None,
    pacer: Pacer = PACER,
    look: Look | None = None,
) -> Delivered:
    """Deliver up to `limit` messages that are due; without Slack their texts are in `unsent`.

    Each is said at least once, in a form in which a repeat is harmless. Trouble with Slack is
    never raised: the row stays, with the reason, and is tried again. Errors of the database are
    raised. First the alert policy is asked what is due to be said; what it holds back is settled
    unsaid, and its first notice will show all of it. What is known of it may be hours old after a
    time in which nothing of Linekeeper ran: `look` asks then.
    """
    sender = SlackSender(store, clock=clock, pacer=pacer, look=look)
    await sender.evaluate(configuration, links or Links())
    async with Dispatcher(store, owner, sender, clock=clock) as dispatcher:
        await dispatcher.drain(limit)
    return sender.delivered


class SlackSender(Sender):
    """Says rows of channel `slack`, each in the Slack channel that is theirs.

    Each Slack channel is a destination of its own, and its messages a partition: one that takes
    nothing, or hangs, holds up only its own.
    """

    channel = CHANNEL
    cut_off_seconds = UNANSWERED_WAIT

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], datetime],
        pacer: Pacer,
        look: Look | None = None,
    ) -> None:
        self._store = store
        self._look = look
        self._configuration = Configuration()
        self._decided = NoticeDecision()
        self._channels: Mapping[str, SlackConfig] = {}
        self._links = Links()
        self._clock = clock
        self._pacer = pacer
        self._partition_of: dict[str, str] = {}  # the Slack channel that each row was due for
        self._views: dict[str, IncidentView] = {}
        self._firsts: dict[str, First] = {}
        self._names: dict[str, str] = {}  # the Slack channel of each row
        self._renderers: dict[str, Renderer] = {}
        self._away: set[str] = set()  # the Slack channels that took nothing when it began
        self._later: set[str] = set()  # they wait for one that tries a channel that took nothing
        self._quiet: dict[str, list[str]] = {}  # notices of rows from before quiet hours, held now
        self._trouble: dict[str, SlackTrouble] = {}  # of a whole channel, by the row that met it
        self.delivered = Delivered()

    async def evaluate(self, configuration: Configuration, links: Links) -> None:
        """Ask the alert policy what is due to be said; what is sent from now on goes by these."""
        self._configuration, self._links = configuration, links
        self._channels = channels_of(configuration)
        self._decided = await self._decide()

    async def _decide(self) -> NoticeDecision:
        return await evaluate_alerts(
            self._store, self._configuration, now=self._clock(), look=self._look
        )

    async def partitions(self) -> Mapping[str, Partition]:
        """One for each Slack channel: the messages that are due for it now."""
        if len(self._channels) < 2:
            return {name: Partition(None, _address(self._channels, name)) for name in (DEFAULT,)}
        due = await due_messages(self._store, now=self._clock())
        firsts = await self._notified(incidents_of(due.values()))
        ids: dict[str, list[str]] = {name: [] for name in (*self._channels, DEFAULT)}
        names = await self._names_of(list(due.values()), firsts)
        for row_id, name in zip(due, names, strict=True):
            self._partition_of[row_id] = name
            ids[name].append(row_id)
        return {
            name: Partition(OUTBOX.c.id.in_(rows), _address(self._channels, name))
            for name, rows in ids.items()
        }

    @asynccontextmanager
    async def prepare(self, rows: Sequence[OutboxRow]) -> AsyncIterator[Mapping[str, Result]]:
        """The incidents of `rows`, and what is not to be said of them."""
        name, now = self._partition_of.get(rows[0].id, DEFAULT), self._clock()
        self._away.discard(name)
        if (trouble := await trouble_of(self._store, known_as(name))) is not None:
            self._away.add(name)
            claimed = [row.id for row in rows]
            await before_a_try(self._store, name, trouble.since, unsent=claimed, now=now)
            self._later |= {row.id for row in rows[1:] if now - row.due_since < self.gives_up_after}
        known = await self._withheld(rows)
        is_quiet = self._configuration.alerts.quiet.holds(now)
        if is_quiet and (trouble is None or not trouble.needs_fix):
            self._quiet |= await decided_before(self._store, rows)
        left = [row for row in rows if row.id not in known]
        names = await self._names_of([row.payload for row in left], self._firsts)
        for row, name in zip(left, names, strict=True):
            self._names[row.id] = name
            if name not in self._channels:
                known[row.id] = await self._unsent(row)
        async with AsyncExitStack() as stack:
            for name in {self._names[row.id] for row in rows if row.id not in known}:
                slack = self._channels[name]
                channel = await stack.enter_async_context(open_channel(slack, self._pacer))
                links = replace(self._links, buttons=slack.has_buttons)
                self._renderers[name] = Renderer(
                    self._store, channel, links, self._clock, self._configuration.apps
                )
            yield known

    def not_before(self, row: OutboxRow, now: datetime) -> datetime | None:
        """What is for a customer's working hours waits for the next. A row that turned out to be
        another Slack channel's is claimed anew, for that."""
        name = self._names.get(row.id, DEFAULT)
        if row.id in self._later or self._partition_of.get(row.id, name) != name:
            return now
        zone = row.payload.get("zone")
        return None if zone is None else put_off(now, zone, row.payload.get("ends", ()))

    async def _names_of(
        self, payloads: Sequence[Mapping[str, Any]], firsts: Mapping[str, First]
    ) -> list[str]:
        """Their Slack channels; `default` for one that is not there any more."""
        announced = [firsts.get(payload.get("incident_id", "")) for payload in payloads]
        others = [each for each, first in zip(payloads, announced, strict=True) if first is None]
        of = self._store, others, self._channels
        routed = iter(await channels_of_messages(*of) if others else [])
        names = [next(routed) if first is None else first.slack_channel for first in announced]
        return [name if name in self._channels else DEFAULT for name in names]

    def destination(self, row: OutboxRow) -> str:
        """The Slack channel."""
        return self._names.get(row.id, DEFAULT)

    async def _notified(self, ids: Collection[str]) -> dict[str, First]:
        async with self._store.read() as session:
            return await first_notices(session, ids)

    async def _withheld(self, rows: Sequence[OutboxRow]) -> dict[str, Result]:
        """What the policy suppresses: the first notice will contain it. Reads the incidents."""
        ids = set(incidents_of(row.payload for row in rows))
        if self._look is not None:
            await self._look(ids)
        firsts = await self._notified(ids)
        held = self._decided.held.keys() | self._decided.never.keys()
        decided = (ids & held) - firsts.keys()
        views = await load_views(self._store, ids - decided, self._configuration.apps)
        if views.keys() - firsts.keys():  # news since the policy was asked
            again = await self._decide()
            again.never = self._decided.never | again.never
            self._decided = again
            firsts = await self._notified(ids)
        unannounced = decided | (views.keys() - firsts.keys())
        self._views |= views
        self._firsts |= firsts
        return {
            row.id: Ended("suppressed", self._decided.reason(row.payload["incident_id"]))
            for row in rows
            if row.payload.get("incident_id") in unannounced
        }

    async def _unsent(self, row: OutboxRow) -> Result:
        """Settle a row without Slack: what would have been said stays in it."""
        try:
            view, now = self._view(row), self._clock()
            text = await said(
                self._store, row, view, now=now, links=self._links, apps=self._configuration.apps
            )
        except InvalidMessage as reason:
            return Failed(str(reason), is_final=True)
        self.delivered.unsent.append(text)
        return Ended("skipped", text, covers=await self._overtaken(row))

    async def send(self, row: OutboxRow) -> Result:
        """Say it: post or edit a message, or write into its thread."""
        renderer = self._renderers[self.destination(row)]
        try:
            row = await gather_burst(self._store, row, now=self._clock())
            first = self._firsts.get(row.payload.get("incident_id", ""))
            view, group_key = self._view(row), first.group_key if first else None
            if row.id in self._quiet and not await renderer.is_posted(row, view, group_key):
                return Ended("superseded", "it waits for the end of quiet hours")
            is_said = await renderer.say(row, view, group_key)
        except SlackTrouble as trouble:
            return self._failed(row, trouble)
        except InvalidMessage as reason:
            return Failed(str(reason), is_final=True)
        except EarlierMessageWaits as reason:
            return Failed(str(reason), wait=reason.wait)
        if not is_said:
            return Ended("superseded", "another message covers it")
        return Ended(covers=await self._overtaken(row))

    def timed_out(self, row: OutboxRow) -> Failed:
        text = f"not within {self.deadline_seconds:.0f} s"
        return self._failed(row, unreachable(text, may_stand=True))

    def _failed(self, row: OutboxRow, trouble: SlackTrouble) -> Failed:
        view, does = self._view(row), row.payload.get("do")
        if pauses := trouble.reach == "channel":
            self._trouble[row.id] = trouble
        elif does not in ("show", "group"):  # what its message becomes doesn't wait for an entry
            return Failed(str(trouble), is_final=row.attempts >= ENTRY_TRIES)
        is_kept = does == "show" and view is not None and not view.resolved_at
        may_stand = trouble.may_stand or row.refusal == "unanswered"
        met: Refusal | None = "unanswered" if may_stand else None
        return Failed(str(trouble), trouble.wait, is_kept=is_kept, pauses=pauses, refusal=met)

    def _view(self, row: OutboxRow) -> IncidentView | None:
        return self._views.get(row.payload.get("incident_id", ""))

    async def _overtaken(self, row: OutboxRow) -> list[str]:
        """Rows with no more news than it; the first notice has what was suppressed before."""
        view, revision = self._view(row), row.payload.get("revision")
        if view is None or revision is None:
            return []
        later = range(revision + 1, view.revision + 1)
        if "counts" in row.payload:
            return [counts_key(view.id, each) for each in later]
        shows = [show_key(view.id, each) for each in later]
        has_earlier = await withheld_texts(self._store, row.ordering_key)
        return shows if has_earlier else [*shows, first_key(view.id)]

    async def settled(
        self, session: AsyncSession, settlement: Settlement, *, now: datetime
    ) -> None:
        """Keep whether the channel takes messages: then others are notified instead."""
        took = set()
        for row, ended in settlement.ended:
            if ended.became == "suppressed":
                await suppress_backlog(session, row, ended.note, now=now)
            elif ended.became == "sent":
                self.delivered.sent += 1
                took.add(self.destination(row))
            elif row.id in self._quiet:
                await decide_after_quiet(session, row, self._quiet[row.id], now=now)
                took.add(self.destination(row))
        for name in took & self._away:
            is_only = len(self._channels) < 2
            await is_back(session, name, is_only=is_only, unsent=self._later, now=now)
        failed = [(row, failed.why, until) for row, failed, until in settlement.retried]
        for row, why, again in [*failed, *((row, why, None) for row, why in settlement.dead)]:
            if (trouble := self._trouble.pop(row.id, None)) is None:
                continue
            until = again or now + timedelta(seconds=trouble.wait or 0.0)
            name, lasts = self.destination(row), not trouble.passing
            only = name if len(self._channels) > 1 else None
            await hold_channel(session, why, until=until, only=only)
            if not trouble.is_brief:
                kept = known_as(name)
                await mark_broken(self._store, session, kept, why, needs_fix=lasts, now=now)

    def forget(self, rows: Sequence[OutboxRow]) -> None:
        """These are settled, or will be claimed anew."""
        for row in rows:
            self._names.pop(row.id, None)
            self._partition_of.pop(row.id, None)
            self._later.discard(row.id)
            self._quiet.pop(row.id, None)
        for incident_id in incidents_of(row.payload for row in rows):
            self._views.pop(incident_id, None)
            self._firsts.pop(incident_id, None)


def _address(channels: Mapping[str, SlackConfig], name: str) -> str:
    slack = channels.get(name)
    return f"{slack.api_url} {slack.channel}" if slack is not None else ""
