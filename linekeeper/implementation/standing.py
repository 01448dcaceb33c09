"""An implementation as it is stored: rows become the plan and the states that `evaluate` takes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from linekeeper.implementation.calendar import WorkingCalendar
from linekeeper.implementation.evaluate import Block, Evaluation, GateState, Proof, evaluate
from linekeeper.implementation.hold import Hold, holds_of
from linekeeper.implementation.plan import Plan, make_plan
from linekeeper.implementation.scope import Complexity, Hosting, Scope
from linekeeper.implementation.template import Owner, Template
from linekeeper.store.tables import (
    Customer,
    CustomerLink,
    Gate,
    Implementation,
    ImplementationSystem,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """One implementation with all that belongs to it. The rows may be written to."""

    implementation: Implementation
    customer: Customer
    systems: Sequence[ImplementationSystem]
    """The systems, in the order of their numbers."""
    gates: Mapping[str, Gate]
    """The gates, by their ids in the plan."""
    plan: Plan
    calendar: WorkingCalendar
    page: CustomerLink | None = None
    """The link to the customer's own page, if one was given."""

    @property
    def states(self) -> dict[str, GateState]:
        """What `evaluate` needs to know of each gate."""
        owners = {gate.id: gate.owner for gate in self.plan.gates}
        return {
            gate_id: state_of(row, owners[gate_id])
            for gate_id, row in self.gates.items()
            if gate_id in owners
        }

    def evaluate(self, proofs: Mapping[str, Proof], now: datetime, *, held: bool) -> Evaluation:
        """How it stands at `now`, given what proves its gates (`evaluate.evaluate`)."""
        return evaluate(
            self.plan, self.states, proofs, now, self.calendar, held=held, holds=self.holds
        )

    @property
    def held(self) -> bool:
        """Whether nothing new may open."""
        return self.implementation.status == "held"

    @property
    def holds(self) -> tuple[Hold, ...]:
        return holds_of(self.implementation.holds)

    def system(self, number: int | None) -> ImplementationSystem | None:
        """The system a gate is about."""
        return next((system for system in self.systems if system.number == number), None)


def standing(
    implementation: Implementation,
    customer: Customer,
    systems: Iterable[ImplementationSystem],
    gates: Iterable[Gate],
    page: CustomerLink | None = None,
) -> Standing:
    """Put the rows together. Pure."""
    ordered = sorted(systems, key=lambda system: system.number)
    scope = Scope(
        complexity=cast("Complexity", implementation.complexity),
        hosting=cast("Hosting", implementation.hosting),
        systems=len(ordered),
        custom_workflows=implementation.custom_workflows,
        kickoff=implementation.kickoff,
        country=implementation.country,
        committed=implementation.committed,
        system_names=tuple(system.name for system in ordered),
        vpn=any(system.vpn for system in ordered),
        hostings=tuple(
            cast("Hosting", system.hosting or implementation.hosting) for system in ordered
        )
        if any(system.hosting for system in ordered)
        else (),
    )
    return Standing(
        implementation=implementation,
        customer=customer,
        systems=ordered,
        gates={row.gate: row for row in gates},
        plan=_plan(scope, json.dumps(implementation.template, sort_keys=True)),
        calendar=calendar_of(implementation.country, customer.time_zone),
        page=page,
    )


@lru_cache(maxsize=512)
def _plan(scope: Scope, template: str) -> Plan:
    """The consumer looks at all of them every few seconds; their plans don't change."""
    return make_plan(scope, Template.model_validate_json(template))


def calendar_of(country: str | None, time_zone: str) -> WorkingCalendar:
    """The customer's working days, in its own zone; UTC where the zone isn't known.

    Raises `PlanError` for a country whose holidays aren't known.
    """
    return WorkingCalendar(country, _zone(time_zone))


@lru_cache
def _zone(name: str) -> Any:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def state_of(row: Gate, planned: str) -> GateState:
    """The stored row of a gate whose owner was `planned`."""
    return GateState(
        opened_at=row.opened_at,
        done_at=row.done_at,
        skipped_because=row.skipped_because,
        blocks=tuple(
            Block(
                since=datetime.fromisoformat(block["since"]),
                because=block["because"],
                by=block["by"],
                until=datetime.fromisoformat(block["until"]) if block.get("until") else None,
                is_turn=block.get("turn", False),
            )
            for block in row.blocks
        ),
        owner=cast("Owner", row.owner) if row.owner != planned else None,
        earliest=row.earliest,
        due=row.due,
    )


def blocked(
    blocks: Sequence[Mapping[str, Any]], because: str, by: str, at: datetime
) -> list[dict[str, Any]]:
    """The blocks with one more that begins at `at`."""
    return [*unblocked(blocks, at), {"since": at.isoformat(), "because": because, "by": by}]


def unblocked(blocks: Sequence[Mapping[str, Any]], at: datetime) -> list[dict[str, Any]]:
    """The blocks, the last one ended at `at` if it hadn't."""
    return [
        row if row.get("until") else {**row, "until": at.isoformat()} for row in map(dict, blocks)
    ]


def hand_over(row: Gate, to: str, at: datetime, *, for_good: bool = False) -> None:
    """The open gate is the turn of `to` from `at` on; until then it was its owner's.

    `for_good`: a person gave it away; otherwise something happened, and it may go back. Of one that
    is blocked it is so once it can be worked on.
    """
    assert row.opened_at is not None  # it is open
    blocks, lasting = row.blocks, row.blocks[-1:]
    if lasting and not lasting[0].get("until"):
        blocks, at = blocks[:-1], datetime.fromisoformat(lasting[0]["since"])
    else:
        lasting = []
    ends = [datetime.fromisoformat(block["until"]) for block in blocks]
    since = max([row.opened_at, *ends])
    turn = {"because": "", "by": row.owner, "turn": True, "for_good": for_good}
    turn |= {"since": since.isoformat(), "until": max(at, since).isoformat()}
    row.blocks = [*blocks, turn, *lasting]
    row.owner = to


def is_handed_over(row: Gate) -> bool:
    """Whether it is the turn of another than its owner, since something happened."""
    turns = [block for block in row.blocks if block.get("turn") and not block.get("for_good")]
    return len(turns) % 2 == 1


WHOSE = {"us": "us", "customer": "the customer", "makini": "Makini"}
TURNS = {"us": "our turn", "customer": "the customer's turn", "makini": "Makini's turn"}
"""How people read whose turn it is."""


def turn_of(row: Gate) -> str:
    """Whose turn an open gate is: its owner's, or of whoever blocks it."""
    return str(row.blocks[-1]["by"] if row.status == "blocked" and row.blocks else row.owner)
