"""The plan: scope and template become a DAG of gates with owners, durations and a schedule."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from linekeeper.implementation.scope import PlanError, Scope
from linekeeper.implementation.template import GO_LIVE, GateTemplate, Owner, Template

DAYS_PER_WEEK = 5
TRADITIONAL_MONTHS = (2, 24)
"""What a traditional integration project takes (MISSION T4)."""
WEEKS_PER_MONTH = 52 / 12


@dataclass(frozen=True, slots=True)
class DurationEstimate:
    """Three-point duration in working days, and their PERT mean."""

    best: float
    likely: float
    worst: float

    @property
    def expected(self) -> float:
        """(best + 4 likely + worst) / 6, the PERT mean."""
        return (self.best + 4 * self.likely + self.worst) / 6


Work = Literal["authentication-setup", "workflow-configuration"]


@dataclass(frozen=True, slots=True)
class PlannedGate:
    """One step with evidence; `id` is unique and stable within the plan."""

    id: str
    kind: str
    """The template's gate, e.g. `authentication` for `authentication-2`."""
    title: str
    owner: Owner
    days: DurationEstimate
    needs: tuple[str, ...]
    """Must be done before this may open."""
    after: tuple[str, ...]
    """Only planned after these, because the same people do both; they don't keep it shut."""
    check: str | None
    system: int | None = None
    """Counted from 1."""
    workflow: int | None = None

    @property
    def work(self) -> Work | None:
        """The flow that does the work of it; None: people do, or it proves itself."""
        if self.system is None:
            return None
        if self.check == "token_works":
            return "authentication-setup"
        return "workflow-configuration" if self.kind == "workflow-configuration" else None


@dataclass(frozen=True, slots=True)
class Slot:
    """When a gate is planned, in working days from the plan's start, every gate as likely."""

    start: float
    finish: float
    slack: float
    """Working days it may slip before the go-live does; 0 on the critical path."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Gates in an order in which each comes after all it waits for. Immutable."""

    scope: Scope
    gates: tuple[PlannedGate, ...]
    published: tuple[int, int]
    """Weeks."""
    beyond: tuple[str, ...]
    """Why it is outside the published weeks; empty if it is inside."""
    best: float
    likely: float
    worst: float
    """Working days from start to go-live with every gate at its best, likely, worst."""
    slots: Mapping[str, Slot] = field(repr=False)
    critical_path: tuple[str, ...] = field(repr=False)
    """Gate ids from the start to go-live, in order."""


def make_plan(scope: Scope, template: Template) -> Plan:
    """The gates of `scope` by `template`, scheduled. Pure; raises `PlanError` for a mismatch."""
    if template.complexity != scope.complexity:
        raise PlanError("complexity", f"{scope.complexity}, but the template's is another")
    gates = order(_expand(scope, template))
    best, worst = (_length(gates, which) for which in ("best", "worst"))
    slots = _schedule(gates)
    published = (template.published.weeks_min, template.published.weeks_max)
    return Plan(
        scope=scope,
        gates=gates,
        published=published,
        beyond=tuple(_beyond(scope, template, best, worst)),
        best=best,
        likely=max(slot.finish for slot in slots.values()),
        worst=worst,
        slots=slots,
        critical_path=_critical_path(gates, slots),
    )


def weeks(days: float) -> float:
    """Working days as weeks of five, rounded to a hundredth, before holidays."""
    return round(days / DAYS_PER_WEEK, 2)


def ahead_of_traditional(days: float) -> tuple[float, float]:
    """Weeks ahead of a traditional project's 2 and 24 months (MISSION T4); negative is behind."""
    short, long = (months * WEEKS_PER_MONTH - days / DAYS_PER_WEEK for months in TRADITIONAL_MONTHS)
    return round(short, 1), round(long, 1)


def order(gates: Iterable[PlannedGate]) -> tuple[PlannedGate, ...]:
    """The gates, each after all it waits for, else as given; `PlanError` for a circle."""
    waiting = {gate.id: gate for gate in gates}
    ordered: dict[str, PlannedGate] = {}
    while waiting:
        ready = [
            gate
            for gate in waiting.values()
            if all(before in ordered for before in (*gate.needs, *gate.after))
        ]
        if not ready:
            raise PlanError("gates", f"go round in a circle: {', '.join(list(waiting)[:5])}")
        for gate in ready:
            ordered[gate.id] = waiting.pop(gate.id)
    return tuple(ordered.values())


def _expand(scope: Scope, template: Template) -> list[PlannedGate]:
    kinds = {kind.id: kind for kind in template.gates}
    here = {
        kind.id
        for kind in template.gates
        if (kind.hosting is None or scope.hosting in kind.hosting) and (scope.vpn or not kind.vpn)
    }
    counts = {"implementation": 1, "system": scope.systems, "workflow": scope.custom_workflows}
    at_once = {
        "implementation": 1,
        "system": template.at_once.system,
        "workflow": template.at_once.workflow,
    }
    lasts = {each: _ends(kinds, here, each) for each in ("system", "workflow")}

    gates = []
    for kind in template.gates:
        if kind.id not in here:
            continue
        for number in range(1, counts[kind.each] + 1):
            needs = [
                instance
                for need, first in _resolved(kind, kinds, here)
                for instance in _instances(kinds[need], kind, number, counts, first_only=first)
            ]
            after: list[str] = []
            behind = number - at_once[kind.each]
            if behind >= 1 and _begins(kind, kinds, here):
                after = [_gate_id(kinds[last], behind) for last in lasts[kind.each]]
            gates.append(_gate(kind, number, needs, after, scope))
    return gates


