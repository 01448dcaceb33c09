"""When it is quiet, and how gaps between reminders grow."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.config import AlertPolicy
from linekeeper.config.alerts import quiet_times
from linekeeper.notify.policy import reminder_gap
from tests.notify.test_policy import MINUTE, NOW


@given(st.integers(0, 40))
def test_gaps_grow_and_stay_bounded(count: int) -> None:
    policy = AlertPolicy()
    assert reminder_gap(count, policy) <= reminder_gap(count + 1, policy) <= timedelta(hours=24)


@given(
    at=st.integers(-500_000, 500_000).map(lambda minute: NOW + minute * MINUTE),
    hours=st.sampled_from(["", "22:00-07:00", "02:15-02:45", "00:00-12:00", "13:00-00:00"]),
    days=st.sampled_from(["", "sat sun", "fri,sat,sun,mon", "wed"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
def test_quiet_ends_where_it_says(at: datetime, hours: str, days: str, zone: str) -> None:
    quiet = quiet_times(hours, days, zone)
    end = quiet.until(at)
    assert not quiet.holds(end)
    if quiet.holds(at):
        assert all(quiet.holds(at + (end - at) * share) for share in (0.01, 0.5, 0.99))
    ended = quiet.ended(at)
    if ended is not None:
        assert ended <= at
        assert not quiet.holds(ended)
        assert quiet.holds(ended - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("hours", "days", "zone"),
    [
        ("22-7", "", "UTC"),
        ("25:00-07:00", "", "UTC"),
        ("07:00-07:00", "", "UTC"),
        ("", "mon tue wed thu fri sat sun", "UTC"),
        ("", "caturday", "UTC"),
        ("", "", "Europe/Nowhere"),
        ("", "", "../etc/passwd"),
    ],
)
def test_times_that_make_no_sense_are_named(hours: str, days: str, zone: str) -> None:
    with pytest.raises(ValueError, match=r"quiet|time zone"):
        quiet_times(hours, days, zone)
