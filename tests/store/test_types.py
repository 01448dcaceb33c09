"""A time is the same text whoever writes it: SQLite compares it as such."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from linekeeper.store.types import time_as_text


@given(st.datetimes(timezones=st.just(UTC)), st.booleans())
def test_a_time_is_written_with_microseconds(time: datetime, is_whole: bool) -> None:
    time = time.replace(microsecond=0) if is_whole else time
    assert time_as_text(time) == time.isoformat(timespec="microseconds")


class Theirs(datetime):
    """A time of somebody's own class, as Prefect's are."""


def test_a_time_of_another_class_is_written_alike() -> None:
    theirs = Theirs(2026, 3, 2, 6, 0, 0, 5, tzinfo=UTC)
    assert time_as_text(theirs) == "2026-03-02T06:00:00.000005+00:00"
