"""Why deliveries are turned away, in words, and what has to be looked at for that. Pure."""

from collections import Counter
from collections.abc import Mapping

from linekeeper.inbox.verify import Cause

_SIGNATURE = (
    "had an invalid signature",
    "Compare Webhook secrets of the block Makini App with the secret in Makini's dashboard; "
    "where they agree, somebody forges deliveries.",
)
_UNSIGNED = (
    "had no signature where the scheme of this app expects it",
    "Compare Webhook signature of the block Makini App with how Makini signs; where they agree, "
    "something on the way removes headers, or they are not Makini's.",
)
_TIME = (
    "had a time more than five minutes off",
    "Compare the clocks here and at the sender; where they agree, somebody sends old deliveries "
    "again.",
)
_WHY: Mapping[Cause, tuple[str, str]] = {
    "no_secret": (
        "came while no webhook secret is set",
        "Enter the one of Makini's dashboard in Webhook secrets of the block Makini App.",
    ),
    "no_signature": _UNSIGNED,
    "no_id": _UNSIGNED,
    "malformed_signature": _SIGNATURE,
    "bad_signature": _SIGNATURE,
    "bad_timestamp": _TIME,
    "stale_timestamp": _TIME,
}
"""Why a delivery is turned away, and what to look at."""


def refused_words(causes: Mapping[Cause, int], order: str, then: str) -> str:
    """Say why most were refused, `order` and `then` being how they came: what has to be looked at
    depends on it.
    """
    numbers: Counter[tuple[str, str]] = Counter()
    for cause, count in causes.items():
        numbers[_WHY[cause]] += count
    [((what, advice), most)] = numbers.most_common(1)
    every = numbers.total()
    many = f"{every:,}" if most == every else f"{most:,} of {every:,} refused"
    return f"{many} deliveries{order} {what}{then}. {advice}"
