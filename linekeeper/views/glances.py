"""What `linekeeper status` says of records, webhooks and the inbox, in a line each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.reconcile.completeness import count_states, worst_first
from linekeeper.reconcile.entity_failures import EntityState
from linekeeper.reconcile.trust import WINDOW
from linekeeper.store.tables import Connection, WebhookTrust
from linekeeper.text import duration
from linekeeper.views.entities_part import completeness_sentence
from linekeeper.views.webhook_figures import Figures

MOST = 1_000


@dataclass(frozen=True, slots=True)
class RecordsGlance:
    """Completeness of the whole fleet."""

    states: Mapping[str, int]
    """How many entities of connections agree, differ and can't be known."""
    entities: Sequence[Mapping[str, Any]]
    """The first `MOST`, worst first (`Completeness.as_json`)."""
    sentence: str


def records_at_a_glance(states: Sequence[EntityState]) -> RecordsGlance:
    """The same of `states`. Pure."""
    completeness = worst_first(states)
    return RecordsGlance(
        count_states(completeness),
        tuple(each.as_json() for each in completeness[:MOST]),
        completeness_sentence(completeness),
    )


@dataclass(frozen=True, slots=True)
class WebhooksGlance:
    """What changed at the sources, each change once, by what came of its delivery."""

    days: int
    in_time: int
    late: int
    """The changes that the sender announced late: found by reading before the delivery came."""
    caught_up: int
    """Changed in an outage of our own."""
    lost: int
    states: Mapping[str, int]
    """How many connections' webhooks are `good`, `bad`, `none` or `unknown`."""

    @property
    def sentence(self) -> str:
        """The same in one line."""
        return (
            f"webhooks of {self.days} days: {self.in_time:,} in time, {self.late:,} late by the "
            f"sender, {self.caught_up:,} backfilled after our own outages, {self.lost:,} lost"
        )


async def webhooks_at_a_glance(session: AsyncSession) -> WebhooksGlance:
    """Return the figures as measured last, of the connections that there are."""
    rows = await session.execute(
        select(
            col(WebhookTrust.state),
            func.count(),
            func.sum(col(WebhookTrust.webhooks_seen)),
            func.sum(col(WebhookTrust.late)),
            func.sum(col(WebhookTrust.caught_up)),
            func.sum(col(WebhookTrust.missed)),
        )
        .join(Connection, col(Connection.id) == col(WebhookTrust.connection_id))
        .where(col(Connection.setup) != "disconnected")
        .group_by(col(WebhookTrust.state))
        .order_by(col(WebhookTrust.state))
    )
    states: dict[str, int] = {}
    sums = [0, 0, 0, 0]
    for state, connections, *numbers in rows:
        states[state] = int(connections)
        sums = [total + int(number or 0) for total, number in zip(sums, numbers, strict=True)]
    in_time, late, caught_up, lost = sums
    return WebhooksGlance(WINDOW.days, in_time, late, caught_up, lost, states)


@dataclass(frozen=True, slots=True)
class InboxGlance:
    """Webhooks that are not applied, of all apps."""

    pending: int
    """Those that wait to be applied, or to be tried again."""
    oldest_seconds: int
    """The age of the oldest that was due and not tried yet; 0: there is none."""
    dead: int
    """Those that were given up and not replayed since."""
    unrouted: int
    """Those of the last day that name no connection that is known."""

    @property
    def sentence(self) -> str:
        """One line of `linekeeper status`."""
        waiting = f"{self.pending:,} pending"
        if self.oldest_seconds:
            waiting += f", the oldest due for {_age(self.oldest_seconds)}"
        return f"inbox: {waiting}, {self.dead:,} dead, {self.unrouted:,} unrouted in a day"


def inbox_at_a_glance(figures: Figures) -> InboxGlance:
    """The inbox as `figures` show it. Pure."""
    oldest = min((each.oldest_at for each in figures.streams if each.oldest_at), default=None)
    age = max((figures.at - oldest).total_seconds(), 0.0) if oldest else 0.0
    return InboxGlance(
        pending=figures.total("pending"),
        oldest_seconds=int(age),
        dead=figures.dead_total,
        unrouted=figures.total("unrouted"),
    )


def _age(seconds: int) -> str:
    return f"{seconds} s" if seconds < 60 else duration(timedelta(seconds=seconds))
