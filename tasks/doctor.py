"""The doctor's checks as one task, and its table."""

from collections.abc import Sequence

from prefect.artifacts import acreate_table_artifact

from linekeeper.doctor import DoctorFinding, Level
from linekeeper.settings import Settings
from tasks.prefect_adapter import examination
from tasks.task import task

_SIGNS = {Level.ok: "✅", Level.warn: "⚠️", Level.wrong: "❌"}


@task(name="examine")
async def examine_everything(timeout_seconds: float) -> list[DoctorFinding]:
    """Database, keys, apps, Slack, fleet, Prefect and the blocks."""
    return await examination.examine_everything(
        Settings(), seconds=timeout_seconds, environment=False
    )


async def publish_findings(findings: Sequence[DoctorFinding]) -> None:
    """Write the artifact `doctor`."""
    order = [Level.wrong, Level.warn, Level.ok]
    await acreate_table_artifact(
        [
            {
                "": _SIGNS[finding.level],
                "What": finding.name,
                "Found": finding.text,
                "To fix": finding.fix,
            }
            for finding in sorted(findings, key=lambda finding: order.index(finding.level))
        ],
        key="doctor",
    )