def _gate_id(kind: GateTemplate, number: int) -> str:
    """The id of the `number`th gate of its kind; one of a kind has the kind's own id."""
    return kind.id if kind.each == "implementation" else f"{kind.id}-{number}"


def _gate(
    kind: GateTemplate, number: int, needs: list[str], after: list[str], scope: Scope
) -> PlannedGate:
    title = kind.title
    if kind.each == "system":
        if number <= len(scope.system_names):
            title = f"{scope.system_names[number - 1]} · {kind.title}"
        elif scope.systems > 1:
            title = f"System {number} · {kind.title}"
    elif kind.each == "workflow":
        title = f"{kind.title} {number}"
    return PlannedGate(
        id=_gate_id(kind, number),
        kind=kind.id,
        title=title,
        owner=kind.owner,
        days=DurationEstimate(kind.days.best, kind.days.likely, kind.days.worst),
        needs=tuple(dict.fromkeys(needs)),
        after=tuple(dict.fromkeys(after)),
        check=kind.check,
        system=number if kind.each == "system" else None,
        workflow=number if kind.each == "workflow" else None,
    )


def _resolved(
    kind: GateTemplate, kinds: Mapping[str, GateTemplate], here: set[str]
) -> list[tuple[str, bool]]:
    """What `kind` needs here, and whether of the first system only.

    A gate that is not needed here, for its hosting or without a VPN, is replaced by what it would
    have needed.
    """
    resolved: list[tuple[str, bool]] = []
    pending = [(need, False) for need in kind.needs]
    pending += [(need, True) for need in kind.needs_first]
    while pending:
        need, first = pending.pop(0)
        if need in here:
            resolved.append((need, first))
        else:
            pending += [(deeper, first) for deeper in kinds[need].needs]
            pending += [(deeper, True) for deeper in kinds[need].needs_first]
    return resolved


def _instances(
    need: GateTemplate,
    kind: GateTemplate,
    number: int,
    counts: Mapping[str, int],
    *,
    first_only: bool,
) -> list[str]:
    if need.each == "implementation":
        return [need.id]
    if need.each == kind.each:
        return [_gate_id(need, number)]
    last = min(1, counts[need.each]) if first_only else counts[need.each]
    return [_gate_id(need, number) for number in range(1, last + 1)]


def _begins(kind: GateTemplate, kinds: Mapping[str, GateTemplate], here: set[str]) -> bool:
    """Whether `kind` is where work on a system (or workflow) begins."""
    needs = (kinds[need] for need, _ in _resolved(kind, kinds, here))
    return kind.each != "implementation" and all(need.each != kind.each for need in needs)


def _ends(kinds: Mapping[str, GateTemplate], here: set[str], each: str) -> list[str]:
    """The kinds with which work on one system (or workflow) ends."""
    own = [kind for kind in kinds.values() if kind.each == each and kind.id in here]
    needed = {need for kind in own for need, _ in _resolved(kind, kinds, here)}
    return [kind.id for kind in own if kind.id not in needed]


def _length(gates: tuple[PlannedGate, ...], which: str) -> float:
    finish: dict[str, float] = {}
    for gate in gates:
        start = max((finish[need] for need in (*gate.needs, *gate.after)), default=0.0)
        finish[gate.id] = start + float(getattr(gate.days, which))
    return max(finish.values())


def _schedule(gates: tuple[PlannedGate, ...]) -> dict[str, Slot]:
    """The critical-path method: earliest times forwards, slack backwards."""
    start: dict[str, float] = {}
    finish: dict[str, float] = {}
    for gate in gates:
        start[gate.id] = max((finish[need] for need in (*gate.needs, *gate.after)), default=0.0)
        finish[gate.id] = start[gate.id] + gate.days.likely
    end = max(finish.values())
    latest = dict.fromkeys(finish, end)
    for gate in reversed(gates):
        for need in (*gate.needs, *gate.after):
            latest[need] = min(latest[need], latest[gate.id] - gate.days.likely)
    return {
        gate_id: Slot(start[gate_id], finish[gate_id], latest[gate_id] - finish[gate_id])
        for gate_id in finish
    }


def _critical_path(gates: tuple[PlannedGate, ...], slots: Mapping[str, Slot]) -> tuple[str, ...]:
    by_id = {gate.id: gate for gate in gates}
    at = by_id.get(GO_LIVE) or max(gates, key=lambda gate: slots[gate.id].finish)
    path = [at.id]
    while before := (*at.needs, *at.after):
        at = by_id[max(before, key=lambda gate_id: slots[gate_id].finish)]
        path.append(at.id)
    return tuple(reversed(path))


def _beyond(scope: Scope, template: Template, best: float, worst: float) -> Iterable[str]:
    published = template.published
    low, high = published.weeks_min, published.weeks_max
    if scope.systems > published.systems:
        most = published.systems
        covered = "one system" if most == 1 else f"up to {most} systems"
        yield (
            f"{scope.systems} systems "
            f"(the published weeks for {scope.complexity} are for {covered})"
        )
    if scope.custom_workflows > published.custom_workflows:
        covered = f"up to {published.custom_workflows}" if published.custom_workflows else "none"
        yield (
            f"{scope.custom_workflows} custom workflow{'s'[: scope.custom_workflows != 1]} "
            f"(the published weeks for {scope.complexity} are for {covered})"
        )
    if worst > high * DAYS_PER_WEEK:
        yield f"it may take {worst / DAYS_PER_WEEK:.2f} weeks"
    if best < low * DAYS_PER_WEEK:
        yield f"it may take only {best / DAYS_PER_WEEK:.2f} weeks"
