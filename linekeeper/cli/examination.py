"""Everything the doctor looks at, Prefect and its blocks included."""

from collections.abc import Sequence

from linekeeper.cli.doctor_blocks import examine_blocks
from linekeeper.cli.doctor_prefect import examine_prefect
from linekeeper.doctor import Finding, Level, examine, examine_database, worst
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings


async def examine_everything(settings: Settings, *, seconds: float) -> list[Finding]:
    """Database, keys, apps, Slack, fleet, Prefect and the blocks; each may take `seconds`."""

    async def prefect() -> Sequence[Finding]:
        return await examine_prefect(settings, seconds=seconds)

    async def blocks() -> Sequence[Finding]:
        return await examine_blocks(settings, seconds=seconds)

    findings = await examine_database(settings, seconds=seconds)
    if worst(findings) is Level.wrong:
        return [*findings, *await prefect()]
    async with Runtime.open(settings) as rt:
        return [*findings, *await examine(rt, others=[prefect, blocks], seconds=seconds)]
