"""The plan: scope and template become a DAG of gates with owners, durations and a schedule."""

from collections.abc import Iterable, Iterator, Mapping
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
    return list(_Expansion(scope, template).gates())


class _Expansion:
    """The steps of a template for one scope: each with what it needs, system by system."""

    def __init__(self, scope: Scope, template: Template) -> None:
        self._scope = scope
        self._kinds = {kind.id: kind for kind in template.gates}
        self._counts = {
            "implementation": 1,
            "system": scope.systems,
            "workflow": scope.custom_workflows,
        }
        self._at_once = {
            "implementation": 1,
            "system": template.at_once.system,
            "workflow": template.at_once.workflow,
        }

    def gates(self) -> Iterator[PlannedGate]:
        for kind in self._kinds.values():
            for number in range(1, self._counts[kind.each] + 1):
                if not self._is_taken(kind, _system(kind, number)):
                    continue
                needs = self._needs(kind, number)
                begins = kind.each != "implementation" and all(
                    need.each != kind.each for need, _ in needs
                )
                earlier = number - self._at_once[kind.each]
                after = self._ends(kind.each, earlier) if begins and earlier >= 1 else []
                yield _gate(kind, number, [gate for _, gate in needs], after, self._scope)

    def _is_taken(self, kind: GateTemplate, system: int | None) -> bool:
        """Whether there is such a step: for that system, or for any where none is meant."""
        scope = self._scope
        hostings = scope.every_hosting if system is None else {scope.hosting_of(system)}
        is_hosted = kind.hosting is None or not hostings.isdisjoint(kind.hosting)
        return is_hosted and (scope.vpn or not kind.vpn)

    def _needs(self, kind: GateTemplate, number: int) -> list[tuple[GateTemplate, str]]:
        """What a step needs: the kind and id of each.

        A step that is not taken here, for its hosting or without a VPN, is replaced by what it
        would have needed.
        """
        gates_needed: list[tuple[GateTemplate, str]] = []
        pending = _needed(kind, _system(kind, number))
        while pending:
            name, first, system = pending.pop(0)
            need = self._kinds[name]
            for each, of in self._instances(need, kind, number, system, first_only=first):
                if self._is_taken(need, of):
                    gates_needed.append((need, _gate_id(need, each)))
                else:
                    pending += _needed(need, of, first=first)
        return gates_needed

    def _instances(
        self,
        need: GateTemplate,
        kind: GateTemplate,
        number: int,
        system: int | None,
        *,
        first_only: bool,
    ) -> list[tuple[int, int | None]]:
        if need.each == "implementation":
            return [(1, system)]
        if need.each == kind.each:
            return [(number, system)]
        if need.each == "system" and system is not None:
            return [(system, system)]
        count = self._counts[need.each]
        last = min(1, count) if first_only else count
        return [(each, _system(need, each)) for each in range(1, last + 1)]

    def _ends(self, each: str, number: int) -> list[str]:
        """The steps with which work on the `number`th system (or workflow) ends."""
        own = [
            kind
            for kind in self._kinds.values()
            if kind.each == each and self._is_taken(kind, _system(kind, number))
        ]
        needed = {gate for kind in own for _, gate in self._needs(kind, number)}
        return [gate for kind in own if (gate := _gate_id(kind, number)) not in needed]


_Need = tuple[str, bool, int | None]
"""A kind, whether of the first system only, and for which system."""


def _needed(kind: GateTemplate, system: int | None, *, first: bool = False) -> list[_Need]:
    return [(need, first, system) for need in kind.needs] + [
        (need, True, system) for need in kind.needs_first
    ]


def _system(kind: GateTemplate, number: int) -> int | None:
    return number if kind.each == "system" else None


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
