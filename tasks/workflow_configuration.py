"""Steps of configuring a connection: write, read the first time, webhooks, a clean reconcile."""

from dataclasses import dataclass

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from linekeeper.clock import utcnow
from linekeeper.customers.find import Named
from linekeeper.implementation.watch import advance_connection
from linekeeper.text import counted
from linekeeper.workflow_configuration import service
from linekeeper.workflow_configuration.decide import WantedConfiguration, how_configured
from tasks.run import runtime
from tasks.task import StillFailing, retry_policy, task


@dataclass(frozen=True, slots=True)
class Writing:
    """What is to be written, by whom, by which run, and whether Linekeeper started that run."""

    wanted: WantedConfiguration
    by: str
    run_id: str
    for_gate: bool


@task(name="write-settings")
async def write_settings(connection: Named, writing: Writing) -> None:
    """Write what the connection is read for from now on."""
    await service.configure(
        runtime(),
        connection,
        writing.wanted,
        by=writing.by,
        run_id=writing.run_id,
        for_gate=writing.for_gate,
        now=utcnow(),
    )
    standing = await service.load_standing(runtime(), connection.id)
    get_run_logger().info("%s: %s", standing.label, how_configured(standing.settings))


@task(name="first-read", **retry_policy(retries=3, first_wait=5, minutes=120))
async def first_read(connection_id: str) -> None:
    """List every entity whole. What can't be listed now is waited for by the flow."""
    run = await service.read_connection(runtime(), connection_id)
    for failure in run.failures:
        get_run_logger().warning("%s: %s", failure.entity, failure.message)
    if any(failure.retryable for failure in run.failures):
        raise StillFailing(f"{run.failures[0].entity}: {run.failures[0].message}")


@task(name="verify-first-read")
async def verify_first_read(connection_id: str) -> None:
    """Keep that every entity was listed whole, and settle the gate that this proves."""
    rt, log = runtime(), get_run_logger()
    standing = await service.load_standing(rt, connection_id)
    listed = sum(standing.marks[entity].listed or 0 for entity in standing.entities)
    evidence = f"{standing.summary}. All listed whole: {counted(listed, 'record')}."
    log.info("%s", evidence)
    await service.note_step(rt, connection_id, "first_read", evidence=evidence, now=utcnow())
    for progress in await advance_connection(rt.store, connection_id, now=utcnow()):
        log.info("%s moves on", progress.standing.implementation.title)


@task(name="verify-webhooks")
async def verify_webhooks(connection_id: str) -> None:
    """Keep that a webhook of every entity was processed, or is not waited for."""
    rt = runtime()
    standing = await service.load_standing(rt, connection_id)
    await service.note_step(rt, connection_id, "webhooks", now=utcnow())
    get_run_logger().info("Webhooks seen: %s", ", ".join(sorted(standing.delivered)) or "none")
    if standing.undelivered:
        get_run_logger().warning("Not waited for: %s", ", ".join(standing.undelivered))


@task(name="clean-reconcile", **retry_policy(retries=2, first_wait=5, minutes=60))
async def clean_reconcile(connection_id: str) -> State[None]:
    """Read what changed; it ends `Drift found` if the webhooks had not brought all of it.

    Where not all could be read it ends `Not read`: nothing is known of what they brought.
    """
    rt = runtime()
    run = await service.read_connection(rt, connection_id)
    counts = run.counts
    differences = counts.missed + counts.mismatched + counts.deleted
    clean = not differences and not run.failures and run.readings > 0
    get_run_logger().info("%d listings, %d not brought by webhooks", run.readings, differences)
    if clean:
        await service.note_step(rt, connection_id, "reconcile", now=utcnow())
        return Completed()
    if not differences:
        why = [f"{failure.entity}: {failure.message}" for failure in run.failures]
        return Completed(name="Not read", message="; ".join(why) or "nothing was read")
    return Completed(
        name="Drift found", message=f"{counted(differences, 'change')} no webhook had brought"
    )


@task(name="conclude")
async def conclude(connection_id: str) -> None:
    """Keep that the configuration is verified."""
    await service.note_step(runtime(), connection_id, "verified", now=utcnow())
