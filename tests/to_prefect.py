"""What is due for Prefect is delivered once, as a consumer that has just started does."""

from linekeeper.orchestrator import Orchestrator
from linekeeper.outbox.senders.prefect import events_to_prefect, runs_to_prefect
from linekeeper.store import Store


async def deliver_events(store: Store, orchestrator: Orchestrator, owner: str) -> bool:
    """Emit the event rows that are due; whether there were any."""
    async with events_to_prefect(store, orchestrator, owner) as dispatcher:
        return bool(await dispatcher.deliver())


async def deliver_runs(store: Store, orchestrator: Orchestrator, owner: str) -> bool:
    """Start or resume the runs whose rows are due; whether there were any."""
    async with runs_to_prefect(store, orchestrator, owner) as dispatcher:
        return bool(await dispatcher.deliver())
