"""What operators limit: the messages of an hour, the calls of a minute, what is said when muted."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.simulation.net import Request
from tests.simulation.pager import OWN
from tests.simulation.unusual import CAP

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle
    from tests.simulation.universe import Universe

HOUR = timedelta(minutes=59)
MINUTE = timedelta(seconds=60)
KNOWN_WITHIN = timedelta(seconds=480)
"""Settings are copied every few minutes here, and a run under way goes by those before."""
LOGIN_CALLS = 8
"""What a customer's login calls is counted apart."""
KEPT_CALLS = 3
"""What a minute's look at one login calls that is kept, as nobody could say yet whose it is."""
NEVER = datetime(1, 1, 1, tzinfo=UTC)
BUNCHED = frozenset({"slack", "calls", "clock", "day", "quiet", "prefect", "second"})
"""Where messages of different hours may come at once, or an hour isn't one."""


class Caps:
    """Counts the calls to Makini."""

    def __init__(self, universe: "Universe") -> None:
        self._universe = universe
        self.calls: list[datetime] = []

    def called(self, request: Request) -> None:
        """A call goes out."""
        if request.host == "makini.sim":
            self.calls.append(self._universe.now())


def exceeded(oracle: "Oracle") -> Iterator[str]:
    """No cap, no budget and no mute is disregarded."""
    yield from _calls(oracle)
    yield from _messages(oracle)
    yield from _fallback_channels(oracle)
    yield from _muted(oracle)


def _calls(oracle: "Oracle") -> Iterator[str]:
    """No minute has more calls than the settings give."""
    universe = oracle.universe
    people = universe.people
    if people.kinds & {"clock", "day"}:
        return
    for since, until, budget in people.operators.budgets:
        calls = [at for at in people.caps.calls if since + KNOWN_WITHIN <= at <= until]
        for number, at in enumerate(calls):
            count = bisect_right(calls, at + MINUTE) - number
            if count > budget + _for_logins(oracle, at):
                yield f"budget: {count} calls in the minute from {at:%H:%M:%S}, {budget} were set"
                break


def _for_logins(oracle: "Oracle", since: datetime) -> int:
    """How many calls of the minute from `since` may be for logins of customers."""
    tried = oracle.universe.people.customers.tried
    now = sum(since - MINUTE <= at <= since + 2 * MINUTE for at, _ in tried)
    kept = sum(at < since and status not in (200, 400, 409) for at, status in tried)
    return LOGIN_CALLS * now + KEPT_CALLS * kept


def _messages(oracle: "Oracle") -> Iterator[str]:
    """No hour has more first messages of incidents than the alert policy says."""
    universe = oracle.universe
    if "caps" not in universe.people.kinds or universe.people.kinds & BUNCHED:
        return
    firsts = [
        message.texts[0][0] for message in universe.slack.channel
        if message.incident_id is not None
        and message.texts[0][0] > universe.begins + KNOWN_WITHIN
    ]  # fmt: skip
    count, at = busiest(firsts, HOUR)
    if count > CAP:
        yield f"cap: {count} first messages in the hour from {at:%H:%M:%S}, {CAP} may be"


def _fallback_channels(oracle: "Oracle") -> Iterator[str]:
    """The same of the fallback channel, in which what is said at one moment is one message.

    What was decided is counted, as a consumer that crashed may send what is of two hours at once;
    and nothing is sent that was not decided.
    """
    universe = oracle.universe
    if "caps" not in universe.people.kinds or universe.people.kinds & {"clock", "day"}:
        return
    rows = oracle.rows(
        "SELECT DISTINCT at FROM notice WHERE channel = 'elsewhere' AND at > ? ORDER BY at",
        (universe.begins + KNOWN_WITHIN).isoformat(),
    )
    decided = [datetime.fromisoformat(row["at"]) for row in rows]
    count, at = busiest(decided, HOUR)
    if count > CAP:
        yield f"cap: {count} fallback messages in the hour from {at:%H:%M:%S}, {CAP} may be"
    said = [at for at, title in universe.pager.said if title != OWN]
    if len(said) > len(decided) + len(universe.crashed_at):
        yield f"cap: {len(said)} fallback messages came, {len(decided)} were decided"


def _muted(oracle: "Oracle") -> Iterator[str]:
    """Nothing new is decided to be said of an incident that is muted."""
    universe = oracle.universe
    if universe.people.kinds & {"clock", "day"}:
        return
    for incident_id, since, hours in universe.people.unusual.muted:
        later = [at for each, at, _ in universe.people.unusual.muted if each == incident_id]
        until = min([since + timedelta(hours=hours), *(at for at in later if at > since)])
        for row in oracle.rows(
            "SELECT step, at FROM notice WHERE incident_id = ? AND step NOT IN"
            " ('resolved', 'never')", incident_id,
        ):  # fmt: skip
            if since + timedelta(seconds=2) < datetime.fromisoformat(row["at"]) < until:
                yield f"muted: {incident_id} is muted, and at {row['at'][11:19]} {row['step']}"


def busiest(moments: Sequence[datetime], span: timedelta) -> tuple[int, datetime]:
    """How many of `moments`, which are in order, lie within one span at most, and from when."""
    if not moments:
        return 0, NEVER
    counts = [(bisect_right(moments, at + span) - number, at) for number, at in enumerate(moments)]
    return max(counts, key=lambda found: found[0])
