"""Every scope that Makini publishes weeks for gets a plan within them; larger ones say so."""

from datetime import date
from functools import cache
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.implementation.forecast import forecast
from linekeeper.implementation.outlook import as_json, look_ahead
from linekeeper.implementation.plan import Plan, ahead_of_traditional, make_plan
from linekeeper.implementation.scope import (
    COMPLEXITIES,
    HOSTINGS,
    MAX_CUSTOM_WORKFLOWS,
    MAX_SYSTEMS,
    PlanError,
    Scope,
    parse_scope,
)
from linekeeper.implementation.template import load_template, parse_template

TODAY = date(2026, 11, 24)
KICKOFF = date(2027, 3, 1)
# MISSION T1-T3 and what each covers: weeks, systems, custom workflows.
PUBLISHED = {"standard": (1, 2, 1, 0), "custom": (2, 6, 3, 4), "enterprise": (6, 10, 8, 6)}
PUBLISHED_SCOPES = [
    (complexity, hosting, systems, workflows)
    for complexity, (_, _, most, most_workflows) in PUBLISHED.items()
    for hosting, systems, workflows in product(
        HOSTINGS, range(1, most + 1), range(most_workflows + 1)
    )
]
LARGER_SCOPES = [
    (complexity, hosting, systems, workflows)
    for complexity, (_, _, most, most_workflows) in PUBLISHED.items()
    for hosting, systems, workflows in product(
        HOSTINGS, range(1, most + 8), range(most_workflows + 8)
    )
    if systems > most or workflows > most_workflows
]


def scope(complexity="standard", hosting="cloud", systems=1, workflows=0, **more) -> Scope:
    return parse_scope(
        complexity=complexity,
        hosting=hosting,
        systems=systems,
        custom_workflows=workflows,
        **{"kickoff": KICKOFF, "today": TODAY, **more},
    )


@cache
def plan(complexity="standard", hosting="cloud", systems=1, workflows=0) -> Plan:
    return make_plan(scope(complexity, hosting, systems, workflows), load_template(complexity))


def test_every_published_scope_is_tried():
    assert len(PUBLISHED_SCOPES) == 3 * (1 + 3 * 5 + 8 * 7)


@pytest.mark.parametrize("which", PUBLISHED_SCOPES, ids=lambda which: "-".join(map(str, which)))
def test_a_published_scope_lies_within_the_published_weeks(which):
    low, high, *_ = PUBLISHED[which[0]]
    made = plan(*which)
    played = forecast(made.gates, trials=500)
    weeks = [days / 5 for days in (made.best, played.p50, played.p80, made.worst)]
    assert weeks == sorted(weeks)
    assert low <= weeks[0]
    assert weeks[-1] <= high
    assert made.beyond == ()


def test_a_larger_scope_is_computed_and_marked_with_the_reason():
    for which in LARGER_SCOPES:
        _, high, most, most_workflows = PUBLISHED[which[0]]
        made = plan(*which)
        assert made.worst / 5 > high, which
        said = " ".join(made.beyond)
        assert (f"{which[2]} systems" in said) == (which[2] > most)
        assert (f"{which[3]} custom workflow" in said) == (which[3] > most_workflows)


@pytest.mark.parametrize("complexity", COMPLEXITIES)
def test_more_work_never_takes_less_time(complexity):
    lengths = [plan(complexity, "cloud", systems, 0).worst for systems in range(1, 30)]
    assert lengths == sorted(lengths)
    lengths = [plan(complexity, "cloud", 1, workflows).worst for workflows in range(30)]
    assert lengths == sorted(lengths)


def test_the_largest_allowed_scope_has_a_plan():
    made = plan("enterprise", "on-premises", MAX_SYSTEMS, MAX_CUSTOM_WORKFLOWS)
    assert len({gate.id for gate in made.gates}) == len(made.gates)


