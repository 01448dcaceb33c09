"""How far the webhooks of the whole fleet could be relied on over the last days, in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.reconcile.trust import WINDOW
from linekeeper.store.tables import Connection, WebhookTrust


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
