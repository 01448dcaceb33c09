"""When a customer is reminded, and when waiting ends (INTERFACE "Policy defaults"). Pure.

Reminders are due 1, 2 and 4 working days after the first mail, at the customer's own time of day,
and go out in the customer's working hours only.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo

from linekeeper.clock import zone_of

AFTER_WORKING_DAYS = (1, 2, 4)
DEADLINE_SAID = len(AFTER_WORKING_DAYS) + 1
"""The step after the last reminder: it was said that the deadline passed."""
DEADLINE = timedelta(days=7)
JOINS_LATE = timedelta(hours=12)
"""Who joins a case within this time of its opening is counted from the opening."""
FIRST_HOUR, LAST_HOUR = 9, 17
_SATURDAY = 5


def asked_since(
    opened_at: datetime, joined_at: datetime, live_at: datetime | None = None
) -> datetime:
    """Return the time from which a customer's reminders and deadline count.

    One that joins a running case later than its opening has days of its own, and so has one whose
    system went live meanwhile.
    """
    joined = joined_at if joined_at - opened_at > JOINS_LATE else opened_at
    return max(joined, live_at or opened_at)


def due(
    opened_at: datetime,
    zone: str,
    *,
    deadline_at: datetime,
    snoozed_until: datetime | None,
    now: datetime,
) -> int:
    """Which reminder should have gone out by `now`; 0 while none is due or nobody is at work.

    Of several that are due at once only the last counts: a customer is never notified twice at
    once.
    """
    if now >= deadline_at or (snoozed_until is not None and now < snoozed_until):
        return 0
    where = zone_of(zone)
    if not is_working(now.astimezone(where)):
        return 0
    number = 0
    for position, days in enumerate(AFTER_WORKING_DAYS, start=1):
        if due_at(opened_at, days, where) <= now:
            number = position
    return number


def due_at(opened_at: datetime, working_days: int, zone: tzinfo) -> datetime:
    """The moment `working_days` after `opened_at`, within the working hours of `zone`."""
    at = opened_at.astimezone(zone)
    day = at.date()
    left = working_days
    while left or day.weekday() >= _SATURDAY:
        day += timedelta(days=1)
        if left and day.weekday() < _SATURDAY:
            left -= 1
    hour = min(max(at.hour, FIRST_HOUR), LAST_HOUR - 1)
    minute = at.minute if hour == at.hour else 0
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)


def is_working(local: datetime) -> bool:
    """Whether people are at work at this local time."""
    return local.weekday() < _SATURDAY and FIRST_HOUR <= local.hour < LAST_HOUR


def next_working_moment(now: datetime, zone: str) -> datetime:
    """`now`, or when work begins next in `zone`."""
    local = now.astimezone(zone_of(zone))
    if is_working(local):
        return now
    if local.weekday() >= _SATURDAY or local.hour >= LAST_HOUR:
        local += timedelta(days=1)
    while local.weekday() >= _SATURDAY:
        local += timedelta(days=1)
    return local.replace(hour=FIRST_HOUR, minute=0, second=0, microsecond=0)


def put_off(now: datetime, zone: str | None, ends: Iterable[str]) -> datetime | None:
    """When work begins next in `zone`, for what is to be said in working hours; None for now.

    That is where people are at work, or where one of `ends` comes before: better out of hours than
    too late.
    """
    at = now if zone is None else next_working_moment(now, zone)
    is_too_late = any(now < datetime.fromisoformat(end) <= at for end in ends)
    return None if at == now or is_too_late else at
