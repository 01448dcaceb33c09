"""Every setting and peer, and what to fix."""

from collections.abc import Sequence
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.doctor import DoctorFinding, Level
from linekeeper.incidents.announce import say
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.text import sentences
from linekeeper.views.first_report import FIRST_REPORT, first_report_markdown, read_first_report
from tasks.doctor import examine_everything, publish_findings
from tasks.notify import notify
from tasks.reconnect import publish
from tasks.run import open_runtime, rename


@flow(name="doctor", flow_run_name="doctor")
@form
async def doctor(
    test_message: Annotated[
        str,
        Field(
            title="Test message",
            description="Send this to the Slack channel, the way incidents go, instead of "
            "checking; empty: check",
            examples=["This is a test. Nothing is wrong."],
        ),
    ] = "",
    first_report: Annotated[
        bool,
        Field(
            title="First report",
            description="Write the artifact `first-report`, too: what was found in the first "
            "quarter of an hour, to bring to a meeting. No call is made to Makini for it",
        ),
    ] = False,
    timeout_seconds: Annotated[
        float, Field(title="Time-out", description="Seconds, for each check", gt=0)
    ] = 10.0,
) -> State[Any]:
    """Check every setting and peer and say what to fix; or send a test message to Slack.

    The checks only look and change nothing. The first report reads the database alone.
    """
    if test_message.strip():
        return await _send(test_message.strip())
    findings = await examine_everything(timeout_seconds)
    await publish_findings(findings)
    if ("database", Level.ok) not in {(finding.name, finding.level) for finding in findings}:
        return await _conclude(findings)
    async with open_runtime() as rt:  # so that red by what it found is not taken for broken
        if first_report:
            await _write_first_report(rt)
        return await _conclude(findings)


async def _conclude(findings: Sequence[DoctorFinding]) -> State[Any]:
    """How the run ends, and what it is called from then on."""
    wrong = [finding for finding in findings if finding.level is Level.wrong]
    if wrong:
        await rename(f"doctor · {len(wrong)} wrong")
        return Failed(message=sentences(f"{finding.name}: {finding.text}" for finding in wrong))
    warnings = sum(finding.level is Level.warn for finding in findings)
    await rename(f"doctor · {warnings} to look at" if warnings else "doctor · all healthy")
    return Completed(message=f"{len(findings)} checks, {warnings} to look at, nothing wrong")


async def _write_first_report(rt: Runtime) -> None:
    """What is known of the fleet, and whom Linekeeper would notify, as an artifact.

    Tokens, addresses of people and contents of records are not in it.
    """
    report = await read_first_report(rt, now=utcnow())
    await publish(FIRST_REPORT, first_report_markdown(report), description="The first report")


async def _send(message: str) -> State[Any]:
    """Send one message to the Slack channel; it fails where Slack refuses it."""
    subject = f"test-message:{new_id()}"
    async with open_runtime() as rt:
        async with rt.store.write() as session:
            await say(rt.store, session, subject, message, utcnow())
        await notify([f"slack:say:{subject}"])
        slack = (await rt.configuration()).slack
    if slack is None:
        await rename("doctor · Slack is not configured")
        return Completed(message="Slack is not configured; the log shows what would be sent")
    await rename("doctor · test message sent")
    return Completed(message=f"Sent to {slack.channel}")
