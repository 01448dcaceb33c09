"""Where is this record, and why was (or wasn't) somebody notified?"""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.customers.find import NotFound
from linekeeper.explain.render import headline
from tasks.explain import explain_subject, publish_explanation
from tasks.run import open_runtime, refused, rename


@flow(name="explain", flow_run_name="explain", retries=0)
@form
async def explain(
    subject: Annotated[
        str,
        Field(
            title="Subject",
            description="Customer · System RECORD-KEY (or the record's number); or the id of a "
            "delivery, change, incident or message",
            min_length=1,
        ),
    ],
) -> State[None]:
    """Follow a record, delivery, change, incident or message through every hop. Only looks.

    The missing hop is named, with its owner and the next step. Result: artifact `explain`.
    """
    async with open_runtime():
        explanation = await explain_subject(subject)
        if isinstance(explanation, NotFound):
            await rename("explain · refused")
            return refused(
                "subject",
                explanation,
                "Enter a record, or the id of a delivery, change, incident or message.",
            )
        await publish_explanation(explanation)
        await rename(f"explain · {headline(explanation)}")
        return Completed(message=f"{explanation.verdict.summary} {explanation.verdict.next_step}")
