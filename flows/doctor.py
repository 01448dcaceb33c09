"""Every setting and peer, and what to mend."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.form import form
from linekeeper.doctor import Level, worst
from tasks.doctor import examine_everything, publish_findings
from tasks.run import rename


@flow(name="doctor", flow_run_name="doctor")
@form
async def doctor(timeout_seconds: float = 10.0) -> State[Any]:
    """Check every setting and peer and say what to fix. Only looks, changes nothing.

    Args:
        timeout_seconds: How long each check may take.
    """
    findings = await examine_everything(timeout_seconds)
    await publish_findings(findings)
    wrong = [finding for finding in findings if finding.level is Level.wrong]
    if worst(findings) is Level.wrong:
        await rename(f"doctor · {len(wrong)} wrong")
        return Failed(message="; ".join(f"{one.name}: {one.text}" for one in wrong[:5]))
    warnings = sum(finding.level is Level.warn for finding in findings)
    await rename(f"doctor · {warnings} to look at" if warnings else "doctor · all healthy")
    return Completed(message=f"{len(findings)} checks, {warnings} to look at, nothing wrong")