@given(
    st.sampled_from(COMPLEXITIES),
    st.sampled_from(HOSTINGS),
    st.integers(1, 12),
    st.integers(0, 8),
)
def test_gates_come_in_order_each_has_an_owner_and_all_lead_to_go_live(
    complexity, hosting, systems, workflows
):
    made = plan(complexity, hosting, systems, workflows)
    seen: set[str] = set()
    for gate in made.gates:
        assert set(gate.needs) | set(gate.after) <= seen
        assert gate.owner in {"us", "customer", "makini"}
        seen.add(gate.id)
    assert made.gates[-1].id == "go-live"
    needed = {need for gate in made.gates for need in gate.needs}
    assert seen - needed == {"go-live"}


@given(st.sampled_from(COMPLEXITIES), st.integers(1, 12), st.integers(0, 8))
def test_the_critical_path_has_no_slack_and_is_as_long_as_the_plan(complexity, systems, workflows):
    made = plan(complexity, "on-premises", systems, workflows)
    by_id = {gate.id: gate for gate in made.gates}
    path = made.critical_path
    assert sum(by_id[one].days.likely for one in path) == pytest.approx(made.likely)
    assert all(made.slots[one].slack == pytest.approx(0) for one in path)
    assert all(slot.slack >= -1e-9 for slot in made.slots.values())
    for before, gate in pairwise(path):
        assert before in (*by_id[gate].needs, *by_id[gate].after)


def test_each_hosting_has_its_own_gates():
    kinds = {hosting: {gate.kind for gate in plan("custom", hosting).gates} for hosting in HOSTINGS}
    assert kinds["on-premises"] - kinds["cloud"] == {"network", "preflight"}
    assert kinds["self-hosted"] - kinds["cloud"] == {"installation", "reachability"}
    (login,) = (gate for gate in plan("custom", "cloud").gates if gate.kind == "authentication")
    assert set(login.needs) == {"credits", "kickoff"}


def test_every_system_has_its_own_gates_and_every_workflow_one():
    gates = plan("enterprise", "cloud", 3, 2).gates
    for kind in ("authentication", "first-sync", "workflow-configuration", "webhooks"):
        assert [gate.system for gate in gates if gate.kind == kind] == [1, 2, 3]
    assert [gate.workflow for gate in gates if gate.kind == "custom-workflow"] == [1, 2]


def test_capacity_delays_a_system_in_the_plan_without_keeping_its_gate_shut():
    gates = {gate.id: gate for gate in plan("custom", "cloud", 2).gates}
    assert gates["authentication-2"].after == ("reconciliation-1",)
    assert gates["authentication-2"].needs == gates["authentication-1"].needs


def test_systems_are_called_by_their_names():
    made = make_plan(
        scope("custom", systems=2, system_names=["SAP ECC", "UpKeep"]), load_template("custom")
    )
    titles = {gate.id: gate.title for gate in made.gates}
    assert titles["workflow-configuration-2"] == "UpKeep · Basic workflow configuration"


def test_a_circle_through_capacity_is_refused():
    # The second workflow would wait for the first, which waits for the second system's end.
    text = """
complexity: custom
published: {weeks_min: 1, weeks_max: 9, systems: 1, custom_workflows: 1}
gates:
  - {id: a, title: A, owner: us, each: system, days: {best: 1, likely: 1, worst: 1}}
  - {id: w, title: W, owner: us, needs: [a], days: {best: 1, likely: 1, worst: 1}}
  - {id: b, title: B, owner: us, each: system, needs: [w], days: {best: 1, likely: 1, worst: 1}}
  - {id: go-live, title: L, owner: us, needs: [b], days: {best: 1, likely: 1, worst: 1}}
"""
    with pytest.raises(PlanError, match="circle"):
        make_plan(scope("custom", systems=2), parse_template(text))


