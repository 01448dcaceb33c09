"""Quiet times in the nights in which clocks go forward or back, found by looking every quarter."""

from datetime import UTC, datetime, timedelta

import pytest

from linekeeper.config.alerts import Quiet, quiet_times

QUARTER = timedelta(minutes=15)
"""Every change of these zones, and every edge of these hours, is at a quarter of an hour."""
NIGHTS = [
    ("Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC)),  # 3:00 becomes 2:00
    ("Europe/Berlin", datetime(2027, 3, 27, 12, tzinfo=UTC)),  # 2:00 becomes 3:00
    ("America/Santiago", datetime(2027, 4, 3, 12, tzinfo=UTC)),  # midnight becomes 23:00
    ("America/Santiago", datetime(2027, 9, 4, 12, tzinfo=UTC)),  # midnight becomes 1:00
    ("Australia/Lord_Howe", datetime(2027, 4, 3, 0, tzinfo=UTC)),  # 2:00 becomes 1:30
    ("Asia/Kathmandu", datetime(2027, 4, 3, 12, tzinfo=UTC)),  # nothing changes
]
HOURS = ["22:00-02:30", "22:00-07:00", "23:30-00:30", "01:45-02:15", "02:30-23:15", ""]


def until(quiet: Quiet, at: datetime) -> datetime:
    while quiet.holds(at):
        at += QUARTER
    return at


def ended(quiet: Quiet, at: datetime) -> datetime:
    while quiet.holds(at) or not quiet.holds(at - QUARTER):
        at -= QUARTER
    return at


@pytest.mark.parametrize("hours", HOURS)
@pytest.mark.parametrize(("zone", "since"), NIGHTS)
def test_they_end_when_the_clock_on_the_wall_says_so(
    zone: str, since: datetime, hours: str
) -> None:
    quiet = quiet_times(hours, "" if hours else "sun", zone)
    for number in range(4 * 48):
        at = since + number * QUARTER
        assert quiet.until(at) == until(quiet, at), at
        assert quiet.ended(at) == ended(quiet, at), at
