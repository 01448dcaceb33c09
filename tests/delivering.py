"""What is due is delivered once, as a consumer that has just started does."""

from collections.abc import Iterable

from linekeeper.orchestrator import Orchestrator
from linekeeper.outbox.sender import Ended, OutboxRow, Result
from linekeeper.outbox.senders.mail import mailing
from linekeeper.outbox.senders.prefect import events_to_prefect, runs_to_prefect
from linekeeper.runtime import Runtime
from linekeeper.store import Store


async def deliver_events(store: Store, orchestrator: Orchestrator, owner: str) -> bool:
    """Emit the event rows that are due; whether there were any."""
    async with events_to_prefect(store, orchestrator, owner) as dispatcher:
        return bool(await dispatcher.deliver())


async def deliver_runs(store: Store, orchestrator: Orchestrator, owner: str) -> bool:
    """Start or resume the runs whose rows are due; whether there were any."""
    async with runs_to_prefect(store, orchestrator, owner) as dispatcher:
        return bool(await dispatcher.deliver())


async def deliver_mail(rt: Runtime) -> bool:
    """Send the mails that are due; whether any was."""
    async with mailing(rt) as dispatcher:
        return is_any_sent(await dispatcher.deliver())


def is_any_sent(results: Iterable[tuple[OutboxRow, Result]]) -> bool:
    """Whether a message was sent, of those in `results`."""
    return any(isinstance(each, Ended) and each.became == "sent" for _, each in results)
