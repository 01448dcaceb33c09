"""Explaining one subject, as a task, and its artifact."""

from prefect import get_client

from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound
from linekeeper.explain.answer import Explanation
from linekeeper.explain.render import KEY, headline, markdown
from linekeeper.explain.service import explain
from tasks.report import put_artifact
from tasks.run import runtime
from tasks.task import task


@task(name="explain-subject", task_run_name="follow {subject}")
async def explain_subject(subject: str) -> Explanation | NotFound:
    """Follow `subject` through every hop; or what comes near it.

    That is returned, not raised: the run is refused, and none of its tasks is red.
    """
    rt = runtime()
    try:
        return await explain(rt.store, await rt.configuration(), subject, now=utcnow())
    except NotFound as nothing:
        return nothing


async def publish_explanation(explanation: Explanation) -> None:
    """Write the artifact `explain`."""
    async with get_client() as client:
        description = headline(explanation)
        await put_artifact(client, KEY, markdown(explanation), description=description)
