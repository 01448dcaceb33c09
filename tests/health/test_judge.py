from datetime import UTC, datetime, timedelta

import orjson
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins
from msgspec.structs import replace

from linekeeper.config import HealthPolicy
from linekeeper.health.evidence import (
    OURS,
    Health,
    Judged,
    Observation,
    Outcome,
    is_older,
    load,
)
from linekeeper.health.judge import is_trouble, judge
from linekeeper.health.makinis_word import wants_read

T0 = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
POLICY = HealthPolicy()


def seen(outcome: Outcome, minute: float, **more) -> Observation:
    return Observation(at=T0 + timedelta(minutes=minute), source="probe", outcome=outcome, **more)


def listed(word: str, minute: float, *, decisive: bool = False) -> Observation:
    return Observation(
        at=T0 + timedelta(minutes=minute),
        source="list",
        outcome=Outcome.listed,
        lifecycle=word,
        decisive=decisive,
    )


def after(*observations: Observation, start: Judged = Judged()) -> Judged:
    for observation in observations:
        start = judge(start, observation, POLICY).judged
    return start


outcomes = st.sampled_from(list(Outcome))
observations = st.builds(
    Observation,
    at=st.integers(-600, 600).map(lambda minutes: T0 + timedelta(minutes=minutes)),
    source=st.sampled_from(["probe", "list", "webhook", "product"]),
    outcome=outcomes,
    lifecycle=st.sampled_from(["", "active", "inactive", "pending", "unknown", "in_progress"]),
    decisive=st.booleans(),
    latency=st.none() | st.floats(0, 60),
    sync_updated_at=st.none() | st.just(T0 - timedelta(days=30)) | st.just(T0),
)


@given(st.lists(observations, max_size=60))
def test_any_sequence_is_judged_and_survives_json(sequence: list[Observation]) -> None:
    state = Judged()
    for observation in sequence:
        state = judge(state, observation, POLICY).judged
        assert load(orjson.loads(orjson.dumps(to_builtins(state)))) == state
        assert len(state.latencies) <= POLICY.slow_samples
        assert len(state.falls) <= 700


@given(st.lists(observations, max_size=30), observations)
def test_never_healthy_on_an_unknown_status(sequence: list[Observation], last: Observation) -> None:
    state = after(*sequence)
    verdict = judge(state, last, POLICY)
    strange = last.outcome is Outcome.strange or verdict.judged.lifecycle == "unknown"
    if verdict.applied and strange:
        assert verdict.judged.health is not Health.healthy


@given(st.lists(observations, max_size=30), observations)
def test_an_older_observation_changes_nothing(
    sequence: list[Observation], late: Observation
) -> None:
    state = after(*sequence)
    verdict = judge(state, late, POLICY)
    if late.outcome is Outcome.doubted and late.source not in OURS:
        return  # a refused call is not undone by a status that was only cached
    if verdict.doubts:  # a read settles it; until then nothing is concluded
        assert verdict.judged.health is state.health
        return
    if state.observed_at is not None and late.at < state.observed_at:
        assert not verdict.applied
        assert verdict.judged == state


def test_two_misses_leave_the_health_and_the_third_makes_it_unreachable() -> None:
    state = after(seen(Outcome.answered, 0), seen(Outcome.missed, 5), seen(Outcome.missed, 10))
    assert (state.health, state.suspect) == (Health.healthy, True)
    assert after(seen(Outcome.missed, 15), start=state).health is Health.unreachable


def test_one_answer_brings_it_back() -> None:
    state = after(*(seen(Outcome.missed, minute) for minute in range(5)))
    assert after(seen(Outcome.answered, 6), start=state).health is Health.healthy


def test_a_lost_login_counts_at_once_and_misses_do_not_hide_it() -> None:
    state = after(seen(Outcome.answered, 0), seen(Outcome.login_lost, 1))
    assert state.health is Health.reauthorization_required
    state = after(*(seen(Outcome.missed, 2 + n) for n in range(5)), start=state)
    assert state.health is Health.reauthorization_required


