"""Delivers the flow's messages, now and visibly; the consumer is the fallback."""

from collections.abc import Sequence
from typing import Any

from prefect import get_client, get_run_logger
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from linekeeper.incidents.announce import incident_ordering_key
from linekeeper.notify.channels import known_as, troubles
from linekeeper.notify.routing import channels_of
from linekeeper.outbox.backlog import why_not_delivered
from linekeeper.outbox.senders.slack import deliver_due
from linekeeper.sweep.recent import looking
from tasks.prefect_adapter.current import current_run
from tasks.prefect_adapter.links import find_links
from tasks.run import runtime
from tasks.task import StillFailing, task


class NotDelivered(StillFailing):
    """Something is still to be sent; the message says why. It stays in the outbox."""


class SlackRefused(NotDelivered):
    """Only a person can fix the reason: trying again at once is in vain."""


async def _passing(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again can help."""
    return not isinstance(await state.aresult(raise_on_failure=False), SlackRefused)


@task(
    name="notify",
    task_run_name="notify",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=3),
    retry_jitter_factor=0.3,
    retry_condition_fn=_passing,
)
async def notify(ordering_keys: Sequence[str]) -> int:
    """Deliver what is due in Slack and return how many messages were sent.

    `ordering_keys` are those under which the flow wrote. Without Slack the log shows what would
    have been sent. Raises `NotDelivered` while something under them is still to be sent; suppress
    it where that must not fail the flow.
    """
    rt, log = runtime(), get_run_logger()
    run = current_run()
    async with get_client() as client:
        links = await find_links(client, run_id=str(run.id) if run else None)
    configuration = await rt.configuration()
    delivered = await deliver_due(rt.store, configuration, rt.owner, links=links, look=looking(rt))
    for text in delivered.unsent:
        log.info("Slack is not configured; this would have been sent:\n%s", text)
    left = await why_not_delivered(rt.store, ordering_keys)
    if left:
        channels = {known_as(name) for name in channels_of(configuration)}
        needs_fix = any(
            trouble.needs_fix for trouble in await troubles(rt.store) if trouble.channel in channels
        )
        kind = SlackRefused if needs_fix else NotDelivered
        raise kind(f"{len(left)} still to be sent: {left[0]}")
    return delivered.sent


def incident_ordering_keys(incident_ids: Sequence[str]) -> list[str]:
    """The ordering keys of everything said about `incident_ids`."""
    return [incident_ordering_key(identifier) for identifier in incident_ids]
