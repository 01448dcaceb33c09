"""What was found in the first quarter of an hour, for a meeting."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.views.first_report import FIRST_REPORT, first_report_markdown, read_first_report
from tasks.reconnect import publish
from tasks.run import open_runtime, rename


@flow(name="first-report", flow_run_name="first-report", retries=0)
@form
async def first_report() -> State[None]:
    """Write what is known of the fleet, and what Linekeeper would tell whom, into one artifact.

    It reads the database alone and makes no call to Makini. Tokens, addresses of people and
    contents of records are not in it.
    """
    async with open_runtime() as rt:
        report = await read_first_report(rt, now=utcnow())
        await publish(FIRST_REPORT, first_report_markdown(report), description="The first report")
    await rename("first-report")
    return Completed(message=f"See the artifact {FIRST_REPORT}")
