"""How finely a time is given, and which of two is older. Pure; times are UTC."""

from datetime import datetime, timedelta


def is_older(at: datetime, than: datetime | None, *, ours: bool) -> bool:
    """Whether `at` is before `than`; `ours` tells a time of our own clock from a sender's."""
    if than is None:
        return False
    mine, theirs = _grain(at), _grain(than)
    grain = max(mine, theirs)
    left, right = _floor(at, grain), _floor(than, grain)
    if left != right:
        return left < right
    return ours and theirs > mine


def _floor(at: datetime, grain: int) -> datetime:
    return at.replace(microsecond=at.microsecond // grain * grain)


def _grain(at: datetime) -> int:
    """How finely `at` is given, in microseconds."""
    if at.microsecond == 0:
        return 1_000_000
    return 1_000 if at.microsecond % 1_000 == 0 else 1


def unit_of(at: datetime) -> timedelta | None:
    """The minute, hour or day to which the time of an event may have been cut; None for neither.

    A sender that gives whole days says of every event that it was before whatever we did that day.
    One in sixty whole minutes, and the rare whole day, is none that was cut: all that costs is a
    read.
    """
    if at.microsecond or at.second:
        return None
    if at.minute:
        return timedelta(minutes=1)
    return timedelta(hours=1) if at.hour else timedelta(days=1)


def cut_alike(at: datetime, like: datetime) -> datetime:
    """`at`, cut to the unit to which `like` may have been."""
    unit = unit_of(like)
    if unit is None:
        return at
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // unit * unit
