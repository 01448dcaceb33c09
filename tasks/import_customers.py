"""Importing customers, and showing what an import does."""

from prefect.artifacts import acreate_markdown_artifact
from prefect.tasks import exponential_backoff

from linekeeper.clock import utcnow
from linekeeper.customers import importing
from linekeeper.customers.importing import ImportPlan
from linekeeper.views.import_page import import_markdown
from tasks.run import runtime
from tasks.task import task


@task(
    name="import customers",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
)
async def import_csv(csv: str, *, by: str, dry_run: bool) -> ImportPlan:
    """Take over the CSV in one transaction, or with `dry_run` only plan it."""
    return await importing.import_customers(
        runtime().store, csv.encode(), by=by, now=utcnow(), dry_run=dry_run
    )


async def publish_plan(plan: ImportPlan, *, dry_run: bool) -> None:
    """Write the artifact `import-customers`: what was done, or would be."""
    await acreate_markdown_artifact(import_markdown(plan, dry_run=dry_run), key="import-customers")
