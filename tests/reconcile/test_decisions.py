"""The pure parts: watermarks, absences, caps, trust, cursors, sets of keys."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.reconcile.causes import AWAY, absences
from linekeeper.reconcile.deletes import UNDO, absence, cap, is_believed, may_undo
from linekeeper.reconcile.feed import BadCursor, cursor, position_of
from linekeeper.reconcile.listing import CLOCKS, KeySet, Sizes
from linekeeper.reconcile.trust import BAD, ENOUGH, GOOD, Measured, state_after
from linekeeper.reconcile.watermark import OVERLAP, Grain, move, read_from

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TIMES = st.integers(-100_000, 100_000).map(lambda seconds: NOW + timedelta(seconds=seconds))
COUNTS = st.integers(0, 10_000)


@given(position=st.none() | TIMES, newest=st.none() | TIMES, started=TIMES)
def test_a_watermark_never_goes_ahead_of_the_run_or_back(
    position: datetime | None, newest: datetime | None, started: datetime
) -> None:
    after = move(position, newest, started=started)
    assert after is None or after <= started
    if position is not None and position <= started:
        assert after is not None
        assert after >= position
    assert (after is None) == (position is None and newest is None)


GRAIN_SECONDS = st.sampled_from([None, 1, 60, 3600, 86_400])


@given(position=TIMES, moved=st.none() | TIMES, polled=st.none() | TIMES, seconds=GRAIN_SECONDS)
def test_reading_on_begins_at_the_watermark_or_before_it(
    position: datetime, moved: datetime | None, polled: datetime | None, seconds: int | None
) -> None:
    grain = None if seconds is None else timedelta(seconds=seconds)
    since = read_from(position, moved, polled, grain=grain)
    assert since <= position
    assert position - since <= OVERLAP + (grain or timedelta(microseconds=1))
    if moved is None or polled is None or polled - moved < OVERLAP:
        assert position - since > OVERLAP


@given(
    days=st.lists(st.integers(0, 3_000), min_size=3, unique=True),
    hours=st.integers(0, 23),
    seconds=st.sampled_from([1, 60, 3600, 86_400]),
)
def test_a_grain_is_learned_whatever_the_zone_and_never_taken_for_finer_than_it_is(
    days: list[int], hours: int, seconds: int
) -> None:
    grain = Grain()
    start = NOW.replace(hour=hours)
    grain.observe([start + timedelta(seconds=seconds * step) for step in days])
    learned = grain.learned
    assert learned is not None
    assert learned >= timedelta(seconds=seconds)
    grain.observe([start, start + timedelta(seconds=seconds)])
    assert grain.learned == timedelta(seconds=seconds)


@given(st.lists(st.tuples(TIMES, st.integers(0, 5_000))))
def test_absences_are_the_long_gaps_in_which_no_receiver_was_there(
    spans: list[tuple[datetime, int]],
) -> None:
    lived = [(since, since + timedelta(seconds=length)) for since, length in spans]
    found = absences(lived)
    for gap in found:
        assert gap.length >= AWAY
        assert all(until <= gap.since or since >= gap.until for since, until in lived)
        assert any(until == gap.since for _, until in lived)
        assert any(since == gap.until for since, _ in lived)
    assert [gap.since for gap in found] == sorted(gap.since for gap in found)


@given(live=st.integers(0, 100_000), gone=st.integers(0, 100_000), held=st.integers(0, 100))
def test_never_more_than_a_fifth_goes_at_once_or_two_of_a_few_and_never_everything(
    live: int, gone: int, held: int
) -> None:
    assert cap(live) == (2 if live < 10 else live // 5)
    believed = is_believed(gone, live, held=held)
    assert believed == (gone + held <= cap(live) and gone + held < live)
    assert may_undo(NOW - UNDO, now=NOW)
    assert not may_undo(NOW - UNDO - timedelta(seconds=1), now=NOW)


@given(
    missed=COUNTS,
    late=COUNTS,
    seen=COUNTS,
    seconds=st.floats(0, 1e9),
    before=st.sampled_from(["good", "bad", "none", "unknown"]),
    ever=st.booleans(),
)
def test_trust_follows_the_miss_rate_and_a_late_change_is_no_miss(
    missed: int, late: int, seen: int, seconds: float, before: str, ever: bool
) -> None:
    late = min(late, missed)
    measured = Measured(missed - late, late, seen, seconds)
    assert measured.lost + measured.announced == missed + seen
    state = state_after(before, measured, ever_announced=ever)
    rate = measured.miss_rate
    if state == "none":
        assert measured.announced == 0
        assert not ever
    if state == "good":
        assert measured.changes >= ENOUGH
        assert rate is not None
        assert rate <= BAD
    if rate is not None and rate > BAD and measured.changes >= ENOUGH:
        assert state in ("bad", "none")
    if rate is not None and rate <= GOOD and measured.changes >= ENOUGH and not late:
        assert state == "good"


@given(st.integers(0, 10**17))
def test_a_cursor_gives_back_its_place(position: int) -> None:
    assert position_of(cursor(position)) == position


@given(st.text(max_size=60))
def test_any_other_cursor_is_refused(text: str) -> None:
    try:
        position = position_of(text)
    except BadCursor:
        return
    assert text.strip() == "" or position_of(cursor(position)) == position


@pytest.mark.parametrize("text", ["0", "abc", "MTo", "MTotMQ", "MjoxMg", "🙂", "a" * 500])
def test_cursors_of_others(text: str) -> None:
    with pytest.raises(BadCursor):
        position_of(text)


@given(st.sets(st.text(max_size=8)), st.sets(st.text(max_size=8)))
def test_a_set_of_keys_knows_what_was_listed(listed: set[str], others: set[str]) -> None:
    keys = KeySet()
    for _ in range(2):
        keys.update(listed)
    assert len(keys) == len(listed)
    assert all(key in keys for key in listed)
    assert not any(key in keys for key in others - listed)


@given(
    totals=st.lists(st.none() | st.integers(0, 5), max_size=8),
    listed=st.integers(0, 6),
    newest=st.none() | TIMES,
)
def test_a_listing_proves_something_only_where_nothing_can_have_slipped_through(
    totals: list[int | None], listed: int, newest: datetime | None
) -> None:
    sizes = Sizes()
    for total in totals:
        sizes.record_total(total)
    known = [total for total in totals if total is not None]
    assert sizes.shrank == any(b < a for a, b in pairwise(known))
    proved = sizes.is_consistent(listed, newest, started=NOW)
    if len(totals) <= 1:
        assert proved
    else:
        same = len(set(totals)) == 1 and bool(known)
        quiet = newest is None or newest < NOW - CLOCKS
        assert proved == (same and quiet and listed >= known[0])


@given(absent=st.none() | TIMES, seen=TIMES, decided=st.booleans())
def test_a_record_is_gone_only_if_two_listings_lack_it_and_nobody_has_seen_it_since(
    absent: datetime | None, seen: datetime, decided: bool
) -> None:
    verdict = absence(absent, seen, started=NOW, decided=decided)
    if decided or seen >= NOW:
        assert verdict is None
    elif absent is None:
        assert verdict == "first"
    else:
        assert verdict == ("agreed" if absent < NOW else None)
