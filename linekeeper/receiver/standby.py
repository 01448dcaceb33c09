"""The receiver watches the other parts, and where no consumer lives, it does what can't wait."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from linekeeper.clock import utcnow
from linekeeper.groups import task_group
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.runtime import Runtime
from linekeeper.store.leases import holding
from linekeeper.sweep.recent import looking
from linekeeper.sweep.webhooks import watch_stream
from linekeeper.watch.answers import own_address
from linekeeper.watch.decide import QUIET_AFTER
from linekeeper.watch.queries import consumer_lives, is_delivered
from linekeeper.watch.service import Watcher, after_of, has_watched_enough, watch

LEASE = "standby"
STREAM_LEASE = "standby stream"
STREAM_EVERY = 30.0
STREAM_SECONDS = 20.0
"""How long a look at the stream may take; it is given up then, and begun anew."""
ABSENT_AFTER = timedelta(minutes=1)
"""A consumer says that it lives every few seconds: none has looked at the stream since then."""
log = logging.getLogger(__name__)


class Standby:
    """The watch of one receiver. Where no consumer lives it looks at the stream of webhooks, and
    delivers what is for Slack; the latter also where a consumer doesn't.

    Both are the consumer's; a lease for each lets one receiver at a time do it. However long that
    takes, the receiver's own heartbeat goes on.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._watcher = Watcher(runtime, "receiver", address=own_address(runtime.settings))
        self._after = after_of(runtime.settings)
        self._database_works = asyncio.Event()

    async def run(self) -> None:
        """Go on until cancelled."""
        async with task_group() as loops:
            loops.create_task(self._watch(), name="watch of the receiver")
            loops.create_task(
                self._stand_in(self.deliver_if_nobody_does, self._watcher.seconds), name="standby"
            )
            loops.create_task(
                self._stand_in(self.look_if_nobody_consumes, STREAM_EVERY), name="standby stream"
            )

    async def _watch(self) -> None:
        while True:
            try:
                seen = await self._watcher.step()
            except Exception as error:
                # Whatever it was, the watch goes on: nobody else would notice that it had ended.
                log.error("watching the other parts: %s", type(error).__name__)
                seen = None
            if seen is None:
                self._database_works.clear()
            else:
                self._database_works.set()
            await asyncio.sleep(self._watcher.seconds)

    async def _stand_in(self, act: Callable[[], Awaitable[bool]], seconds: float) -> None:
        while True:
            await self._database_works.wait()
            try:
                await act()
            except Exception as error:
                # Whatever it was, this receiver lives, and tries again.
                log.warning("standing in for the consumer: %s", type(error).__name__)
            await asyncio.sleep(seconds)

    async def deliver_if_nobody_does(self) -> bool:
        """Deliver one batch where no consumer lives or messages are overdue; whether it did."""
        store, gone_after = self._rt.store, min(QUIET_AFTER, self._after)
        if await consumer_lives(store, gone_after) and await is_delivered(store, self._after):
            return False
        async with holding(store, LEASE, self._rt.owner) as held:
            if held is None:
                return False
            configuration = await self._rt.configuration()
            await deliver_due(store, configuration, self._rt.owner, look=looking(self._rt))
        return True

    async def look_if_nobody_consumes(self) -> bool:
        """Look at the stream of webhooks where no consumer lives that would; whether it did.

        Not before somebody has watched for long enough to know that none does.
        """
        lives = await consumer_lives(self._rt.store, min(ABSENT_AFTER, self._after))
        if lives or not await has_watched_enough(self._rt):
            return False
        async with holding(self._rt.store, STREAM_LEASE, self._rt.owner) as held:
            if held is None:
                return False
            async with asyncio.timeout(STREAM_SECONDS):
                await watch_stream(self._rt, utcnow())
            await watch(self._rt)  # that no consumer lives is why
        return True

    async def end(self) -> None:
        """Say that this receiver ends in good order."""
        await self._watcher.end()
