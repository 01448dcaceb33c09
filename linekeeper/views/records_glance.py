"""Whether what is here is what the sources have, as `linekeeper status` says it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from linekeeper.reconcile.completeness import count_states, worst_first
from linekeeper.reconcile.entity_failures import EntityState
from linekeeper.views.entities_part import completeness_sentence

MOST = 1_000


@dataclass(frozen=True, slots=True)
class RecordsGlance:
    """Completeness of the whole fleet."""

    states: Mapping[str, int]
    """How many entities of connections agree, differ and can't be known."""
    entities: Sequence[Mapping[str, Any]]
    """The first `MOST`, worst first (`Completeness.as_json`)."""
    sentence: str


def records_at_a_glance(states: Sequence[EntityState]) -> RecordsGlance:
    """The same of `states`. Pure."""
    completeness = worst_first(states)
    return RecordsGlance(
        count_states(completeness),
        tuple(each.as_json() for each in completeness[:MOST]),
        completeness_sentence(completeness),
    )