def test_the_third_fall_within_an_hour_is_flapping_until_thirty_quiet_minutes() -> None:
    state = after(seen(Outcome.answered, 0))
    for fall in (5, 20, 35):
        state = after(seen(Outcome.login_lost, fall), seen(Outcome.answered, fall + 5), start=state)
    assert state.health is Health.degraded
    state = after(seen(Outcome.answered, 60), start=state)
    assert (state.health, state.degraded_by) == (Health.degraded, "flapping")
    state = after(seen(Outcome.answered, 66), start=state)
    assert (state.health, state.degraded_by) == (Health.healthy, "")
    assert state.falls == ()


def test_a_flapping_connection_that_falls_again_waits_anew() -> None:
    state = after(seen(Outcome.answered, 0))
    for fall in (5, 20, 35, 64):
        state = after(seen(Outcome.login_lost, fall), seen(Outcome.answered, fall + 5), start=state)
    assert state.health is Health.degraded
    assert after(seen(Outcome.answered, 90), start=state).health is Health.degraded
    assert after(seen(Outcome.answered, 96), start=state).health is Health.healthy


def test_slow_is_the_median_of_five_probes() -> None:
    state = after(*(seen(Outcome.answered, n, latency=11.0) for n in range(4)))
    assert state.health is Health.healthy
    state = after(seen(Outcome.answered, 5, latency=11.0), start=state)
    assert (state.health, state.degraded_by) == (Health.degraded, "slow")
    state = after(*(seen(Outcome.answered, 6 + n, latency=0.2) for n in range(3)), start=state)
    assert state.health is Health.healthy


def test_a_sync_older_than_a_day_is_degraded() -> None:
    fresh, old = T0 - timedelta(hours=23), T0 - timedelta(hours=26)
    assert after(seen(Outcome.answered, 0, sync_updated_at=fresh)).health is Health.healthy
    state = after(seen(Outcome.answered, 0, sync_updated_at=old))
    assert (state.health, state.degraded_by) == (Health.degraded, "sync_stale")


def test_without_a_token_the_list_decides() -> None:
    assert after(listed("active", 0, decisive=True)).health is Health.healthy
    assert after(listed("inactive", 0, decisive=True)).health is Health.inactive
    assert after(listed("sleeping", 0, decisive=True)).health is Health.unknown


def test_the_list_never_outshines_a_probe_that_failed() -> None:
    state = after(listed("active", 0), seen(Outcome.login_lost, 1), listed("active", 2))
    assert state.health is Health.reauthorization_required


def test_an_unchanged_list_entry_does_not_make_a_webhook_look_old() -> None:
    state = after(listed("active", 0), seen(Outcome.answered, 1), listed("active", 5))
    assert after(seen(Outcome.login_lost, 3), start=state).health is (
        Health.reauthorization_required
    )


def test_inactive_in_the_list_caps_an_answer() -> None:
    state = after(listed("inactive", 0), seen(Outcome.answered, 1))
    assert state.health is Health.inactive
    assert after(listed("active", 2), start=state).health is Health.healthy


def test_unknown_is_trouble_only_once_live_and_heard_of() -> None:
    assert is_trouble("live", "unknown", answered=True)
    assert not is_trouble("live", "unknown", answered=False)
    assert not is_trouble("syncing", "unknown", answered=True)
    assert is_trouble("syncing", "reauthorization_required", answered=True)
    assert not is_trouble("disconnected", "unreachable", answered=True)
    assert not is_trouble("live", "healthy", answered=True)


moments = st.integers(0, 3_000_000).map(lambda n: T0 + timedelta(microseconds=n))


@given(moments, moments)
def test_times_of_our_own_are_compared_as_they_are(one: datetime, other: datetime) -> None:
    if 0 not in (one.microsecond % 1_000, other.microsecond % 1_000):
        assert is_older(one, other, ours=True) == (one < other)


