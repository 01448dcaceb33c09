"""The doctor's checks as one task, and its table."""

from collections.abc import Sequence

from prefect.artifacts import acreate_table_artifact

from linekeeper.doctor import DoctorFinding, Level, examine, examine_database, worst
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from tasks.prefect_adapter.examination import examine_blocks, examine_prefect
from tasks.task import task

_SIGNS = {Level.ok: "✅", Level.warn: "⚠️", Level.wrong: "❌"}


@task(name="examine")
async def examine_everything(timeout_seconds: float) -> list[DoctorFinding]:
    """Database, keys, apps, Slack, fleet, Prefect and the blocks."""
    settings = Settings()

    async def prefect() -> Sequence[DoctorFinding]:
        return await examine_prefect(settings, seconds=timeout_seconds)

    async def blocks() -> Sequence[DoctorFinding]:
        return await examine_blocks(settings, seconds=timeout_seconds)

    findings = await examine_database(settings, seconds=timeout_seconds)
    if worst(findings) is Level.wrong:
        return [*findings, *await prefect()]
    async with Runtime.open(settings) as rt:
        of_peers = await examine(rt, others=[prefect, blocks], seconds=timeout_seconds)
    return [*findings, *of_peers]


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
