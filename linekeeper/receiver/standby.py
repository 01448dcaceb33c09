"""The receiver watches the other parts, and notifies while no consumer does."""

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from linekeeper.clock import utcnow
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.runtime import Runtime
from linekeeper.store import KeyProblem
from linekeeper.store.leases import LeaseLost, holding
from linekeeper.sweep.webhooks import watch_stream
from linekeeper.watch.answers import own_address
from linekeeper.watch.backlog import is_consumed
from linekeeper.watch.service import Watcher, after_of

LEASE = "standby"
_TROUBLE = (SQLAlchemyError, OSError, KeyProblem, LeaseLost)
log = logging.getLogger(__name__)


class Standby:
    """The watch of one receiver. Where the outbox is not delivered, it delivers what is for Slack.

    The dispatcher is the consumer's; a lease lets one receiver at a time do it.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._watcher = Watcher(runtime, "receiver", address=own_address(runtime.settings))
        self._after = after_of(runtime.settings)

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            if await self._watcher.step() is not None:
                try:
                    await self.deliver_if_nobody_does()
                except _TROUBLE as error:
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
            await watch_stream(self._rt, utcnow())
            configuration = await self._rt.configuration()
            await deliver_due(store, configuration, self._rt.owner)
        return True

    async def end(self) -> None:
        """Say that this receiver ends in good order."""
        await self._watcher.end()
