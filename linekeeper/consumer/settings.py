"""Block settings, copied into the database, where every part reads them (DESIGN "Three kinds")."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from linekeeper.orchestrator import Blocks, Orchestrator
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.configuration import load_configuration, save_blocks


class BrokenBlocks(Exception):
    """Some blocks don't make sense; `good` are the others.

    `problems` says what is wrong for each name of a broken one: `app:<name>`, `slack`,
    `slack:<name>`, `policy`, `alerts` or `mail`.
    """

    def __init__(self, good: Blocks, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.good = good
        self.problems = problems


async def copy_blocks(
    store: Store, settings: Settings, orchestrator: Orchestrator, *, now: datetime
) -> bool:
    """Copy the blocks as they are now; returns whether anything was different.

    Raises `BrokenBlocks` after copying the others: of a broken block the old copy stays. Raises
    `OrchestratorUnavailable` having changed nothing.
    """
    try:
        blocks = await orchestrator.read_blocks()
    except BrokenBlocks as error:
        old = await load_configuration(store, settings)
        kept = [app for name, app in old.apps.items() if f"app:{name}" in error.problems]
        channels = {
            name: channel
            for name, channel in old.slack_channels.items()
            if f"slack:{name}" in error.problems
        }
        await save_blocks(
            store,
            replace(
                error.good,
                apps=[*error.good.apps, *kept],
                slack=old.slack if "slack" in error.problems else error.good.slack,
                slack_channels={**error.good.slack_channels, **channels},
                policy=old.policy if "policy" in error.problems else error.good.policy,
                alerts=old.alerts if "alerts" in error.problems else error.good.alerts,
                mail=old.mail if "mail" in error.problems else error.good.mail,
            ),
            now=now,
        )
        raise
    return await save_blocks(store, blocks, now=now)
