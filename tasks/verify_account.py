"""Verifying the account as one task, and its artifact."""

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from linekeeper.clock import utcnow
from linekeeper.verify_account.report import as_markdown, counts
from linekeeper.verify_account.service import Verification, Wish, verify_account
from tasks.run import runtime
from tasks.task import task


@task(name="ask")
async def ask(app: str, wish: Wish) -> Verification:
    """Ask Makini what is not recorded yet; the log shows each step."""
    logger = get_run_logger()
    return await verify_account(runtime(), app, wish, now=utcnow(), say=logger.info)


async def publish_answers(found: Verification) -> None:
    """Write the artifact `verify-account`."""
    await acreate_markdown_artifact(
        as_markdown(found), key="verify-account", description=counts(found)
    )
