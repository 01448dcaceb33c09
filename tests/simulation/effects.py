"""What counts as done was done: messages stand in Slack, runs started once, entities were read."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from tests.simulation.courtesy import CLOCK_KINDS
from tests.simulation.patience import OVERDUE_WITHIN

if TYPE_CHECKING:
    from tests.simulation.makini.connection import Connection
    from tests.simulation.oracle import Oracle

HINDERS = frozenset({
    "calls", "settings", "statements", "clock", "day", "list", "episodes", "makini",
})  # fmt: skip
"""Kinds of trouble with which a poll may come to its end and have read less than it should."""
SWEEPS = 3
POLLS = 2
"""So many polls that came to their end, and every entity that can be read was asked for."""


def missing_effects(oracle: "Oracle") -> list[str]:
    """Everything that is broken, in one line each."""
    return [
        *_unsaid(oracle), *_started_again(oracle), *_unread(oracle), *_unprobed(oracle),
    ]  # fmt: skip


def _unsaid(oracle: "Oracle") -> Iterator[str]:
    """What counts as said of an incident stands in Slack, and came there after it was to be."""
    universe = oracle.universe
    keys = {message.key for message in universe.slack.messages.values()}
    own = {
        message.incident_id: message
        for message in universe.slack.channel
        if message.incident_id is not None
    }
    for row in oracle.rows(
        "SELECT dedupe_key, created_at FROM outbox WHERE channel = 'slack' AND status = 'sent'"
        " AND dedupe_key LIKE 'slack:incident:%'"
    ):
        incident_id, what = row["dedupe_key"].split(":")[2:4]
        message = own.get(incident_id)
        if message is None:
            continue  # it was said in the message of several
        if what == "timeline" and row["dedupe_key"] not in keys:
            yield f"unsaid: {row['dedupe_key']} counts as sent, and nothing says it"
        elif what == "show" and not universe.people.kinds & CLOCK_KINDS:
            since = datetime.fromisoformat(row["created_at"])
            if all(at < since for at, _ in message.texts):
                yield f"unsaid: {row['dedupe_key']} counts as sent, and the message is older"


def _started_again(oracle: "Oracle") -> Iterator[str]:
    """However often its start is tried, what is to be started once is one run."""
    asked = Counter(
        row["dedupe_key"].split(":")[2]
        for row in oracle.rows(
            "SELECT dedupe_key FROM outbox WHERE channel = 'run'"
            " AND dedupe_key LIKE 'run:reconnect:%'"
        )
    )
    begun = Counter(
        str(run.parameters.get("incident"))
        for run in oracle.universe.prefect.runs.values()
        if run.deployment == "reconnect" and run.idempotency_key is not None
    )
    for incident_id, count in begun.items():
        if asked[incident_id] and count > asked[incident_id]:
            yield f"twice: {count} runs for {incident_id}, {asked[incident_id]} were to be started"


def _unread(oracle: "Oracle") -> Iterator[str]:
    """An entity that can be read is read, whatever is wrong with those beside it."""
    universe = oracle.universe
    people = universe.people
    if people.kinds & HINDERS:
        return
    ended = sorted(
        run.ended_at
        for run in universe.prefect.runs.values()
        if run.deployment == "reconcile" and run.auto_scheduled and run.ended_at is not None
        and run.has_done_its_work
    )  # fmt: skip
    if len(ended) < POLLS:
        return
    until = ended[POLLS - 1]
    for connection in universe.truth.living():
        if connection.created_at > universe.begins or not _is_well(oracle, connection, until):
            continue
        for entity in connection.offers:
            if oracle.is_sick(connection.key, entity):
                continue
            first = universe.face.listed.get((connection.key, entity))
            if first is None or first > until:
                yield (
                    f"starved: {connection.name} {entity} was not asked for in {POLLS} polls, "
                    f"until {until:%H:%M:%S}"
                )


def _is_well(oracle: "Oracle", connection: "Connection", until: datetime) -> bool:
    """Whether nothing of the whole connection hindered a read until then."""
    if oracle.is_sick(connection.key) or oracle.universe.people.pairs.was_locked_out(connection):
        return False
    pauses = oracle.universe.people.patience.pauses
    return not any(at <= until and state != "healthy" for at, state in connection.states) and not (
        any(pause.since <= until for pause in pauses)
    )


def _unprobed(oracle: "Oracle") -> Iterator[str]:
    """Every connection is asked for its status by every few sweeps, whatever its health."""
    universe = oracle.universe
    ended = sorted(
        run.start_time
        for run in universe.prefect.runs.values()
        if run.deployment == "health-sweep" and run.auto_scheduled and run.ended_at is not None
        and run.start_time is not None and run.start_time >= universe.calm_since
        and run.has_done_its_work
    )  # fmt: skip
    if len(ended) < SWEEPS:
        return
    since = ended[-SWEEPS]
    for connection in universe.truth.living():
        if connection.created_at > universe.begins or oracle.is_sick(connection.key):
            continue
        if oracle.is_unreadable(connection) or universe.people.patience.excuses(
            connection, OVERDUE_WITHIN
        ):
            continue
        asked = universe.face.probed.get(connection.key)
        if asked is None or asked < since:
            yield f"unprobed: {connection.name} was not asked for its status in {SWEEPS} sweeps"
