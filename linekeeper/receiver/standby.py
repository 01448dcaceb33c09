"""The receiver watches the other parts, and notifies while no consumer does."""

import asyncio
import logging

from linekeeper.clock import utcnow
from linekeeper.groups import task_group
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.runtime import Runtime
from linekeeper.store.leases import holding
from linekeeper.sweep.recent import looking
from linekeeper.sweep.webhooks import watch_stream
from linekeeper.watch.answers import own_address
from linekeeper.watch.queries import is_consumed
from linekeeper.watch.service import Watcher, after_of

LEASE = "standby"
STREAM_SECONDS = 20.0
log = logging.getLogger(__name__)


class Standby:
    """The watch of one receiver. Where the outbox is not delivered, it delivers what is for Slack.

    The dispatcher is the consumer's; a lease lets one receiver at a time do it. However long that
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
            loops.create_task(self._stand_in(), name="standby")

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

    async def _stand_in(self) -> None:
        while True:
            await self._database_works.wait()
            try:
                await self.deliver_if_nobody_does()
            except Exception as error:
                # Whatever it was, this receiver lives, and tries again.
                log.warning("standing in for the consumer: %s", type(error).__name__)
            await asyncio.sleep(self._watcher.seconds)

    async def deliver_if_nobody_does(self) -> bool:
        """Deliver one batch where no consumer lives or messages are overdue; whether it did."""
        store = self._rt.store
        if await is_consumed(store, self._after):
            return False
        async with holding(store, LEASE, self._rt.owner) as held:
            if held is None:
                return False
            configuration = await self._rt.configuration()
            await deliver_due(store, configuration, self._rt.owner, look=looking(self._rt))
            # Last, and within bounds: where the table of webhooks is locked, notices still go out.
            async with asyncio.timeout(STREAM_SECONDS):
                await watch_stream(self._rt, utcnow())
        return True

    async def end(self) -> None:
        """Say that this receiver ends in good order."""
        await self._watcher.end()
