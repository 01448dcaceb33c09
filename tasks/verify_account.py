"""Verifying the account as one task, and its artifact."""

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from linekeeper.clock import utcnow
from linekeeper.runtime import UnknownApp
from linekeeper.verify_account.service import (
    Verification,
    Wish,
    WriteNotConfirmed,
    as_markdown,
    counts,
    verify_account,
)
from tasks.run import runtime
from tasks.task import task


@task(name="ask")
async def ask(app: str, wish: Wish) -> Verification | UnknownApp | WriteNotConfirmed:
    """Ask Makini what is not recorded yet; the log shows each step.

    What is wrong with the form is returned, not raised: the run is refused, and no task is red.
    """
    say = get_run_logger().info
    try:
        return await verify_account(runtime(), app, wish, now=utcnow(), say=say)
    except (UnknownApp, WriteNotConfirmed) as wrong:
        return wrong


async def publish_answers(verification: Verification) -> None:
    """Write the artifact `verify-account`."""
    await acreate_markdown_artifact(
        as_markdown(verification), key="verify-account", description=counts(verification)
    )
