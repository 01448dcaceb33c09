"""When calls are held back, and when they are tried again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.makini import (
    AppCircuit,
    CircuitState,
    ErrorKind,
    MakiniError,
    after_failure,
    begin_probe,
    may_call,
    may_call_data,
)

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
DOWN = MakiniError(ErrorKind.unavailable, "", app="plant")


def opened() -> AppCircuit:
    circuit = AppCircuit()
    for _ in range(5):
        circuit = after_failure(circuit, DOWN, START)
    return circuit


@pytest.mark.parametrize(
    ("health", "allowed"),
    [
        ("healthy", True),
        ("degraded", True),
        ("unknown", True),
        ("unreachable", False),
        ("reauthorization_required", False),
        ("inactive", False),
    ],
)
def test_data_is_not_read_from_a_connection_that_cannot_give_it(health: str, allowed: bool) -> None:
    assert may_call_data(health) is allowed


def test_five_failures_in_a_row_open_the_circuit_for_half_a_minute() -> None:
    circuit = AppCircuit()
    for _ in range(4):
        circuit = after_failure(circuit, DOWN, START)
        assert may_call(circuit, START)
    circuit = after_failure(circuit, DOWN, START)
    retry_at = START + timedelta(seconds=30)
    assert circuit == AppCircuit(CircuitState.open, 5, START, retry_at, DOWN.brief)
    assert not may_call(circuit, START + timedelta(seconds=29))
    assert may_call(circuit, START + timedelta(seconds=30))


def test_half_open_lets_one_probe_through() -> None:
    now = START + timedelta(seconds=30)
    circuit = begin_probe(opened(), now)
    assert circuit.state is CircuitState.half_open
    assert not may_call(circuit, now)


def test_a_probe_never_heard_of_again_is_replaced() -> None:
    now = START + timedelta(seconds=30)
    circuit = begin_probe(opened(), now)
    assert may_call(circuit, now + timedelta(seconds=30))


def test_each_failed_probe_doubles_the_wait_up_to_a_quarter_of_an_hour() -> None:
    circuit, waits = opened(), []
    for _ in range(7):
        assert circuit.retry_at is not None
        now = circuit.retry_at
        circuit = after_failure(begin_probe(circuit, now), DOWN, now)
        assert circuit.retry_at is not None
        waits.append((circuit.retry_at - now).total_seconds())
    assert waits == [60, 120, 240, 480, 900, 900, 900]
    assert circuit.opened_at == START


def test_failures_of_calls_already_under_way_do_not_lengthen_the_wait() -> None:
    circuit = opened()
    assert after_failure(circuit, DOWN, START + timedelta(seconds=1)) == circuit


def test_a_call_the_circuit_held_back_is_no_failure() -> None:
    held = MakiniError(ErrorKind.circuit_open, "", app="plant")
    assert after_failure(AppCircuit(), held, START) == AppCircuit()


def test_retry_after_is_waited_for() -> None:
    limited = MakiniError(ErrorKind.rate_limited, "", app="plant", retry_after=200.0)
    circuit = AppCircuit()
    for _ in range(5):
        circuit = after_failure(circuit, limited, START)
    assert circuit.retry_at == START + timedelta(seconds=200)


def test_a_clock_set_back_by_days_does_not_keep_the_circuit_open() -> None:
    assert may_call(opened(), START - timedelta(days=3))


STEPS = st.lists(st.tuples(st.floats(-100, 2000), st.sampled_from("fspx")), max_size=60)


@given(STEPS)
def test_whatever_happens_a_call_is_possible_again_within_a_quarter_of_an_hour(
    steps: list[tuple[float, str]],
) -> None:
    circuit, now, latest = AppCircuit(), START, START
    for seconds, step in steps:
        now += timedelta(seconds=seconds)
        latest = max(latest, now)
        if step == "f":
            circuit = after_failure(circuit, DOWN, now)
        elif step == "s":
            circuit = AppCircuit()
        elif step == "p" and may_call(circuit, now):
            circuit = begin_probe(circuit, now)
        assert (circuit.state is CircuitState.closed) == (circuit.failures < 5)
        assert may_call(circuit, latest + timedelta(minutes=15))
        assert may_call(circuit, now) or circuit.state is not CircuitState.closed
