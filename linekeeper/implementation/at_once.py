"""How many systems and workflows are worked on at once, also once their first steps are open.

A plan makes one wait for the end of another only where it begins. Its first step, the customer's
login, may open before that; what comes after it waits for the same people all the same. Pure.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from linekeeper.implementation.plan import PlannedGate, order
from linekeeper.implementation.scope import PlanError


def limit_at_once(
    gates: Sequence[PlannedGate], *, begun: Collection[str], settled: Collection[str]
) -> tuple[PlannedGate, ...]:
    """The gates of a plan, in order, where no more are worked on at once of what is left of it.

    `begun` are the ids of gates that were opened, `settled` those that are done or skipped. Who is
    furthest goes first; where nothing has begun, the plan is as it was.
    """
    if not any(gate.after for gate in gates):
        return tuple(gates)
    kept = {gate.id: gate for gate in gates}
    for each in ("system", "workflow"):
        kept |= _kept([gate for gate in gates if _number(gate, each)], each, begun, settled)
    try:
        return order(kept.values())
    except PlanError:  # a template of one's own in which systems need each other
        return tuple(gates)


def _kept(
    gates: Sequence[PlannedGate], each: str, begun: Collection[str], settled: Collection[str]
) -> dict[str, PlannedGate]:
    """The gates of all systems, or of all workflows, by their ids."""
    by_id = {gate.id: gate for gate in gates}
    waits = [(gate, by_id[gate.after[0]]) for gate in gates if gate.after]
    if not waits:
        return by_id
    most = min(_number(gate, each) - _number(last, each) for gate, last in waits)
    last_kinds = {by_id[last].kind for gate, _ in waits for last in gate.after}
    members: dict[int, list[PlannedGate]] = {}
    for gate in gates:
        members.setdefault(_number(gate, each), []).append(gate)
    ranked = sorted(
        members,
        key=lambda number: (
            -_count(members[number], settled),
            -_count(members[number], begun),
            number,
        ),
    )
    for rank, number in enumerate(ranked):
        own = {gate.id for gate in members[number]}
        before = members[ranked[rank - most]] if rank >= most else []
        after = tuple(gate.id for gate in before if gate.kind in last_kinds)
        for gate in members[number]:
            needed = [need for need in gate.needs if need in own]
            is_next = all(need in begun or need in settled for need in needed)
            is_next = is_next and gate.id not in begun and gate.id not in settled
            by_id[gate.id] = replace(gate, after=after if is_next else ())
    return by_id


def _number(gate: PlannedGate, each: str) -> int:
    """Which system, or workflow, it is of; 0: of none."""
    return (gate.system if each == "system" else gate.workflow) or 0


def _count(gates: Iterable[PlannedGate], among: Collection[str]) -> int:
    return sum(gate.id in among for gate in gates)
