"""How often an event is tried, and when it is given up. Pure; times are UTC."""

from datetime import datetime, timedelta

from linekeeper.makini import ErrorKind, MakiniError

MOST_ATTEMPTS = 5
"""Of an event whose processing fails for a reason nobody foresaw: half a minute in all."""
MOST_CALLS = 12
"""Of one whose records Makini can't give: 20 to 40 minutes, by how many tries ran out of time and
were followed at once; before that its connection is judged unreachable, and the event deferred."""
MOST_UNCONFIGURED = 150
"""Of one whose app is in no settings: a day. Settings that were cleared are restored."""
LONGEST_WAIT = 600.0
_NO_ATTEMPT = frozenset({ErrorKind.rate_limited, ErrorKind.circuit_open})


class NotConfigured(Exception):
    """No Makini app of the event's name is in the settings now."""


def next_attempt(attempts: int, error: Exception, *, now: datetime) -> datetime | None:
    """When to try again after `attempts`; None to give it up.

    2 s, doubling to ten minutes, or as long as Makini asks. A call limit is no failure of the
    event: it is tried until it is answered. An app that is not in the settings is
    waited for, a day. What trying again doesn't mend is given up at once.
    """
    wait = min(2.0 ** min(attempts, 10), LONGEST_WAIT)
    if isinstance(error, MakiniError):
        if not error.retryable:
            return None
        if error.kind not in _NO_ATTEMPT and attempts >= MOST_CALLS:
            return None
        wait = max(wait, error.retry_after or 0.0)
    elif attempts >= (MOST_UNCONFIGURED if isinstance(error, NotConfigured) else MOST_ATTEMPTS):
        return None
    return now + timedelta(seconds=wait)