def test_the_traditional_project_stands_beside_it():
    assert ahead_of_traditional(5) == (7.7, 103.0)
    assert ahead_of_traditional(50)[0] < 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"complexity": "huge"}, "complexity"),
        ({"hosting": "moon"}, "hosting"),
        ({"systems": 0}, "systems"),
        ({"systems": 500}, "systems"),
        ({"systems": "two"}, "systems"),
        ({"systems": True}, "systems"),
        ({"systems": 1.5}, "systems"),
        ({"systems": "9" * 5000}, "systems"),
        ({"custom_workflows": -1}, "custom_workflows"),
        ({"kickoff": date(2026, 11, 23)}, "kickoff"),
        ({"kickoff": "yesterday"}, "kickoff"),
        ({"kickoff": "2027-02-30"}, "kickoff"),
        ({"kickoff": date(9999, 12, 31)}, "kickoff"),
        ({"committed": date(2027, 2, 28)}, "committed"),
        ({"committed": date(9999, 12, 31)}, "committed"),
        ({"country": "Germany"}, "country"),
        ({"country": ""}, "country"),
        ({"system_names": ["a", "b"]}, "systems"),
        ({"system_names": [" "]}, "systems"),
        ({"system_names": ["x" * 121]}, "systems"),
    ],
)
def test_bad_input_is_refused_with_field_and_reason(changes, field):
    values = {"complexity": "standard", "kickoff": KICKOFF, "today": TODAY, **changes}
    with pytest.raises(PlanError) as caught:
        parse_scope(**values)
    assert caught.value.field == field
    assert caught.value.reason
    assert "\n" not in str(caught.value)


def test_what_was_entered_is_shown_as_it_was_written():
    with pytest.raises(PlanError, match="'Österreich' is not a two-letter country code"):
        parse_scope(complexity="standard", kickoff=KICKOFF, today=TODAY, country="Österreich")


def test_an_unknown_country_is_refused_when_its_holidays_are_asked_for():
    with pytest.raises(PlanError, match=r"^country: XX"):
        look_ahead(scope(country="xx"))


def test_the_json_has_the_promised_names():
    data = as_json(
        look_ahead(scope("custom", "on-premises", 2, 1, country="de", committed=date(2027, 4, 9)))
    )
    assert set(data["weeks"]) == {"min", "max", "p50", "p80"}
    assert data["published"] == {"min": 2, "max": 6}
    assert data["beyond_published"] is False
    assert date.fromisoformat(data["go_live"]["p50"]) <= date.fromisoformat(data["go_live"]["p80"])
    assert data["traditional"]["months"] == {"min": 2, "max": 24}
    assert 0 <= data["committed"]["chance"] <= 1
    assert {"id", "title", "owner", "needs", "days"} <= set(data["gates"][0])
    assert data["gates"][0]["start"] == "2027-03-01"
    assert all(gate["start"] <= gate["finish"] for gate in data["gates"])


@pytest.mark.parametrize("complexity", ["standard", "custom", "enterprise"])
def test_the_go_live_step_is_done_when_the_forecast_says(complexity):
    data = as_json(look_ahead(scope(complexity, country="de")))
    days = {gate["id"]: gate["finish"] for gate in data["gates"]}
    assert max(days.values()) == days["go-live"] == data["go_live"]["p50"]
    assert all(days[need] <= gate["finish"] for gate in data["gates"] for need in gate["needs"])


def test_weeks_are_counted_before_holidays_and_dates_after_them():
    without = as_json(look_ahead(scope("custom", kickoff=date(2026, 12, 14))))
    german = as_json(look_ahead(scope("custom", kickoff=date(2026, 12, 14), country="DE")))
    assert german["weeks"] == without["weeks"]
    assert german["go_live"]["p50"] > without["go_live"]["p50"]


def test_a_system_in_the_cloud_waits_for_no_network_of_another_on_premises():
    mixed = scope("enterprise", "on-premises", 2, hostings=("cloud", "on-premises"))
    gates = {gate.id: gate for gate in make_plan(mixed, load_template("enterprise")).gates}
    assert {"network", "preflight"} <= gates.keys()
    assert not {"installation", "reachability"} & gates.keys()
    assert "preflight" in gates["authentication-2"].needs
    assert gates["authentication-1"].needs == ("security-review", "credits")
    assert mixed.hosting_shown == "cloud, on-premises"
