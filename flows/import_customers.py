"""Customers and their contacts from a CSV."""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.text import counted
from tasks.import_customers import import_csv, publish_plan
from tasks.run import open_runtime, refused, rename


@flow(name="import-customers", flow_run_name="import-customers")
@form
async def import_customers(
    csv: Annotated[
        str,
        Field(
            title="CSV",
            description="The file's text, with a line of headings: name, contacts, time zone, "
            "locale, owner, critical. Contacts look like `Ann <ann@acme.example>; bob@…`",
        ),
    ],
    by: Annotated[
        str, Field(title="Your name", description="Who does this; it is kept in the audit")
    ] = "",
    dry_run: Annotated[
        bool, Field(title="Dry run", description="Only say what would change")
    ] = True,
) -> State[Any]:
    """Take customers and their contacts from a CSV; only adds and changes, never removes."""
    async with open_runtime():
        plan = await import_csv(csv, by=by or "import-customers form", dry_run=dry_run)
    await publish_plan(plan, dry_run=dry_run)
    if plan.problems:
        problems = counted(len(plan.problems), "problem")
        await rename(f"import-customers · {problems}, nothing imported")
        problems = "; ".join(str(problem) for problem in plan.problems[:5])
        return refused("csv", problems, "Correct these lines and send the whole file again.")
    outcome = f"{len(plan.create)} new, {len(plan.change)} changed, {plan.unchanged} unchanged"
    await rename(f"import-customers · {'dry run: ' if dry_run else ''}{outcome}")
    return Completed(message=outcome)
