"""One message to Slack, to see that it arrives."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.incidents.announce import say
from linekeeper.store import new_id
from tasks.notify import notify
from tasks.run import open_runtime, rename


@flow(name="test-alert", flow_run_name="test-alert")
@form
async def test_alert(
    message: str = "This is a test alert. Nothing is wrong.",  # noqa: PT028 - a flow, not a test
) -> State[Any]:
    """Send one message to the Slack channel, the way incidents go.

    Args:
        message: What the channel will read.
    """
    subject = f"test-alert:{new_id()}"
    async with open_runtime() as rt:
        async with rt.store.write() as session:
            await say(rt.store, session, subject, message, utcnow())
        await notify([f"slack:say:{subject}"])
        slack = (await rt.configuration()).slack
    if slack is None:
        await rename("test-alert · Slack is not configured")
        return Completed(message="Slack is not configured; the log shows what would be sent")
    await rename("test-alert · sent")
    return Completed(message=f"Sent to {slack.channel}")
