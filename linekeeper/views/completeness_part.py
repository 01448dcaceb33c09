"""What `webhook-trust` says of completeness: records at the source and here. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from linekeeper.markdown import text, when
from linekeeper.reconcile.completeness import Completeness, Unknown, count_states

MOST_LINES = 200
_STATES = {"agrees": "🟢 agrees", "differs": "🔴 differs", "unknown": "⚪ can't be known"}
WHY: Mapping[Unknown, str] = {
    "not_compared": "never listed whole yet",
    "no_total": "the source says no total",
    "window": "the listing is a history window; older records may exist",
    "failing": "it can't be read at present",
}


def completeness_sentence(found: Sequence[Completeness]) -> str:
    """One line over all of them."""
    counts = count_states(found)
    return (
        f"Of {len(found):,} entities {counts['agrees']:,} have as many records here as the source "
        f"says it has, {counts['differs']:,} have not, and of {counts['unknown']:,} it can't be "
        "known"
    )


def completeness_markdown(found: Sequence[Completeness]) -> list[str]:
    """The section; `found` comes worst first."""
    if not found:
        return []
    table = (
        "| Connection | Entity | At the source | Here | | Compared | Last agreed | Not known |\n"
        "|---|---|--:|--:|---|---|---|---|"
    )
    for each in found[:MOST_LINES]:
        table += (
            f"\n| {text(each.label)} | {text(each.entity)} | {_number(each.source)} "
            f"| {_number(each.here)} | {_STATES[each.state]} | {_time(each.compared_at)} "
            f"| {_time(each.agreed_at)} | {'; '.join(WHY[why] for why in each.unknown)} |"
        )
    if len(found) > MOST_LINES:
        table += f"\n| and {len(found) - MOST_LINES:,} more | | | | | | | |"
    return [
        "## Completeness",
        f"{completeness_sentence(found)}. Both numbers are of the last whole listing.",
        table,
    ]


def _number(number: int | None) -> str:
    return "—" if number is None else f"{number:,}"


def _time(at: datetime | None) -> str:
    return "never" if at is None else when(at)
