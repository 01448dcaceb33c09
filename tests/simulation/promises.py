"""What must never have been concluded, said, or left unsaid, whatever happened on the way."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.simulation.asking import wrongly_given
from tests.simulation.caps import KNOWN_WITHIN, exceeded
from tests.simulation.courtesy import QUIET_FOR, discourtesies
from tests.simulation.drifting import false_sums
from tests.simulation.effects import missing_effects
from tests.simulation.joined import unnamed
from tests.simulation.lost import (
    NOTICED_LATE,
    is_gone_unlisted,
    is_token_missing,
    is_unverifiable,
    line_of,
    was_lost,
    worked,
)
from tests.simulation.new_events import UNKNOWN
from tests.simulation.noticed import OF_HEALTH, unnoticed
from tests.simulation.said import false_words

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle
    from tests.simulation.universe import Universe

LOOKS_BACK = timedelta(minutes=45)
SHORT = timedelta(seconds=310)
"""Three sweeps are further apart, where there are none but those of the schedule."""
MORE_SWEEPS = frozenset({"hands", "twice"})
SIDE_BY_SIDE = timedelta(minutes=8)
"""A run that is over for its incident may take so long to hear of it."""
SAID_WITHIN = timedelta(minutes=12)
WAITS_FOR = timedelta(minutes=25)
"""What is no lost login waits so much longer, in case it passes, or others have the same cause."""
WAIT = frozenset({"quiet", "caps", "day", "clock"})
"""Kinds of trouble with which it may wait for hours."""
CLEARED_WITHIN = timedelta(minutes=2)
"""An incident that was being resolved while the app came back."""
LOST = "reauthorization_required"
OTHERS = tuple(kind for kind in OF_HEALTH if kind != LOST)
CUT_SECONDS = 60.0
"""A grain of so much or more says of an event only the minute or the day."""


def broken_promises(oracle: "Oracle") -> list[str]:
    """Everything that is broken, in one line each."""
    return [
        *_disconnected(oracle), *_deleted(oracle), *_given_up(oracle), *_run_twice(oracle),
        *_messages(oracle), *_leases(oracle), *_forwarded(oracle), *missing_effects(oracle),
        *_dated(oracle), *discourtesies(oracle), *exceeded(oracle), *wrongly_given(oracle),
        *false_words(oracle), *unnoticed(oracle), *unnamed(oracle), *false_sums(oracle),
    ]  # fmt: skip


def _dated(oracle: "Oracle") -> Iterator[str]:
    """What is compared by our own times; where they are a day off, it can't be."""
    if "day" not in oracle.universe.people.kinds:
        yield from _false_reauthorization(oracle)
        yield from _false_recovery(oracle)
        yield from _false_unreachable(oracle)
        yield from _hurried(oracle)


def _disconnected(oracle: "Oracle") -> Iterator[str]:
    """No connection that lives is taken for gone."""
    for row in oracle.rows(
        "SELECT t.at, c.makini_key, c.name FROM transition t JOIN connection c"
        " ON c.id = t.connection_id WHERE t.axis = 'setup' AND t.after = 'disconnected'"
    ):
        connection = oracle.universe.truth.connections.get(row["makini_key"])
        if connection is not None and not connection.deleted:
            yield f"absence: {row['name']} was taken for disconnected at {row['at'][11:19]}"


def _deleted(oracle: "Oracle") -> Iterator[str]:
    """No record that lives is taken for deleted."""
    truth = oracle.universe.truth
    gone = {
        (truth.connections[key].name, record)
        for _, key, _, record, how in truth.changes
        if how == "deleted"
    }
    renames = oracle.universe.personality.renames_keys
    heirs = {each.successor for each in truth.connections.values() if each.successor}
    for row in oracle.rows(
        "SELECT h.at, h.entity, h.key, c.makini_key, c.name FROM change h JOIN connection c"
        " ON c.id = h.connection_id WHERE h.op = 'deleted'"
    ):
        connection = truth.connections.get(row["makini_key"])
        if connection is None:
            continue
        if renames and (connection.successor or connection.key in heirs):
            continue
        if (connection.name, row["key"]) not in gone:
            yield f"absence: {row['name']} {row['entity']} {row['key']} was taken for deleted"


