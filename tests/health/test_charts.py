from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.health.evidence import Health
from linekeeper.views.health_chart import (
    BUCKETS,
    LOOKS,
    TROUBLES,
    Bar,
    Newcomer,
    Turned,
    first_start,
    look,
    replay,
    states_over_time,
    step_for,
    timeline,
)

NOW = datetime(2026, 11, 24, 20, 17, 30, tzinfo=UTC)
QUARTER = timedelta(minutes=15)

healths = st.one_of(st.sampled_from([*Health]), st.text(max_size=20))
moments = st.timedeltas(min_value=timedelta(days=-20), max_value=timedelta(days=1)).map(
    lambda ahead: NOW + ahead
)
changes = st.lists(st.builds(Turned, moments, healths, healths), max_size=60)


def shapes(svg: str) -> list[str]:
    return [path.get("d", "") for path in ElementTree.fromstring(svg).iter() if path.get("d")]


def test_every_health_has_one_look_and_a_strange_one_looks_unknown() -> None:
    assert set(LOOKS) == set(Health)
    assert {*TROUBLES, Health.healthy} == set(Health)
    assert len({one.sign for one in LOOKS.values()}) == len(LOOKS)
    assert look("<script>") is LOOKS[Health.unknown]


@given(st.lists(st.dictionaries(healths, st.integers(0, 10**7)), max_size=BUCKETS))
def test_states_over_time_is_small_xml_and_the_same_every_time(
    counts: list[dict[str, int]],
) -> None:
    buckets = [Bar(NOW + QUARTER * n, row) for n, row in enumerate(counts)]
    svg = states_over_time(buckets)
    ElementTree.fromstring(svg)
    assert svg == states_over_time(buckets)
    assert len(svg) < 30_000
    assert "<script" not in svg
    assert "href" not in svg


def test_states_over_time_stays_small_where_everything_is_drawn() -> None:
    buckets = [
        Bar(NOW + QUARTER * n, dict.fromkeys(Health, 33_333 + n % 7)) for n in range(BUCKETS)
    ]
    assert len(states_over_time(buckets)) < 30_000


def test_one_in_trouble_among_ten_thousand_is_seen() -> None:
    quiet = {Health.healthy: 9_999}
    buckets = [Bar(NOW, quiet), Bar(NOW + QUARTER, {**quiet, Health.unreachable: 1})]
    assert "nothing in trouble" not in states_over_time(buckets)
    assert "nothing in trouble" in states_over_time([Bar(NOW, quiet)] * 2)


@given(changes, healths)
def test_a_timeline_is_xml_whatever_happened(happened: list[Turned], health: str) -> None:
    svg = timeline(happened, NOW, health)
    ElementTree.fromstring(svg)
    assert svg == timeline(happened, NOW, health)
    assert len(svg) < 30_000


def test_a_timeline_shows_what_held_at_its_beginning() -> None:
    old = Turned(NOW - timedelta(days=90), Health.unknown, Health.inactive)
    words = [one.text for one in ElementTree.fromstring(timeline([old], NOW)).iter() if one.text]
    assert "Inactive" in words
    assert "unknown" not in words


def test_a_timeline_begins_when_the_connection_became_known() -> None:
    adopted = NOW - timedelta(minutes=25)
    first = Turned(adopted, Health.unknown, Health.healthy)
    fell = Turned(NOW - timedelta(minutes=5), Health.healthy, Health.unreachable)
    words = [
        one.text
        for one in ElementTree.fromstring(timeline([first, fell], NOW, since=adopted)).iter()
        if one.text
    ]
    assert {"Healthy", "Unreachable"} <= {*words}
    assert "unknown" not in words
    assert "19:52" not in words  # the marks are of these 25 minutes, not of an hour
    assert "19:55" in words


def test_a_timeline_of_one_that_has_just_become_known_shows_nothing_before() -> None:
    svg = timeline([Turned(NOW, Health.unknown, Health.healthy)], NOW, since=NOW)
    words = [one.text for one in ElementTree.fromstring(svg).iter() if one.text]
    assert "unknown" not in words
    assert "Healthy" in words


def test_a_timeline_of_a_connection_nothing_ever_happened_to_shows_its_health() -> None:
    assert "Healthy" in timeline([], NOW, Health.healthy)


