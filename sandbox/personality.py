"""How a system's listings may be as bad as Makini's contract allows; each is a fault that is set.

A coarse clock, a history window, overlapping pages, a page cap, deleted records that stay listed,
an entity that is refused. Set by `POST /_control/settings`, for all connections: `{"clock": "day",
"history_days": 60, "overlap": 2, "most_listed": 50, "deleted": "listed", "refused":
"eam/assets=403"}`; empty text fixes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .answers import Refused
from .records import Collection, iso, parse_moment

if TYPE_CHECKING:
    from .world import World

_CLOCKS = {"minute": 60_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}
_CODES = {403: "FORBIDDEN", 404: "NOT_FOUND", 500: "INTERNAL_ERROR", 503: "UNAVAILABLE"}


def refuse(world: World, entity: str) -> None:
    """Raise what an entity is refused with, if it is (`refused`: `entity=status`, comma list)."""
    for item in filter(None, world.faults.refused.split(",")):
        name, _, status = item.strip().partition("=")
        if name == entity:
            number = int(status or 403)
            code = _CODES.get(number, "ERROR")
            raise Refused(number, code, f"The adapter failed for {entity}.")


def changed_since(world: World, moment: int) -> int:
    """From when on a record changed that a coarse clock shows as changed since `moment`."""
    grain = _CLOCKS.get(world.faults.clock, 1)
    return -(-moment // grain) * grain


def reached(world: World, collection: Collection, indices: Sequence[int]) -> Sequence[int]:
    """Those of `indices` within the history window."""
    if not world.faults.history_days:
        return indices
    oldest = int((world.now() - float(world.faults.history_days) * 86_400) * 1e6)
    return [index for index in indices if collection.changed_at(index) >= oldest]


def shows_deleted(world: World, collection: Collection) -> bool:
    """Whether deleted records stay listed."""
    return world.faults.deleted == "listed" and collection.dated


def as_shown(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """A record as a coarse clock shows it."""
    grain = _CLOCKS.get(world.faults.clock)
    for name in ("updatedAt", "deletedAt"):
        if grain is not None and body.get(name):
            body = {**body, name: iso(parse_moment(str(body[name])) // grain * grain)}
    return body
