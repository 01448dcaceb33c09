"""A time is the same text whoever writes it: SQLite compares it as such."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from linekeeper.store.types import time_as_text


@given(st.datetimes(timezones=st.just(UTC)), st.booleans())
def test_a_time_is_written_with_microseconds(time: datetime, is_whole: bool) -> None:
    time = time.replace(microsecond=0) if is_whole else time
    assert time_as_text(time) == time.isoformat(timespec="microseconds")
