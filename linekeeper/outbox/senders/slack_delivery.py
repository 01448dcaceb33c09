"""Delivery to Slack for who always runs: the consumer."""

from linekeeper.clock import utcnow
from linekeeper.config import Configuration
from linekeeper.notify.evaluate import Look
from linekeeper.notify.slack_channel import Pacer
from linekeeper.notify.view import Links
from linekeeper.outbox.dispatcher import Dispatcher
from linekeeper.outbox.senders.slack import PACER, SlackSender
from linekeeper.store.engine import Store


class SlackDelivery(Dispatcher):
    """What `deliver_due` does, again and again; `step` waits for no Slack channel that hangs."""

    def __init__(
        self, store: Store, owner: str, *, pacer: Pacer = PACER, look: Look | None = None
    ) -> None:
        self._slack = SlackSender(store, clock=utcnow, pacer=pacer, look=look)
        super().__init__(store, owner, self._slack)

    async def evaluate(self, configuration: Configuration, links: Links) -> None:
        """Ask the alert policy what is due to be said."""
        await self._slack.evaluate(configuration, links)
