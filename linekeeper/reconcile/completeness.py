"""Whether the index holds what the source has, per connection and entity. Pure.

Both numbers are of the last whole listing: the source's own total, where it says one, and the live
records here right after it. What has changed since is in neither.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from sqlmodel import Field

from linekeeper.answers import Answer, UtcTime
from linekeeper.reconcile.entity_failures import EntityState

Unknown = Literal["not_compared", "no_total", "window", "failing", "recounted"]
"""Why it can't be known: never listed whole yet; the source says no total; its listing holds only
what changed since some day; the entity can't be read at present; the source's total
has changed since by another number than what was read explains."""

State = Literal["agrees", "differs", "unknown"]
_ORDER: Mapping[State, int] = {"differs": 0, "unknown": 1, "agrees": 2}


class Completeness(Answer):
    """One entity of one connection."""

    connection: str = Field(description="Linekeeper's id of it")
    label: str = Field(description="`Customer · System`")
    entity: str
    state: State
    source: int | None = Field(
        description="How many records the source said it has; null where it says no total"
    )
    here: int | None = Field(description="Live records of the index")
    compared_at: UtcTime | None = Field(description="Start of the listing both numbers are of")
    agreed_at: UtcTime | None = Field(description="When the two were the same for the last time")
    unknown: tuple[Unknown, ...] = Field(description="Why it can't be known whether they agree")


def completeness_of(entity: EntityState) -> Completeness:
    """What is known of the number of records of one entity."""
    unknown: list[Unknown] = []
    if entity.compared_at is None:
        unknown.append("not_compared")
    elif entity.source_total is None:
        unknown.append("no_total")
    if entity.window_since is not None:
        unknown.append("window")
    if entity.failure is not None:
        unknown.append("failing")
    if entity.count_difference:
        unknown.append("recounted")
    state: State = "unknown"
    if not unknown:
        state = "agrees" if entity.indexed == entity.source_total else "differs"
    return Completeness(
        connection=entity.connection_id,
        label=entity.label,
        entity=entity.entity,
        state=state,
        source=entity.source_total if entity.compared_at is not None else None,
        here=entity.indexed,
        compared_at=entity.compared_at,
        agreed_at=entity.agreed_at,
        unknown=tuple(unknown),
    )


def worst_first(entities: Sequence[EntityState]) -> list[Completeness]:
    """All of them, those that differ first, then those of which it can't be known."""
    completeness = [completeness_of(entity) for entity in entities]
    return sorted(completeness, key=lambda each: (_ORDER[each.state], each.label, each.entity))


def count_states(states: Sequence[Completeness]) -> Mapping[str, int]:
    """How many agree, differ and can't be known."""
    counts = dict.fromkeys(("agrees", "differs", "unknown"), 0)
    for each in states:
        counts[each.state] += 1
    return counts