def _false_reauthorization(oracle: "Oracle") -> Iterator[str]:
    """Nobody is asked to log in while the login works."""
    truth = oracle.universe.truth
    lag = timedelta(seconds=oracle.universe.personality.status_lag)
    for row in oracle.rows(
        "SELECT t.id, t.at, t.source, t.evidence, c.makini_key, c.name FROM transition t"
        " JOIN connection c ON c.id = t.connection_id WHERE t.axis = 'health'"
        " AND t.after = 'reauthorization_required'"
    ):
        connection = truth.connections.get(row["makini_key"])
        if connection is None or oracle.was_locked_out(connection):
            continue
        at = datetime.fromisoformat(row["at"])
        if is_gone_unlisted(oracle.universe, connection, at):
            continue
        if is_token_missing(oracle.universe, connection, at):
            continue
        if is_unverifiable(oracle.universe, connection, at):
            continue
        since = at - lag - NOTICED_LATE
        # Where an event's time is cut down, it was lost at any time until this was written.
        is_cut = row["source"] == "webhook" and oracle.universe.personality.grain >= CUT_SECONDS
        until = (max(at, _written_at(row["id"])) if is_cut else at) + timedelta(minutes=6)
        if not any(was_lost(each, since, until) for each in line_of(truth, connection)):
            yield (
                f"false: {row['name']} was asked to log in at {at:%H:%M:%S}, its login worked: "
                f"{row['evidence'][:120]}"
            )


def _written_at(identifier: str) -> datetime:
    """When the row with this id was made, by the clock of who made it."""
    return datetime.fromtimestamp((UUID(identifier).int >> 80) / 1000, UTC)


def _given_up(oracle: "Oracle") -> Iterator[str]:
    """No event is given up for a reason of our own; nothing that is to be said is given up.

    One whose name nobody knows is kept for an operator, who may say what it means.
    """
    numbers = {each.identity: each.post for each in oracle.universe.delivered}
    for row in oracle.rows("SELECT id, kind, error FROM webhook_event WHERE status = 'dead'"):
        post, error = numbers.get(row["id"]), row["error"] or ""
        if post is not None and post.event in UNKNOWN and error.startswith("no kind is known"):
            continue
        if post is not None and not error.startswith("MakiniError"):
            yield f"given up: webhook {post.number} {row['kind']}: {error}"
    for row in oracle.rows("SELECT channel, dedupe_key, error FROM outbox WHERE status = 'dead'"):
        yield f"given up: {row['channel']} {row['dedupe_key']}: {row['error']}"


def _forwarded(oracle: "Oracle") -> Iterator[str]:
    """Every event that was processed has its forward."""
    rows = oracle.rows("SELECT dedupe_key FROM outbox WHERE channel = 'forward'")
    written = {row["dedupe_key"].split(":")[1] for row in rows}
    for row in oracle.rows("SELECT id, kind FROM webhook_event WHERE status = 'processed'"):
        if row["id"] not in written:
            yield f"forward: event {row['id']} {row['kind']} was processed and never handed on"


def _false_recovery(oracle: "Oracle") -> Iterator[str]:
    """No lost login is taken for found again while it is lost."""
    truth = oracle.universe.truth
    for row in oracle.rows(
        "SELECT t.at, t.after, c.makini_key, c.name FROM transition t JOIN connection c"
        " ON c.id = t.connection_id WHERE t.axis = 'health' AND t.after IN ('healthy', 'degraded')"
        " AND t.before = 'reauthorization_required'"
    ):
        connection = truth.connections.get(row["makini_key"])
        if connection is None or connection.successor:
            continue
        at = datetime.fromisoformat(row["at"])
        near = timedelta(minutes=6)  # clocks of ours may be off by five
        if not worked(connection, at - near, at + near):
            held = f"{row['name']} was taken for {row['after']} at {at:%H:%M:%S}"
            yield f"false: {held}, its login is lost"


def _false_unreachable(oracle: "Oracle") -> Iterator[str]:
    """Nobody is unreachable who was only out of luck, or for less than three sweeps take."""
    truth, people = oracle.universe.truth, oracle.universe.people
    for row in oracle.rows(
        "SELECT t.at, c.makini_key, c.name FROM transition t JOIN connection c"
        " ON c.id = t.connection_id WHERE t.axis = 'health' AND t.after = 'unreachable'"
    ):
        connection = truth.connections.get(row["makini_key"])
        if connection is None or oracle.is_sick(connection.key):
            continue
        if any(word != "healthy" for _, word in connection.states):
            continue
        at = datetime.fromisoformat(row["at"])
        spans = [
            (max(each.since, at - LOOKS_BACK), min(each.until, at + timedelta(minutes=6)))
            for each in people.over
            if each.everywhere or each.key == connection.key
        ]
        failed = sum((max(until - since, timedelta()) for since, until in spans), timedelta())
        if failed == timedelta() or (failed <= SHORT and not people.kinds & MORE_SWEEPS):
            yield f"false: {row['name']} was taken for unreachable at {at:%H:%M:%S}"


