"""Delivery to Slack for who always runs: the consumer."""

from typing import Self

from linekeeper.clock import utcnow
from linekeeper.config import Configuration
from linekeeper.notify.evaluate import Look
from linekeeper.notify.slack_channel import Pacer
from linekeeper.notify.view import Links
from linekeeper.outbox.dispatcher import Dispatcher, MoreIsDue, a_tick
from linekeeper.outbox.senders.slack import PACER, SlackSender
from linekeeper.store.engine import Store


class SlackDelivery:
    """What `deliver_due` does, again and again; `step` waits for no Slack channel that hangs."""

    def __init__(
        self, store: Store, owner: str, *, pacer: Pacer = PACER, look: Look | None = None
    ) -> None:
        self._sender = SlackSender(store, clock=utcnow, pacer=pacer, look=look)
        self._dispatcher = Dispatcher(store, owner, self._sender)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._dispatcher.__aexit__()

    async def evaluate(self, configuration: Configuration, links: Links) -> None:
        """Ask the alert policy what is due to be said."""
        await self._sender.evaluate(configuration, links)

    async def step(self, more_is_due: MoreIsDue = a_tick) -> bool:
        """Deliver what is due; whether there may be more to do."""
        return await self._dispatcher.step(more_is_due)

    @property
    def is_busy(self) -> bool:
        """Whether something is being sent."""
        return self._dispatcher.is_busy
