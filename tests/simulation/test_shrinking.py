"""A broken universe is made small: what the defect doesn't need is left out."""

from dataclasses import replace

from tests.simulation.plan import Plan, Verdict
from tests.simulation.shrinking import shrink


def test_what_is_left_is_what_the_defect_needs() -> None:
    lived: list[Plan] = []

    def live(plan: Plan) -> Verdict:
        lived.append(plan)
        needed = not plan.kinds or {"logins", "slack"} <= plan.kinds
        is_broken = needed and plan.connections >= 2
        return Verdict(plan.seed, broken=["late: nobody noticed"] if is_broken else [])

    plan = Plan(7, connections=8)
    found, verdict = shrink(plan, ["late: nobody noticed", "stuck: x"], live)
    assert found.kinds == {"logins", "slack"}
    assert (found.connections, found.seed) == (2, 7)
    assert found.hours < plan.hours
    assert verdict.broken == ["late: nobody noticed"]
    assert len(lived) < 120


def test_another_kind_of_breakage_is_not_what_is_shrunk() -> None:
    def live(plan: Plan) -> Verdict:
        return Verdict(plan.seed, broken=["forward: another defect"])

    plan = Plan(7)
    found, verdict = shrink(plan, ["late: nobody noticed"], live)
    assert found == replace(plan)
    assert verdict.broken == ["late: nobody noticed"]
