"""When a customer is reminded: in their own working hours, 1, 2 and 4 working days on."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.clock import zone_of
from linekeeper.incidents.operate import snooze_until
from linekeeper.reconnect.remind import (
    AFTER_WORKING_DAYS,
    DEADLINE,
    asked_since,
    due,
    due_at,
    is_working,
    next_working_moment,
)

CHICAGO = ZoneInfo("America/Chicago")
FRIDAY_EVENING = datetime(2026, 1, 9, 22, 30, tzinfo=CHICAGO)


def reminder(now: datetime, zone: str = "America/Chicago", snoozed: datetime | None = None) -> int:
    return due(
        FRIDAY_EVENING,
        zone,
        deadline_at=FRIDAY_EVENING + DEADLINE,
        snoozed_until=snoozed,
        now=now,
    )


@pytest.mark.parametrize(
    ("local", "number"),
    [
        ("2026-01-10 12:00", 0),  # Saturday
        ("2026-01-12 15:59", 0),  # Monday, an hour before the time of day it broke, cut to 16:00
        ("2026-01-12 16:00", 1),
        ("2026-01-12 18:00", 0),  # nobody is at work
        ("2026-01-13 09:00", 1),
        ("2026-01-13 16:00", 2),
        ("2026-01-15 15:59", 2),
        ("2026-01-15 16:00", 3),
        ("2026-01-16 16:00", 3),
        ("2026-01-16 23:00", 0),  # the deadline
    ],
)
def test_a_login_lost_on_friday_evening_is_reminded_of_in_working_hours(
    local: str, number: int
) -> None:
    assert reminder(datetime.fromisoformat(local).replace(tzinfo=CHICAGO)) == number


def test_a_snooze_holds_reminders_back_until_it_ends() -> None:
    monday = datetime(2026, 1, 12, 16, 30, tzinfo=CHICAGO)
    assert reminder(monday, snoozed=monday + timedelta(hours=1)) == 0
    assert reminder(monday, snoozed=monday - timedelta(hours=1)) == 1


def test_a_zone_nobody_knows_is_utc() -> None:
    assert zone_of("Mars/Olympus") == ZoneInfo("UTC")


def test_monday_is_the_next_one_also_on_a_monday() -> None:
    monday = datetime(2026, 1, 12, 8, 0, tzinfo=UTC)
    assert snooze_until("Monday", monday, UTC) == datetime(2026, 1, 19, 9, 0, tzinfo=UTC)
    assert snooze_until("4 hours", monday, UTC) == monday + timedelta(hours=4)


def test_monday_is_monday_morning_where_the_operators_are() -> None:
    sunday_in_chicago = datetime(2026, 3, 30, 3, 0, tzinfo=UTC)  # Monday already in UTC
    at_nine = datetime(2026, 3, 30, 9, 0, tzinfo=CHICAGO)
    assert snooze_until("Monday", sunday_in_chicago, CHICAGO) == at_nine
    before_the_clocks_change = datetime(2026, 3, 7, 12, 0, tzinfo=CHICAGO)
    monday = snooze_until("Monday", before_the_clocks_change, CHICAGO)
    assert (monday.hour, monday.utcoffset()) == (9, timedelta(hours=-5))


_MOMENTS = st.integers(0, 4 * 365 * 24 * 60).map(
    lambda minutes: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)
_ZONES = st.sampled_from(["UTC", "Asia/Tokyo", "America/Chicago", "Pacific/Auckland", "nowhere"])


@given(_MOMENTS, _ZONES, st.integers(1, 30))
def test_whatever_is_due_is_due_in_working_hours_and_later_for_more_days(
    opened: datetime, zone: str, days: int
) -> None:
    at = due_at(opened, days, zone_of(zone))
    assert is_working(at)
    assert due_at(opened, days + 1, zone_of(zone)) > at


@given(_MOMENTS, _ZONES)
def test_the_next_working_moment_is_now_or_when_work_begins(now: datetime, zone: str) -> None:
    at = next_working_moment(now, zone)
    assert at >= now
    assert is_working(at.astimezone(zone_of(zone)))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Chicago", "Pacific/Auckland"])
def test_whenever_in_a_week_a_case_opens_its_last_reminder_has_a_working_day_to_the_deadline(
    zone: str,
) -> None:
    where = zone_of(zone)
    for minute in range(7 * 24 * 60):
        opened = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(minutes=minute)
        last = due_at(opened, AFTER_WORKING_DAYS[-1], where)
        assert opened + DEADLINE - last > timedelta(hours=12)
        number = due(opened, zone, deadline_at=opened + DEADLINE, snoozed_until=None, now=last)
        assert number == len(AFTER_WORKING_DAYS)


def test_who_joins_a_running_case_later_has_days_of_its_own() -> None:
    opened = datetime(2026, 1, 5, tzinfo=UTC)
    with_the_others, days_later = opened + timedelta(hours=1), opened + timedelta(days=3)
    assert asked_since(opened, with_the_others) == opened
    assert asked_since(opened, days_later) == days_later
    assert asked_since(opened, opened, days_later) == days_later