@given(moments, moments)
def test_of_two_times_at_most_one_is_older(one: datetime, other: datetime) -> None:
    assert not (is_older(one, other, ours=False) and is_older(other, one, ours=False))
    assert not is_older(one, one, ours=True)


def test_a_whole_second_is_not_older_than_a_probe_within_it() -> None:
    probe = T0 + timedelta(milliseconds=400, microseconds=7)
    assert not is_older(T0, probe, ours=False)
    assert is_older(T0 - timedelta(seconds=1), probe, ours=False)
    assert not is_older(T0 + timedelta(milliseconds=400), probe, ours=False)
    assert is_older(T0 + timedelta(milliseconds=399), probe, ours=False)


def test_the_senders_word_wins_a_tie_with_a_probe() -> None:
    within = T0 + timedelta(milliseconds=400, microseconds=7)
    event = Observation(at=T0, source="webhook", outcome=Outcome.login_lost)
    probe = Observation(at=within, source="probe", outcome=Outcome.answered)
    for first, second in ((event, probe), (probe, event)):
        assert after(first, second).health is Health.reauthorization_required


def test_a_row_of_an_earlier_version_is_read() -> None:
    old = to_builtins(after(seen(Outcome.answered, 0)))
    for name in ("lost_by", "lost_at", "restored_at", "refusals", "refused_at", "disputed"):
        old.pop(name, None)
    for name in ("evidence", "read_at", "tried_at"):
        old.pop(name, None)
    assert load(old).health is Health.healthy


def unread(outcome: Outcome, minute: float, **more) -> Observation:
    return seen(outcome, minute, unread=True, **more)


def test_without_reads_a_sync_begun_long_after_the_event_counts() -> None:
    lost = Observation(at=T0, source="webhook", outcome=Outcome.login_lost)
    state = after(unread(Outcome.answered, -5), lost)
    fresh = unread(Outcome.answered, 60 * 24, sync_updated_at=T0 + timedelta(hours=23))
    assert after(fresh, start=state).health is Health.unknown
    late = unread(Outcome.answered, 60 * 25, sync_updated_at=T0 + timedelta(hours=25))
    assert after(fresh, late, start=state).health is Health.healthy


def test_refused_calls_count_for_an_hour_after_the_last() -> None:
    calls = [
        Observation(T0 + timedelta(minutes=n), "product", Outcome.doubted, unread=True)
        for n in range(3)
    ]
    state = after(listed("active", -1, decisive=True), *calls)
    assert state.health is Health.unknown
    assert after(listed("active", 61, decisive=True), start=state).health is Health.unknown
    assert after(listed("active", 63, decisive=True), start=state).health is Health.healthy


def test_a_connection_made_again_since_is_no_contradiction() -> None:
    lost = Observation(at=T0, source="webhook", outcome=Outcome.login_lost)
    state = after(listed("active", -1, decisive=True), lost, listed("active", 1, decisive=True))
    assert state.health is Health.unknown
    again = replace(listed("active", 9, decisive=True), connected_at=T0 + timedelta(minutes=8))
    assert after(again, start=state).health is Health.healthy


def test_a_fail_soon_after_a_login_is_settled_by_a_read() -> None:
    """A synchronization that ended after the login may have begun before it."""
    logged_in = Observation(at=T0, source="reconnect", outcome=Outcome.answered, sync_status="fail")
    read = Observation(at=T0 + timedelta(minutes=3), source="read", outcome=Outcome.answered)
    judged = after(logged_in, read)

    def failing(minute: float) -> Observation:
        synced = T0 + timedelta(minutes=minute - 5)
        return seen(Outcome.login_lost, minute, sync_status="fail", sync_updated_at=synced)

    assert wants_read(judged, failing(11), POLICY)
    assert after(failing(11), start=judged).own is Health.healthy
    assert not wants_read(judged, failing(70), POLICY)
    assert after(failing(70), start=judged).own is Health.reauthorization_required
