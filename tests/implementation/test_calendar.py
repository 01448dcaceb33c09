"""Working days: weekends, holidays, and the way there and back."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.implementation.calendar import WorkingCalendar
from linekeeper.implementation.scope import PlanError

MONDAY = date(2027, 3, 1)
PLAIN = WorkingCalendar()
days = st.dates(date(2026, 1, 1), date(2031, 12, 31))
calendars = st.sampled_from([PLAIN, *map(WorkingCalendar, ("DE", "AE", "JP", "US", "IL"))])


def test_a_week_from_monday_ends_on_friday():
    assert PLAIN.finish(MONDAY, 5) == date(2027, 3, 5)
    assert PLAIN.finish(MONDAY, 5.01) == date(2027, 3, 8)
    assert PLAIN.finish(MONDAY, 0) == MONDAY


def test_a_kickoff_on_a_weekend_begins_on_the_next_working_day():
    assert PLAIN.first(date(2027, 3, 6)) == date(2027, 3, 8)


def test_public_holidays_of_the_country_do_not_count():
    german = WorkingCalendar("DE")
    assert not german.is_working(date(2027, 3, 26))
    assert german.finish(date(2027, 3, 25), 2) == date(2027, 3, 30)


def test_a_country_has_its_own_weekend():
    assert WorkingCalendar("IL").is_working(date(2027, 3, 7))
    assert not WorkingCalendar("IL").is_working(date(2027, 3, 5))


@pytest.mark.parametrize("country", ["XX", "DEU", "de", ""])
def test_an_unknown_country_is_refused(country):
    with pytest.raises(PlanError, match=r"^country"):
        WorkingCalendar(country)


@given(calendars, days, st.integers(1, 80))
def test_finishing_and_counting_are_inverse(calendar, start, count):
    end = calendar.finish(start, count)
    assert calendar.is_working(end)
    assert calendar.between(start, end + timedelta(days=1)) == count


@given(calendars, days, days, days)
def test_counts_add_up(calendar, a, b, c):
    assert calendar.between(a, b) + calendar.between(b, c) == calendar.between(a, c)
    assert (
        calendar.between(a, b)
        == sum(calendar.is_working(a + timedelta(days=n)) for n in range((b - a).days))
        or b < a
    )


@given(calendars, days, st.floats(0, 60), st.floats(0, 60))
def test_later_work_is_later_on_the_axis(calendar, start, one, other):
    early, late = sorted((one, other))
    for ending in (False, True):
        first = calendar.ordinal(start, early, ending=ending)
        second = calendar.ordinal(start, late, ending=ending)
        assert first <= second + 0.01
    assert calendar.ordinal(start, early, ending=True) <= calendar.ordinal(
        start, early, ending=False
    )


def test_elapsed_time_counts_working_hours_where_the_customer_is():
    friday, sunday = datetime(2027, 3, 5, 13, tzinfo=UTC), datetime(2027, 3, 7, 13, tzinfo=UTC)
    assert PLAIN.elapsed(MONDAY, friday) == 4.5
    assert PLAIN.elapsed(MONDAY, sunday) == 5
    assert PLAIN.elapsed(MONDAY, datetime(2027, 2, 26, 13, tzinfo=UTC)) == -0.5
    tokyo = WorkingCalendar(zone=ZoneInfo("Asia/Tokyo"))
    assert tokyo.elapsed(MONDAY, datetime(2027, 3, 1, 8, tzinfo=UTC)) == 1
