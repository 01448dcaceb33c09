"""A broken universe is made small: what the defect doesn't need is left out."""

import shlex
from dataclasses import replace

import pytest

from tests.simulation.__main__ import again, asked_for, kinds_of, parser
from tests.simulation.plan import Plan, Verdict
from tests.simulation.shrinking import ALWAYS, shrink

DRAWN = frozenset({"logins", "slack", "storm", "mail", "snoozed", "hands", "twice", "quiet"})


def test_what_is_left_is_what_the_defect_needs() -> None:
    lived: list[Plan] = []

    def live(plan: Plan) -> Verdict:
        lived.append(plan)
        needed = not plan.kinds or {"logins", "slack"} <= plan.kinds
        is_broken = needed and plan.connections >= 2
        broken = ["late: nobody noticed"] if is_broken else []
        return Verdict(plan.seed, broken=broken, kinds=plan.kinds or DRAWN, trace=["calm"])

    plan = Plan(7, connections=8)
    found, verdict = shrink(plan, ["late: nobody noticed", "stuck: x"], live)
    assert found.kinds == {"logins", "slack"}
    assert (found.connections, found.seed) == (2, 7)
    assert found.hours < plan.hours
    assert verdict.broken == ["late: nobody noticed"]
    assert verdict.trace
    assert len(lived) < 60


def test_another_kind_of_breakage_is_not_what_is_shrunk() -> None:
    def live(plan: Plan) -> Verdict:
        return Verdict(plan.seed, broken=["forward: another defect"], kinds=DRAWN, trace=["calm"])

    plan = Plan(7)
    found, verdict = shrink(plan, ["late: nobody noticed"], live)
    assert found == replace(plan, kinds=DRAWN.union(ALWAYS))
    assert (verdict.broken, verdict.trace) == (["late: nobody noticed"], ["calm"])


def test_what_is_left_is_lived_through_again_by_what_is_said() -> None:
    """The same seed, whatever it draws by itself; the trouble is named."""
    asked = parser().parse_args(["--seed", "7", "--brief", "--plant", "first-page-only"])
    plan = Plan(7, hours=0.25, connections=2, kinds=frozenset({"slack", "dark keys"}))
    said = again(asked_for(plan, asked), 7)
    assert "--brief" not in said
    meant = parser().parse_args(shlex.split(said))
    assert (meant.seed, meant.days * 24, meant.connections) == (7, 0.25, 2)
    assert (meant.plant, meant.lull, meant.pace) == ("first-page-only", None, None)
    assert kinds_of(meant.kinds) == plan.kinds


def test_trouble_that_there_is_not_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"no kind of trouble: logns; there are: .*before-commit"):
        kinds_of("slack logns")
