"""A vantage belongs to the worker that has it: its daily preflight is sent to that worker."""

from collections.abc import Sequence
from dataclasses import dataclass

from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import WorkQueueStatus
from prefect.exceptions import ObjectNotFound

from linekeeper.clock import utcnow
from linekeeper.preflight.verdict import vantage_queue
from tasks.prefect_adapter.names import full_name
from tasks.preflight import PREFLIGHT
from tasks.task import task


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the vantages of other workers."""

    to: list[str]
    """Workers that have a run of their own now."""
    unattended: list[str]
    """Workers whose queue nobody polls: what they proved was not checked."""

    def __str__(self) -> str:
        sentences = [f"sent to {', '.join(self.to)}"] if self.to else []
        sentences += [
            f"not checked is what the worker {worker} proved, as no worker polls the queue "
            f"{vantage_queue(worker)}"
            for worker in self.unattended
        ]
        return "; ".join(sentences)


@task(name="send-vantages", task_run_name="send to other workers")
async def send_vantages(workers: Sequence[str]) -> Sent:
    """Start today's preflight of each of `workers`, on the queue that only it polls."""
    sent = Sent([], [])
    async with get_client() as client:
        for worker in workers:
            started = await _start(client, worker)
            (sent.to if started else sent.unattended).append(worker)
    return sent


async def _start(client: PrefectClient, worker: str) -> bool:
    try:
        deployment = await client.read_deployment_by_name(full_name(PREFLIGHT))
        queue = await client.read_work_queue_by_name(
            vantage_queue(worker), work_pool_name=deployment.work_pool_name
        )
    except ObjectNotFound:
        return False
    if queue.status is not WorkQueueStatus.READY:
        return False
    await client.create_flow_run_from_deployment(
        deployment.id,
        name=f"preflight · {worker}",
        parameters={"worker": worker},
        work_queue_name=queue.name,
        idempotency_key=f"preflight:{worker}:{utcnow():%Y-%m-%d}",
    )
    return True
