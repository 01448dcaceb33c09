"""What is open, done, late and waited for; the same evaluation again changes nothing."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.implementation.calendar import WorkingCalendar
from linekeeper.implementation.evaluate import (
    SETTLED,
    Block,
    GateState,
    Proof,
    evaluate,
    judge_commitment,
    status_of,
)
from linekeeper.implementation.outlook import forecast_plan
from linekeeper.implementation.plan import make_plan
from linekeeper.implementation.scope import parse_scope
from linekeeper.implementation.template import load_template

KICKOFF = date(2027, 3, 1)
CALENDAR = WorkingCalendar()


def moment(day: int, hour: int = 9) -> datetime:
    return datetime(2027, 3, day, hour, tzinfo=UTC)


def made(complexity="standard", hosting="cloud", systems=1, workflows=0):
    scope = parse_scope(
        complexity=complexity,
        hosting=hosting,
        systems=systems,
        custom_workflows=workflows,
        kickoff=KICKOFF,
        today=date(2026, 11, 24),
        committed=date(2027, 3, 12),
    )
    return make_plan(scope, load_template(complexity))


STANDARD = made()
WIDE = made("custom", "on-premises", 2, 2)


def done(*gates: str, day: int = 1) -> dict[str, GateState]:
    return {gate: GateState(opened_at=moment(day), done_at=moment(day, 17)) for gate in gates}


def test_at_the_kickoff_only_the_kickoff_opens():
    result = evaluate(STANDARD, {}, {}, moment(1), CALENDAR)
    assert [(change.gate, change.to) for change in result.changes] == [("kickoff", "open")]
    assert result.having("open") == ("kickoff",)


def test_before_the_kickoff_and_while_held_nothing_opens():
    assert evaluate(STANDARD, {}, {}, datetime(2027, 2, 28, 23, tzinfo=UTC), CALENDAR).changes == ()
    assert evaluate(STANDARD, {}, {}, moment(1), CALENDAR, held=True).changes == ()


def test_independent_gates_open_side_by_side():
    result = evaluate(WIDE, done("kickoff"), {}, moment(2), CALENDAR)
    assert set(result.having("open")) == {"design", "credits", "network"}
    ready = done("kickoff", "credits", "network", "preflight")
    result = evaluate(WIDE, ready, {}, moment(3), CALENDAR)
    assert {"authentication-1", "authentication-2"} <= set(result.having("open"))


def test_proofs_settle_a_chain_of_automatic_gates_in_one_go():
    proofs = {
        one: Proof(moment(2, 10), "seen") for one in ("credits", "authentication-1", "first-sync-1")
    }
    result = evaluate(STANDARD, done("kickoff"), proofs, moment(2, 11), CALENDAR)
    assert set(result.having("done")) == {"kickoff", *proofs}
    assert result.having("open") == ("workflow-configuration-1",)


def test_a_proof_that_comes_early_waits_for_its_gate():
    proof = {"webhooks-1": Proof(moment(1), "a delivery arrived")}
    result = evaluate(STANDARD, done("kickoff"), proof, moment(2), CALENDAR)
    assert result.statuses["webhooks-1"] == "pending"
    ready = done("kickoff", "credits", "authentication-1", "first-sync-1",
                 "workflow-configuration-1")  # fmt: skip
    result = evaluate(STANDARD, ready, proof, moment(3), CALENDAR)
    assert result.statuses["webhooks-1"] == "done"
    assert result.states["webhooks-1"].done_at == moment(3)


def test_a_persons_gate_is_not_settled_by_a_proof():
    proof = {"kickoff": Proof(moment(1), "somebody says so")}
    result = evaluate(STANDARD, {}, proof, moment(1), CALENDAR)
    assert result.statuses["kickoff"] == "open"


def test_a_skipped_gate_lets_the_next_one_open():
    states = {"kickoff": GateState(skipped_because="done last year")}
    result = evaluate(STANDARD, states, {}, moment(1), CALENDAR)
    assert result.having("skipped") == ("kickoff",)
    assert result.having("open") == ("credits",)


def test_a_gate_waits_for_its_agreed_day():
    states = {**done("kickoff"), "credits": GateState(earliest=date(2027, 3, 5))}
    assert evaluate(STANDARD, states, {}, moment(4), CALENDAR).having("open") == ()
    assert evaluate(STANDARD, states, {}, moment(5), CALENDAR).having("open") == ("credits",)


def test_a_blocked_gate_holds_up_what_follows_and_is_blocked_until_the_block_ends():
    block = Block(moment(1, 12), "no answer", "customer")
    states = {"kickoff": GateState(opened_at=moment(1), blocks=(block,))}
    result = evaluate(STANDARD, states, {}, moment(2), CALENDAR)
    assert result.having("blocked") == ("kickoff",)
    assert result.having("open") == ()
    ended = {"kickoff": replace(states["kickoff"], blocks=(replace(block, until=moment(2)),))}
    assert evaluate(STANDARD, ended, {}, moment(2), CALENDAR).having("open") == ("kickoff",)


def test_a_gate_is_late_by_what_is_likely_and_overdue_by_its_worst_case():
    states = {**done("kickoff"), "credits": GateState(opened_at=moment(2), done_at=moment(2)),
              "authentication-1": GateState(opened_at=moment(2))}  # fmt: skip
    late = [evaluate(STANDARD, states, {}, at, CALENDAR).late
            for at in (moment(2, 14), moment(3, 10), moment(4, 10))]  # fmt: skip
    assert late == [{}, {"authentication-1": "soon"}, {"authentication-1": "overdue"}]


def test_an_agreed_due_day_decides_instead():
    states = {"kickoff": GateState(opened_at=moment(1), due=date(2027, 3, 9))}
    late = [evaluate(STANDARD, states, {}, moment(day), CALENDAR).late for day in (8, 9, 10)]
    assert late == [{}, {"kickoff": "soon"}, {"kickoff": "overdue"}]


def test_waiting_for_the_customer_is_counted_apart_and_each_moment_once():
    states = {
        **done("kickoff"),
        "credits": GateState(opened_at=moment(2), done_at=moment(2)),
        "authentication-1": GateState(opened_at=moment(2), done_at=moment(4)),
        "first-sync-1": GateState(opened_at=moment(4), done_at=moment(4, 13)),
        "workflow-configuration-1": GateState(
            opened_at=moment(4, 13),
            blocks=(Block(moment(5), "no test data", "customer", until=moment(9)),),
        ),
    }
    result = evaluate(STANDARD, states, {}, moment(9, 13), CALENDAR)
    assert result.waited == {"us": 1 + 0.5 + 0.5, "customer": 2 + 2, "makini": 0.5}
    assert sum(result.waited.values()) == pytest.approx(result.now)


def test_while_anything_of_ours_is_open_the_customer_is_not_waited_for():
    states = {**done("kickoff"), "design": GateState(opened_at=moment(2)),
              "network": GateState(opened_at=moment(2))}  # fmt: skip
    result = evaluate(WIDE, states, {}, moment(4), CALENDAR)
    assert result.waited["customer"] == 0
    assert result.waited["us"] == 3


def test_the_forecast_moves_with_what_happened():
    early = evaluate(STANDARD, done("kickoff"), {}, moment(2), CALENDAR)
    late = evaluate(STANDARD, done("kickoff"), {}, moment(15), CALENDAR)
    first, second = (forecast_plan(STANDARD, CALENDAR, one) for one in (early, late))
    assert first.p80 < second.p50
    assert (first.commitment, second.commitment) == ("kept", "late")


def test_a_commitment_is_judged_by_half_and_four_of_five():
    early, late, later = date(2027, 3, 1), date(2027, 3, 5), date(2027, 3, 9)
    assert judge_commitment(None, early, late) == "none"
    assert judge_commitment(late, early, late) == "kept"
    assert judge_commitment(late, early, later) == "at risk"
    assert judge_commitment(early, late, later) == "late"


states = st.builds(
    GateState,
    opened_at=st.none() | st.integers(1, 9).map(moment),
    done_at=st.none() | st.integers(9, 19).map(moment),
    skipped_because=st.none() | st.just("not needed"),
    blocks=st.just(()) | st.just((Block(moment(9), "x", "customer"),)),
    earliest=st.none() | st.just(date(2027, 3, 25)),
)
histories = st.dictionaries(st.sampled_from([gate.id for gate in WIDE.gates]), states)
proved = st.sets(st.sampled_from([gate.id for gate in WIDE.gates])).map(
    lambda gates: {gate: Proof(moment(10), "seen") for gate in gates}
)


@given(histories, proved)
def test_evaluating_again_changes_nothing_and_nothing_settled_is_reopened(history, proofs):
    now = moment(20)
    first = evaluate(WIDE, history, proofs, now, CALENDAR)
    again = evaluate(WIDE, first.states, proofs, now + timedelta(minutes=1), CALENDAR)
    assert again.changes == ()
    assert 0 <= first.progress <= 1
    for gate, state in history.items():
        if status_of(state) in SETTLED:
            assert first.states[gate] == state
    for change in first.changes:
        needs = next(gate.needs for gate in WIDE.gates if gate.id == change.gate)
        if change.to == "open":
            assert all(first.statuses[need] in SETTLED for need in needs)
    forecast_plan(WIDE, CALENDAR, first, trials=20)


def test_played_to_the_end_it_goes_live():
    history: dict[str, GateState] = {}
    now = moment(1)
    while not (result := evaluate(WIDE, history, {}, now, CALENDAR)).live:
        now += timedelta(hours=8)
        history = {
            named: replace(state, done_at=now) if status_of(state) == "open" else state
            for named, state in result.states.items()
        }
    assert result.progress == 1
    assert set(result.statuses.values()) == {"done"}
