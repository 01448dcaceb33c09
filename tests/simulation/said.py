"""What is said of the whole, and of what is over: all healthy, nothing to backfill, thank you."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import combinations
from typing import TYPE_CHECKING

from tests.simulation.courtesy import CLOCK_KINDS
from tests.simulation.effects import HINDERS
from tests.simulation.lost import worked

if TYPE_CHECKING:
    from tests.simulation.flow_runs import SimRun
    from tests.simulation.makini.connection import Connection
    from tests.simulation.oracle import Oracle

ALL_HEALTHY, NOTHING = "all healthy", "nothing to backfill"
THANKS, ASKS = "onnected again", "lease log in"
MINUTE = timedelta(minutes=1)
THANKED_WITHIN = timedelta(minutes=10)
"""From a login's verification until its mail: what is lost again meanwhile was found then."""


def false_words(oracle: "Oracle") -> list[str]:
    """Everything that is broken, in one line each."""
    if oracle.universe.people.kinds & CLOCK_KINDS:
        return []  # our own times are not those of the world
    return [*_all_healthy(oracle), *_nothing_missed(oracle), *_thanked(oracle),
            *_thanked_twice(oracle)]  # fmt: skip


def _all_healthy(oracle: "Oracle") -> Iterator[str]:
    """No sweep says that all is healthy while an incident is open."""
    spans = [
        (row["title"], datetime.fromisoformat(row["opened_at"]),
         datetime.fromisoformat(row["resolved_at"]) if row["resolved_at"] else None)
        for row in oracle.rows("SELECT title, opened_at, resolved_at FROM incident WHERE round = 0")
    ]  # fmt: skip
    for run in oracle.universe.prefect.runs.values():
        if run.deployment != "health-sweep" or ALL_HEALTHY not in run.message:
            continue
        since, until = run.start_time, run.ended_at
        if since is None or until is None:
            continue
        for title, opened_at, resolved_at in spans:
            is_over = resolved_at is not None and resolved_at < until + MINUTE
            if opened_at < since - MINUTE and not is_over:
                yield f"false: at {until:%H:%M:%S} a sweep said {ALL_HEALTHY}; open was {title}"


def _nothing_missed(oracle: "Oracle") -> Iterator[str]:
    """No reconnect says that there was nothing to backfill where records changed meanwhile."""
    if oracle.universe.people.kinds & (HINDERS | {"shift"}):
        return
    for run in oracle.universe.prefect.runs.values():
        said = run.deployment == "reconnect" and run.state_name == "Reconnected"
        if said and run.message.endswith(NOTHING):
            for connection, since, until in _members(oracle, run):
                for at, key, entity, record, how in oracle.universe.truth.changes:
                    if (
                        key == connection.key and how != "deleted"
                        and entity in oracle.universe.entities
                        and since + MINUTE < at < until - MINUTE
                        and record in connection.records[entity]
                        and not connection.records[entity][record].deleted
                    ):  # fmt: skip
                        yield (
                            f"false: {connection.name} had {NOTHING}, and {entity} {record} "
                            f"changed at {at:%H:%M:%S}"
                        )
                        break


def _members(oracle: "Oracle", run: "SimRun") -> Iterator[tuple["Connection", datetime, datetime]]:
    """The connections of its incident that are what they were, and how long that lasted."""
    for row in oracle.rows(
        "SELECT c.makini_key, m.joined_at, coalesce(m.left_at, i.resolved_at) AS until"
        " FROM incident i JOIN incident_connection m ON m.incident_id = i.id"
        " JOIN connection c ON c.id = m.connection_id WHERE i.id = ? AND i.round = 0"
        " AND i.resolved_at IS NOT NULL", str(run.parameters.get("incident")),
    ):  # fmt: skip
        connection = oracle.universe.truth.connections.get(row["makini_key"])
        if connection is None or connection.deleted or oracle.is_sick(connection.key):
            continue
        heirs = {each.successor for each in oracle.universe.truth.connections.values()}
        if connection.key in heirs:
            continue
        since, until = (datetime.fromisoformat(row[name]) for name in ("joined_at", "until"))
        yield connection, since, until


def _thanked(oracle: "Oracle") -> Iterator[str]:
    """Nobody is thanked for a login while all of theirs are lost."""
    universe = oracle.universe
    if "mail" in universe.people.kinds:
        return  # what was true when it was written may be sent much later
    for mail in universe.mail.taken:
        if THANKS not in mail.subject:
            continue
        theirs = [
            each for each in universe.truth.connections.values()
            if each.email in mail.recipients and each.created_at < mail.at
            and (each.deleted_at is None or each.deleted_at > mail.at)
        ]  # fmt: skip
        if theirs and not any(worked(each, mail.at - THANKED_WITHIN, mail.at) for each in theirs):
            yield f"false: {mail.recipients[0]} was thanked at {mail.at:%H:%M:%S}: {mail.subject}"


def _thanked_twice(oracle: "Oracle") -> Iterator[str]:
    """Nobody is thanked twice for one login; the same mail may come twice.

    Who was asked again between the two is thanked again: whether that was right is not said here.
    """
    universe = oracle.universe
    thanks = [mail for mail in universe.mail.taken if THANKS in mail.subject]
    for mail, later in combinations(thanks, 2):
        if mail.recipients != later.recipients or mail.identity == later.identity:
            continue
        if any(
            ASKS in asked.subject and asked.recipients == mail.recipients
            and mail.at < asked.at < later.at for asked in universe.mail.taken
        ):  # fmt: skip
            continue
        theirs = [
            each for each in universe.truth.connections.values() if each.email in mail.recipients
        ]
        lost = [at for each in theirs for at, works in each.logins if not works]
        if sum(at <= later.at for at in lost) < 2:
            whom, times = mail.recipients[0], f"{mail.at:%H:%M:%S} and {later.at:%H:%M:%S}"
            yield f"twice: {whom} was thanked at {times} for one login"