def _run_twice(oracle: "Oracle") -> Iterator[str]:
    """No incident has two runs that wait for its customer side by side."""
    now = oracle.universe.now()
    spans: dict[str, list[tuple[datetime, datetime]]] = {}
    for run in oracle.universe.prefect.runs.values():
        if run.deployment == "reconnect":
            subject = str(sorted(run.parameters.items()))
            spans.setdefault(subject, []).extend(run.lived(now))
    for subject, lived in spans.items():
        lived.sort()
        for (_, ended), (began, until) in pairwise(lived):
            if min(ended, until) - began > SIDE_BY_SIDE:
                yield f"twice: two runs of reconnect for {subject} from {began:%H:%M:%S} on"


def _messages(oracle: "Oracle") -> Iterator[str]:
    """Every incident that lasts was said, and what is over doesn't stand there as open."""
    universe = oracle.universe
    said_by = universe.now() - SAID_WITHIN
    edge = said_by.isoformat(timespec="microseconds")
    early = (said_by - WAITS_FOR).isoformat(timespec="microseconds")
    # In quiet hours what is not critical waits for their end.
    before_quiet = (said_by - QUIET_FOR).isoformat(timespec="microseconds")
    due = {LOST: before_quiet if "quiet" in universe.people.kinds else edge}
    due |= {} if universe.people.kinds & WAIT else dict.fromkeys(OTHERS, early)
    by_incident = {
        message.incident_id: message
        for message in universe.slack.channel
        if message.incident_id is not None
    }
    for row in oracle.rows(
        "SELECT id, app, kind, title, status, opened_at, resolved_at FROM incident"
    ):
        message = by_incident.get(row["id"])
        if message is None:
            lasts = row["status"] == "open" and row["opened_at"] < due.get(row["kind"], "")
            muted = any(incident == row["id"] for incident, *_ in universe.people.unusual.muted)
            said = any(
                row["title"] in other.text
                for other in universe.slack.channel
                if other.incident_id is None
            )  # in the message of several
            if lasts and not (muted or said):
                yield f"unsaid: {row['title']} is open since {row['opened_at'][11:19]}"
            continue
        shows_end = "*Resolved*" in message.text or "*Merged*" in message.text
        shows_end |= "*Ended*" in message.text and _was_out(universe, row)
        if row["status"] == "resolved" and row["resolved_at"] < edge and not shows_end:
            yield f"uncleared: {row['title']} is over, the message says: {message.text[:80]!r}"
        if row["status"] != "resolved" and row["opened_at"] < edge and shows_end:
            yield f"false: {row['title']} is open, the message says that it is over"


def _was_out(universe: "Universe", row: Any) -> bool:
    """Whether an incident ended while its app was out of the settings, which says no "resolved"."""
    if row["app"] != "default":
        return bool(row["app"])  # it stands in the settings for a while only
    if row["resolved_at"] is None:
        return False
    ended = datetime.fromisoformat(row["resolved_at"])
    spans = [*universe.people.operators.out]
    if universe.people.kinds & {"clock", "day"}:
        return bool(spans)  # the times of incidents are those of a clock that may be off
    return any(since <= ended <= _noticed_at(universe, until) for since, until in spans)


def _noticed_at(universe: "Universe", back_at: datetime) -> datetime:
    """When a sweep came to its end that knew that the app stands in the settings again."""
    ended = [
        run.ended_at for run in universe.prefect.runs.values()
        if run.deployment == "health-sweep" and run.has_done_its_work and run.ended_at is not None
        and run.start_time is not None and run.start_time >= back_at + KNOWN_WITHIN
    ]  # fmt: skip
    return min(ended, default=universe.now()) + CLEARED_WITHIN


def _leases(oracle: "Oracle") -> Iterator[str]:
    """Never two holders at once."""
    yield from (f"lease: {wrong}" for wrong in oracle.universe.leases.wrong)


def _hurried(oracle: "Oracle") -> Iterator[str]:
    """A pause that Makini asked for is kept, whichever process was asked."""
    yield from (f"hurried: {wrong}" for wrong in oracle.universe.people.patience.hurried[:3])
