"""Never more calls than the app's limit in any minute, whatever is asked and when."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.makini import grant, new_bucket, penalise, yield_calls
from linekeeper.makini.budget import LEAST_YIELDING_SHARE, RATE_SHARE, Bucket, Precedence

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
MINUTE = 60.0
STEPS = st.lists(
    st.tuples(
        st.floats(0, 90) | st.floats(0, 0.5),  # seconds that pass
        st.just(0.0) | st.floats(0, 3600),  # seconds the clock is then set back
        st.integers(0, 200),  # calls wanted
    ),
    max_size=60,
)


@given(st.integers(1, 300), STEPS)
def test_in_any_minute_no_more_calls_are_granted_than_allowed(
    per_minute: int, steps: list[tuple[float, float, int]]
) -> None:
    bucket = new_bucket(per_minute, START)
    elapsed, clock = 0.0, START
    granted_at: list[tuple[float, int]] = []
    for passed, set_back, want in steps:
        elapsed += passed
        clock += timedelta(seconds=passed - set_back)
        bucket, granted, wait = grant(bucket, per_minute, want, clock)
        assert 0 <= granted <= want
        assert (wait == 0) == (granted == want)
        granted_at.append((elapsed, granted))
    for start, _ in granted_at:
        window = [calls for at, calls in granted_at if start <= at <= start + MINUTE]
        assert sum(window) <= per_minute


@given(st.integers(1, 2000), st.integers(1, 500), st.floats(0, 3600))
def test_waiting_as_long_as_told_gets_a_call(per_minute: int, want: int, set_back: float) -> None:
    bucket, clock = new_bucket(per_minute, START), START
    bucket, _, _ = grant(bucket, per_minute, per_minute, clock)
    clock -= timedelta(seconds=set_back)
    bucket, granted, wait = grant(bucket, per_minute, want, clock)
    assert granted == 0
    assert wait <= 60 + MINUTE / (0.85 * per_minute) + 1e-3
    clock += timedelta(seconds=wait + 1e-3)
    _, granted, _ = grant(bucket, per_minute, want, clock)
    assert granted >= 1


def test_a_patient_caller_gets_eighty_five_percent() -> None:
    bucket, clock, made = new_bucket(600, START), START, 0
    while clock < START + timedelta(minutes=10):
        bucket, granted, wait = grant(bucket, 600, 10, clock)
        made += granted
        clock += timedelta(seconds=max(wait, 0.001))
    assert 0.85 * 6000 <= made <= 0.87 * 6000


@given(st.integers(60, 2000), st.floats(0, 58))
def test_for_a_minute_half_of_the_pace_is_left_to_others_in_every_part_of_it(
    per_minute: int, reported_again: float
) -> None:
    """The product met a limit that both spend: nobody who waits for a call stands still for it."""
    bucket = yield_calls(new_bucket(per_minute, START), per_minute, START)
    granted_by = [0]
    for second in range(1, 61):
        now = START + timedelta(seconds=second)
        if second - 1 <= reported_again < second:
            bucket = yield_calls(bucket, per_minute, now)
        bucket, granted, _ = grant(bucket, per_minute, per_minute, now)
        granted_by.append(granted_by[-1] + granted)
    pace = per_minute * RATE_SHARE / 60 / 2
    for start in range(51):
        assert granted_by[start + 10] - granted_by[start] == pytest.approx(pace * 10, abs=1.001)


def test_after_that_minute_the_pace_is_whole_again() -> None:
    bucket = yield_calls(new_bucket(600, START), 600, START)
    bucket, _, _ = grant(bucket, 600, 600, START + timedelta(seconds=60))
    _, granted, _ = grant(bucket, 600, 600, START + timedelta(seconds=66))
    assert granted == 600 * RATE_SHARE / 10


def test_no_limit_grants_everything() -> None:
    bucket = new_bucket(0, START)
    assert grant(bucket, 0, 5000, START) == (bucket, 5000, 0.0)


@given(st.floats(0, 10_000), st.floats(0, 10_000))
def test_after_a_penalty_nobody_calls_before_its_end(seconds: float, passed: float) -> None:
    until = START + timedelta(seconds=seconds)
    bucket = penalise(new_bucket(600, START), until, START)
    now = START + timedelta(seconds=passed)
    _, granted, wait = grant(bucket, 600, 1, now)
    if passed < min(seconds, 3600):
        assert granted == 0
        assert wait >= min(seconds, 3600) - passed - 1e-3
    else:
        assert wait < 1


def test_a_shorter_penalty_never_ends_a_longer_one() -> None:
    long, short = START + timedelta(seconds=60), START + timedelta(seconds=5)
    bucket = penalise(penalise(new_bucket(600, START), long, START), short, START)
    assert bucket.blocked_until == long


def test_a_penalty_keeps_what_is_left_of_it_when_the_clock_is_set_back() -> None:
    bucket = penalise(new_bucket(600, START), START + timedelta(seconds=30), START)
    _, granted, wait = grant(bucket, 600, 1, START - timedelta(hours=5))
    assert (granted, wait) == (0, 30.0)


def shared(per_minute: int, seconds: int, *, until: int) -> tuple[int, int]:
    """Calls granted in that time to a crowd, until then, and to one that yields, who ask alike."""
    bucket = new_bucket(per_minute, START)
    crowd = yielding = 0
    for tenth in range(10 * seconds):
        now = START + timedelta(seconds=tenth / 10)
        bucket, granted, _ = grant(bucket, per_minute, 16, now, turn=Precedence.last)
        yielding += granted
        if tenth < 10 * until:
            bucket, granted, _ = grant(bucket, per_minute, 100, now)
            crowd += granted
    return crowd, yielding


@pytest.mark.parametrize("per_minute", [60, 600])
def test_what_yields_has_a_fifth_while_others_wait_and_all_of_it_afterwards(
    per_minute: int,
) -> None:
    in_a_minute = per_minute * RATE_SHARE
    crowd, yielding = shared(per_minute, 300, until=300)
    first = new_bucket(per_minute, START).tokens  # nobody waited yet
    assert 0.15 < (yielding - first) / (5 * in_a_minute) <= LEAST_YIELDING_SHARE
    assert crowd >= 0.79 * 5 * in_a_minute
    _, later = shared(per_minute, 600, until=300)
    assert later - yielding >= 4.8 * in_a_minute  # they waited for the last time six seconds before


@pytest.mark.parametrize("per_minute", [6, 60, 600])
def test_whom_a_person_waits_for_is_granted_most_calls_beside_a_sweep(per_minute: int) -> None:
    """A sweep has a hundred due, and asks first each time; four calls are for a person."""
    bucket, granted, tenth = new_bucket(per_minute, START), 0, 0
    while granted < 4:
        now = START + timedelta(seconds=tenth / 10)
        bucket, _, _ = grant(bucket, per_minute, 100, now)
        bucket, more, _ = grant(bucket, per_minute, 1, now, turn=Precedence.person)
        granted, tenth = granted + more, tenth + 1
        assert tenth / 10 <= 6 * 60 / (per_minute * RATE_SHARE) + 1


def test_what_is_asked_for_ahead_is_waited_for_by_nobody() -> None:
    bucket = Bucket(1.0, START)
    bucket, granted, wait = grant(bucket, 60, 1, START, ahead=10)
    assert (granted, wait, bucket.waited_at) == (1, 0.0, None)
    bucket, granted, _ = grant(bucket, 60, 1, START, ahead=10)
    assert (granted, bucket.waited_at) == (0, START)
