"""Importing customers, and showing what an import does."""

from prefect.artifacts import acreate_markdown_artifact
from prefect.tasks import exponential_backoff

from linekeeper.clock import utcnow
from linekeeper.customers import importing
from linekeeper.customers.importing import ImportPlan
from tasks.run import runtime
from tasks.task import task

SHOWN = 200
"""Lines of each kind in the artifact."""


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
    parts = [
        ("Problems; nothing is imported", [str(problem) for problem in plan.problems]),
        ("Would be new" if dry_run else "New", [str(step) for step in plan.create]),
        ("Would change" if dry_run else "Changed", [str(step) for step in plan.change]),
        ("Nobody to notify: no contact", list(plan.without_contact)),
    ]
    text = [f"{plan.unchanged} customers of the file are as it says."]
    for title, lines in parts:
        if lines:
            and_more = [f"- and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
            text += [
                f"### {title} ({len(lines)})",
                *(f"- {line}" for line in lines[:SHOWN]),
                *and_more,
            ]
    await acreate_markdown_artifact("\n".join(text), key="import-customers")
