"""What the artifact `webhook-trust` says of entities: which can't be read, and which not whole."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from linekeeper.markdown import text, when
from linekeeper.reconcile.completeness import Completeness, Unknown, count_states
from linekeeper.reconcile.entity_failures import EntityState, listing_breaks_off
from linekeeper.reconcile.recount import relist_at
from linekeeper.text import counted

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
        "Each fails alone: the others of its connection are read, and its login is not in doubt. "
        "Only a call limit holds for all of a connection.",
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
    if state.broken_off is not None:
        notes.append(listing_breaks_off(state))
    elif state.inconsistent and (state.listed or 0) < (state.source_total or 0):
        notes.append(
            f"Inconsistent: {state.listed:,} of {state.source_total:,} records are listed, in "
            "both orders. Nothing is deleted here."
        )
    if state.count_difference:
        notes.append(_recounted(state, state.count_difference))
    if state.window_since is not None:
        notes.append(
            f"History window: only what changed since {state.window_since:%Y-%m-%d} is listed. "
            "Whether older records still exist is unknown; none of them is deleted here."
        )
    return notes


def _recounted(state: EntityState, difference: int) -> str:
    came = "came to" if difference > 0 else "went from"
    again = relist_at(state.full_at, state.source_total)
    when_listed = "" if again is None else f", {when(again)} at the earliest"
    return (
        f"By its own total {counted(abs(difference), 'record')} {came} the source without a new "
        f"time of change. Which is found when everything is listed again{when_listed}."
    )


_STATES = {"agrees": "🟢 agrees", "differs": "🔴 differs", "unknown": "⚪ can't be known"}
WHY: Mapping[Unknown, str] = {
    "not_compared": "never listed whole yet",
    "no_total": "the source says no total",
    "window": "the listing is a history window; older records may exist",
    "failing": "it can't be read at present",
    "recounted": "the source's total has changed by another number than what was read",
}


def completeness_sentence(states: Sequence[Completeness]) -> str:
    """One line over all of them."""
    counts, all_of_them = count_states(states), counted(len(states), "entity")
    agreeing = "have as many records here as at the source"
    if counts["agrees"] == len(states) > 1:
        return f"All {all_of_them} {agreeing}"
    said = [f"{counts['agrees']:,} of {all_of_them} {agreeing}"]
    said += [f"{counts['differs']:,} differ"] if counts["differs"] else []
    said += [f"of {counts['unknown']:,} it is not known"] if counts["unknown"] else []
    return "; ".join(said)


def completeness_markdown(states: Sequence[Completeness]) -> list[str]:
    """The section; `states` come worst first."""
    if not states:
        return []
    table = (
        "| Connection | Entity | At the source | Here | | Compared | Last agreed | Not known |\n"
        "|---|---|--:|--:|---|---|---|---|"
    )
    for each in states[:MOST_LINES]:
        table += (
            f"\n| {text(each.label)} | {text(each.entity)} | {_number(each.source)} "
            f"| {_number(each.here)} | {_STATES[each.state]} | {_time(each.compared_at)} "
            f"| {_time(each.agreed_at)} | {'; '.join(WHY[why] for why in each.unknown)} |"
        )
    if len(states) > MOST_LINES:
        table += f"\n| and {len(states) - MOST_LINES:,} more | | | | | | | |"
    return [
        "## Completeness",
        f"{completeness_sentence(states)}. Both numbers are of the last whole listing.",
        table,
    ]


def _number(number: int | None) -> str:
    return "—" if number is None else f"{number:,}"


def _time(at: datetime | None) -> str:
    return "never" if at is None else when(at)
