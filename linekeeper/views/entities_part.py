"""What is known of the entities of each connection, for the artifact `webhook-trust`."""

from collections.abc import Sequence
from datetime import datetime

from linekeeper.markdown import ago, text
from linekeeper.reconcile.entity_failures import EntityState

MOST_LINES = 200


def entities_markdown(states: Sequence[EntityState], now: datetime) -> list[str]:
    """The section about entities that can't be read; nothing where all can. Pure."""
    failing = [state for state in states if state.failure is not None]
    if not failing:
        return []
    table = "| Connection | Entity | Failing | Makini's response |\n|---|---|---|---|"
    for state in failing[:MOST_LINES]:
        since = "" if state.since is None else f", first {ago(state.since, now)}"
        table += (
            f"\n| {text(state.label)} | {text(state.entity)} | {state.failures} times in a row"
            f"{since} | {text(state.error, 300)} |"
        )
    if len(failing) > MOST_LINES:
        table += f"\n| and {len(failing) - MOST_LINES:,} more | | | |"
    return [
        "## Entities that can't be read",
        "Each fails alone: the others of its connection are read, and its login is not in doubt.",
        table,
    ]
