"""Steps of the health sweep: list, probe a batch, name who is in trouble."""

import logging
from collections.abc import Sequence
from datetime import datetime

from prefect import get_run_logger
from prefect.context import TaskRunContext

from linekeeper.customers.adopt import Adoption
from linekeeper.sweep.batch import ProbeBatch, probe_batch
from linekeeper.sweep.sweep import take_list
from tasks.run import runtime
from tasks.task import StillFailing, retry_policy, task

RETRIES = 2


def _without_empty_traceback(record: logging.LogRecord) -> bool:
    """Prefect logs a returned failure with the traceback of an exception there isn't."""
    if record.exc_info and record.exc_info[0] is None:
        record.exc_info = None
    return True


logging.getLogger("prefect.task_runs").addFilter(_without_empty_traceback)


@task(
    name="list-connections",
    task_run_name="list connections of {app}",
    **retry_policy(retries=RETRIES, first_wait=2, minutes=15),
)
async def list_connections(app: str, now: datetime, *, accept_missing: bool = False) -> Adoption:
    """Read the app's list and adopt what is new. Raises `MakiniError`."""
    rt = runtime()
    adoption = await take_list(rt, await rt.app(app), now=now, accept_missing=accept_missing)
    logger = get_run_logger()
    logger.info("%s: %d known, %d new", app, adoption.known, len(adoption.new))
    for name in adoption.new[:50]:
        logger.info("adopted %s", name)
    if adoption.truncated:
        logger.warning("%s: %s", app, adoption.truncated)
    return adoption


@task(
    name="probe-connections",
    task_run_name="probe {app}, batch {number}",
    **retry_policy(retries=RETRIES, first_wait=3, minutes=30),
)
async def probe_connections(
    app: str, number: int, ids: Sequence[str], started: datetime
) -> ProbeBatch:
    """Probe the members of a batch that nobody has checked since `started`.

    Raises `StillFailing` while some may still answer on a further try; on the last one a miss is an
    observation and the task completes.
    """
    rt = runtime()
    context = TaskRunContext.get()
    last_try = context is None or context.task_run.run_count > RETRIES
    batch = await probe_batch(rt, await rt.app(app), ids, started=started, last_try=last_try)
    get_run_logger().info(
        "batch %d of %s: %d answered, %d missed, %d to try again, %d skipped",
        number,
        app,
        batch.answered,
        batch.missed,
        batch.unanswered,
        batch.skipped,
    )
    if batch.unanswered:
        raise StillFailing(f"{batch.unanswered} of {len(ids)} did not answer")
    return batch
