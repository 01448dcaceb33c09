"""What Makini says of the end of a synchronization, where calls of the connection fail. Pure.

Its word is about its own work: that a synchronization ended, well or not, says nothing of calls
that are not answered, or refused. The next answered call does.
"""

from datetime import datetime, timedelta

from linekeeper.health.evidence import FALLEN, Health, Judged

UNASKED = timedelta(days=1)
"""A connection that nobody asked for so long is judged by what Makini says of it."""


def awaits_call(judged: Judged, at: datetime) -> bool:
    """Whether a synchronization's end at `at` decides nothing before a call is answered.

    Where nobody calls, or nothing may be read to settle a dispute, it decides at once.
    """
    if judged.disputed:
        return False
    if judged.asked_at is None:
        return judged.own is Health.unknown and judged.evidence is None
    fails = judged.own in FALLEN or judged.misses > 0 or judged.refusals > 0
    return fails and at - judged.asked_at < UNASKED