@pytest.mark.parametrize(
    ("age", "minutes"),
    [
        (timedelta(), 1),
        (timedelta(minutes=90), 1),
        (timedelta(hours=2), 5),
        (timedelta(hours=9), 15),
        (timedelta(days=900), 15),
    ],
)
def test_a_young_fleet_is_shown_closer(age: timedelta, minutes: int) -> None:
    assert step_for(NOW - age, NOW) == timedelta(minutes=minutes)
    assert first_start(step_for(NOW - age, NOW), NOW) <= NOW - min(age, timedelta(hours=23))


def test_a_fleet_without_connections_has_a_history_of_nothing() -> None:
    assert step_for(None, NOW) == timedelta(minutes=1)
    history = replay({}, [], [], step=QUARTER, now=NOW)
    assert len(history) == BUCKETS
    assert not any(bucket.troubles for bucket in history)
    ElementTree.fromstring(states_over_time(history))


def test_buckets_start_at_quarter_hours_and_the_last_one_holds_now() -> None:
    history = replay({Health.healthy: 1}, [], [], step=QUARTER, now=NOW)
    assert history[-1].start == datetime(2026, 11, 24, 20, 15, tzinfo=UTC)
    assert history[0].start == datetime(2026, 11, 23, 20, 30, tzinfo=UTC)


def test_an_outage_shorter_than_a_bucket_is_not_lost() -> None:
    down = NOW - timedelta(minutes=70)
    history = replay(
        {Health.healthy: 5},
        [
            Turned(down, Health.healthy, Health.unreachable),
            Turned(down + timedelta(minutes=2), Health.unreachable, Health.healthy),
        ],
        [],
        step=QUARTER,
        now=NOW,
    )
    worst = [bucket for bucket in history if bucket.troubles]
    assert [bucket.start for bucket in worst] == [datetime(2026, 11, 24, 19, 0, tzinfo=UTC)]
    assert worst[0].counts[Health.unreachable] == 1
    assert worst[0].counts[Health.healthy] == 4


def test_an_outage_lasts_from_its_first_bucket_to_its_last() -> None:
    history = replay(
        {Health.healthy: 5},
        [
            Turned(NOW - timedelta(hours=3), Health.healthy, Health.unreachable),
            Turned(NOW - timedelta(hours=1), Health.unreachable, Health.healthy),
        ],
        [],
        step=QUARTER,
        now=NOW,
    )
    assert [bool(bucket.troubles) for bucket in history[-15:]] == (
        [False] * 2 + [True] * 9 + [False] * 4
    )


def test_a_connection_counts_from_when_we_learned_of_it() -> None:
    born = NOW - timedelta(hours=1)
    history = replay(
        {Health.healthy: 3},
        [Turned(born, Health.unknown, Health.healthy)],
        [Newcomer(born, Health.unknown)],
        step=QUARTER,
        now=NOW,
    )
    assert sum(history[0].counts.values()) == 2
    assert sum(history[-1].counts.values()) == 3
    assert not any(bucket.troubles for bucket in history)  # judged as it was adopted


@given(
    st.dictionaries(st.sampled_from([*Health]), st.integers(0, 50)),
    st.lists(st.builds(Turned, moments, healths, healths), max_size=30),
    st.lists(st.builds(Newcomer, moments, healths), max_size=30),
)
def test_a_history_that_does_not_add_up_is_still_drawn(
    counts: dict[str, int], happened: list[Turned], newcomers: list[Newcomer]
) -> None:
    history = replay(counts, happened, newcomers, step=QUARTER, now=NOW)
    assert all(count >= 0 for bucket in history for count in bucket.counts.values())
    ElementTree.fromstring(states_over_time(history))


def test_who_is_only_listed_is_not_drawn_as_healthy() -> None:
    green, pale = f'class="c{list(LOOKS).index(Health.healthy)}"', f'class="c{len(LOOKS)}"'
    buckets = [Bar(NOW + QUARTER * n, {Health.healthy: 600}) for n in range(2)]
    svg = states_over_time(buckets, 600)
    assert green not in svg
    assert pale in svg
    assert "Listed as active (now 600 only listed)" in svg
    adopted = [Turned(NOW - timedelta(days=1), Health.unknown, Health.healthy)]
    svg = timeline(adopted, NOW, Health.healthy, only_listed=True)
    assert green not in svg
    assert pale in svg
    assert green in timeline(adopted, NOW, Health.healthy)
