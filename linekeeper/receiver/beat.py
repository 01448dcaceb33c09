"""What the receiver does beside receiving, every ten seconds: heartbeat, counts, configuration."""

import asyncio
import logging
from collections.abc import Awaitable
from datetime import datetime, timedelta

from sqlalchemy import bindparam, update

from linekeeper.clock import utcnow
from linekeeper.inbox.tally import Tally
from linekeeper.receiver.webhooks import Apps
from linekeeper.reconcile.feed import FeedReads
from linekeeper.runtime import Runtime
from linekeeper.store import Store, new_id
from linekeeper.store.tables import ReceiverHeartbeat
from linekeeper.store.types import Id, UtcDateTime, table_of

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
STEP_SECONDS = 8.0
GAP_SECONDS = 30.0
"""Silent for longer than this, a receiver begins a new span."""

_BEATS = table_of(ReceiverHeartbeat)
_GOES_ON = (
    update(_BEATS)
    .where(_BEATS.c.id == bindparam("span", type_=Id))
    .values(at=bindparam("now", type_=UtcDateTime))
)


class Heartbeat:
    """The spans in which this receiver could store (`receiver_heartbeat`)."""

    def __init__(self, receiver: str) -> None:
        self._receiver = receiver
        self._span: str | None = None
        self._last: datetime | None = None

    async def beat(self, store: Store, *, now: datetime) -> None:
        """Note that it can store at `now`; raises if it can't."""
        if self._last is None or not timedelta() <= now - self._last <= _GAP:
            self._span = None
        async with store.write() as session:
            if self._span is None:
                span = new_id()
                session.add(ReceiverHeartbeat(id=span, receiver=self._receiver, since=now, at=now))
            else:
                span = self._span
                await session.execute(_GOES_ON, {"span": span, "now": now})
        self._span, self._last = span, now


_GAP = timedelta(seconds=GAP_SECONDS)


class Beat:
    """The background work of one receiver; a step that fails is tried again at the next beat."""

    def __init__(self, runtime: Runtime, apps: Apps, tally: Tally) -> None:
        self.feed_reads = FeedReads()
        """What the product's API notes of reads of the change feed; written at the next beat."""
        self._runtime = runtime
        self._apps = apps
        self._tally = tally
        self._heartbeat = Heartbeat(runtime.owner)

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(BEAT_SECONDS)

    async def once(self) -> None:
        """One round."""
        store = self._runtime.store
        await _try("heartbeat", self.can_store(), STEP_SECONDS)
        await _try("counts", self._tally.flush(store, now=utcnow()), STEP_SECONDS)
        await _try("feed reads", self.feed_reads.flush(store), STEP_SECONDS)
        await _try("calls to Makini", self._runtime.count_calls(), STEP_SECONDS)
        refresh = self._apps.refresh(store, self._runtime.settings)
        await _try("configuration", refresh, STEP_SECONDS)

    async def last(self) -> None:
        """Before the end: write what was counted, if the database takes it within a second."""
        store = self._runtime.store
        await _try("counts", self._tally.flush(store, now=utcnow()), 1.0)
        await _try("feed reads", self.feed_reads.flush(store), 1.0)

    async def can_store(self) -> None:
        """Write the heartbeat; raises if the database takes no writes."""
        await self._heartbeat.beat(self._runtime.store, now=utcnow())


async def _try(what: str, step: Awaitable[None], seconds: float) -> None:
    try:
        # Not `wait_for`: until Python 3.12 it loses a cancellation that comes as the step is done.
        async with asyncio.timeout(seconds):
            await step
    except Exception as error:
        # Whatever it was, receiving goes on with what it has; a driver's message may quote values.
        log.warning("receiver: %s: %s; trying again", what, type(error).__name__)
