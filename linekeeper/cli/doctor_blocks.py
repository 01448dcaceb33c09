"""What the doctor says about the blocks: read as the consumer reads them, valid or not."""

import asyncio
from collections.abc import Sequence

from linekeeper.cli.orchestrator import PrefectOrchestrator
from linekeeper.consumer.settings import BrokenBlocks
from linekeeper.doctor.finding import Finding, ok, wrong
from linekeeper.orchestrator import OrchestratorUnavailable
from linekeeper.settings import Settings


async def examine_blocks(settings: Settings, *, seconds: float) -> Sequence[Finding]:
    """What is to be said about the blocks; nothing where Prefect is away: others say so."""
    try:
        async with asyncio.timeout(seconds), PrefectOrchestrator.open(settings) as orchestrator:
            blocks = await orchestrator.read_blocks()
    except BrokenBlocks as error:
        mend = "correct it in the Prefect UI; until then its last good copy counts"
        return [wrong(f"block {name}", text, mend) for name, text in error.problems.items()]
    except (OrchestratorUnavailable, TimeoutError):
        return []
    names = [f"app {app.name}" for app in blocks.apps]
    names += [
        name
        for name, block in (
            ("Slack", blocks.slack),
            ("policy", blocks.policy),
            ("alerts", blocks.alerts),
            ("mail", blocks.mail),
        )
        if block is not None
    ]
    names += [f"Slack channel {name}" for name in sorted(blocks.slack_channels)]
    return [ok("blocks", ", ".join(names) or "none is filled in: the settings count")]
