"""A plan with its forecast in dates: what `linekeeper plan` prints and flows publish."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from linekeeper.implementation.at_once import limit_at_once
from linekeeper.implementation.calendar import WorkingCalendar
from linekeeper.implementation.evaluate import (
    SETTLED,
    Commitment,
    Evaluation,
    judge_commitment,
)
from linekeeper.implementation.forecast import TRIALS, Forecast, forecast
from linekeeper.implementation.plan import (
    TRADITIONAL_MONTHS,
    DurationEstimate,
    Plan,
    PlannedGate,
    ahead_of_traditional,
    make_plan,
    weeks,
)
from linekeeper.implementation.scope import Scope
from linekeeper.implementation.template import load_template


@dataclass(frozen=True, slots=True)
class Outlook:
    """When it will be live, half (`p50`) and four of five (`p80`) of the trials agreeing."""

    plan: Plan
    calendar: WorkingCalendar
    forecast: Forecast
    start: date
    """The first working day on or after the kickoff."""
    p50: date
    p80: date
    commitment: Commitment

    def done(self, gate: PlannedGate) -> date:
        """When half of the trials have done `gate`; the last one then is what `p50` says."""
        return self.calendar.finish(self.start, self.forecast.gates[gate.id].finish_p50)


def look_ahead(scope: Scope, *, templates: Path | None = None, trials: int = TRIALS) -> Outlook:
    """Plan and forecast `scope` before anything has begun. Raises `PlanError`."""
    calendar = WorkingCalendar(scope.country)
    plan = make_plan(scope, load_template(scope.complexity, templates))
    return forecast_plan(plan, calendar, trials=trials)


def forecast_plan(
    plan: Plan,
    calendar: WorkingCalendar,
    evaluation: Evaluation | None = None,
    *,
    setbacks: Collection[str] = (),
    trials: int = TRIALS,
) -> Outlook:
    """Forecast `plan` from where `evaluation` says it stands, or from its start.

    A gate of `setbacks` was tried and failed: it takes as long as what it needs, and itself.
    """
    start = calendar.first(plan.scope.kickoff)
    gates = _again(plan, setbacks)
    if evaluation is not None:
        begun = [gate for gate, far in evaluation.so_far.items() if far.opened is not None]
        gates = limit_at_once(gates, begun=set(begun), settled=set(evaluation.having(*SETTLED)))
    result = forecast(
        gates,
        trials=trials,
        progress=None if evaluation is None else evaluation.so_far,
        now=0.0 if evaluation is None else max(evaluation.now, 0.0),
        committed=_available(plan.scope.committed, start, calendar),
        paced=True,
    )
    p50, p80 = calendar.finish(start, result.p50), calendar.finish(start, result.p80)
    return Outlook(
        plan=plan,
        calendar=calendar,
        forecast=result,
        start=start,
        p50=p50,
        p80=p80,
        commitment=judge_commitment(plan.scope.committed, p50, p80),
    )


def _again(plan: Plan, setbacks: Collection[str]) -> Sequence[PlannedGate]:
    if not setbacks:
        return plan.gates
    by_id = {gate.id: gate for gate in plan.gates}

    def longer(gate: PlannedGate) -> PlannedGate:
        spans = [gate.days, *(by_id[need].days for need in gate.needs)]
        sums = (
            sum(getattr(span, which) for span in spans) for which in ("best", "likely", "worst")
        )
        return replace(gate, days=DurationEstimate(*sums))

    return [longer(gate) if gate.id in setbacks else gate for gate in plan.gates]


def as_json(outlook: Outlook) -> dict[str, Any]:
    """The outlook as plain JSON values; the names are INTERFACE.md's ("plan")."""
    plan, result = outlook.plan, outlook.forecast
    scope = plan.scope
    low, high = plan.published
    short, long = TRADITIONAL_MONTHS
    ahead_short, ahead_long = ahead_of_traditional(result.p80)
    return {
        "complexity": scope.complexity,
        "hosting": scope.hosting_shown,
        "vpn": scope.vpn,
        "systems": scope.systems,
        "custom_workflows": scope.custom_workflows,
        "kickoff": scope.kickoff.isoformat(),
        "country": scope.country,
        "weeks": {
            "min": weeks(plan.best),
            "max": weeks(plan.worst),
            "p50": weeks(result.p50),
            "p80": weeks(result.p80),
        },
        "published": {"min": low, "max": high},
        "beyond_published": bool(plan.beyond),
        "beyond_because": list(plan.beyond),
        "p80_beyond_published": weeks(result.p80) > high,
        "traditional": {
            "months": {"min": short, "max": long},
            "weeks_ahead": {"min": ahead_short, "max": ahead_long},
        },
        "go_live": {"p50": outlook.p50.isoformat(), "p80": outlook.p80.isoformat()},
        "committed": None
        if scope.committed is None
        else {
            "date": scope.committed.isoformat(),
            "chance": round(result.chance or 0.0, 3),
            "outlook": outlook.commitment,
        },
        "days_by_owner": {owner: round(days, 2) for owner, days in result.remaining.items()},
        "critical_path": list(plan.critical_path),
        "matter_most": [
            {
                "gate": gate,
                "days": round(gate_forecast.days, 2),
                "on_path": round(gate_forecast.on_path, 3),
            }
            for gate, gate_forecast in result.matter_most()
        ],
        "gates": [_gate(outlook, gate) for gate in plan.gates],
    }


def _gate(outlook: Outlook, gate: PlannedGate) -> dict[str, Any]:
    slot = outlook.plan.slots[gate.id]
    calendar, start = outlook.calendar, outlook.start
    likely = outlook.forecast.gates[gate.id]
    begins = calendar.ordinal(start, likely.start_p50, ending=False)
    finishes = outlook.done(gate)
    return {
        "id": gate.id,
        "title": gate.title,
        "owner": gate.owner,
        "needs": list(gate.needs),
        "after": list(gate.after),
        "check": gate.check,
        "system": gate.system,
        "workflow": gate.workflow,
        "days": {"best": gate.days.best, "likely": gate.days.likely, "worst": gate.days.worst},
        "critical": gate.id in outlook.plan.critical_path,
        "start": min(date.fromordinal(int(begins)), finishes).isoformat(),
        "finish": finishes.isoformat(),
        "slack_days": round(slot.slack, 2),
    }


def _available(committed: date | None, start: date, calendar: WorkingCalendar) -> float | None:
    """Whole working days until the evening of the committed day."""
    if committed is None:
        return None
    return calendar.between(start, committed) + float(calendar.is_working(committed))
