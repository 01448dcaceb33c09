"""What the artifact `webhook-trust` says of entities: which can't be read, and which not whole."""

from collections.abc import Sequence

from linekeeper.markdown import text, when
from linekeeper.reconcile.entity_failures import EntityState

MOST_LINES = 200


def entities_markdown(states: Sequence[EntityState]) -> list[str]:
    """The sections about entities of which something is to be said. Pure."""
    return [*_failing(states), *_not_whole(states)]


def _failing(states: Sequence[EntityState]) -> list[str]:
    failing = [state for state in states if state.failure is not None]
    if not failing:
        return []
    table = "| Connection | Entity | Failing | Makini's response |\n|---|---|---|---|"
    for state in failing[:MOST_LINES]:
        since = "" if state.since is None else f", first {when(state.since)}"
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


def _not_whole(states: Sequence[EntityState]) -> list[str]:
    rows = [(state, note) for state in states for note in _notes(state)]
    if not rows:
        return []
    table = "| Connection | Entity | What is known |\n|---|---|---|"
    for state, note in rows[:MOST_LINES]:
        table += f"\n| {text(state.label)} | {text(state.entity)} | {note} |"
    if len(rows) > MOST_LINES:
        table += f"\n| and {len(rows) - MOST_LINES:,} more | | |"
    return ["## Listings that are not the whole", table]


def _notes(state: EntityState) -> list[str]:
    notes = []
    if state.inconsistent and (state.listed or 0) < (state.source_total or 0):
        notes.append(
            f"Inconsistent: {state.listed:,} of {state.source_total:,} records are listed, in "
            "both orders. Nothing is deleted here."
        )
    if state.window_since is not None:
        notes.append(
            f"History window: only what changed since {state.window_since:%Y-%m-%d} is listed. "
            "Whether older records still exist is unknown; none of them is deleted here."
        )
    return notes
