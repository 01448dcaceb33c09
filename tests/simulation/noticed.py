"""Trouble that lasts has its incident, incidents end after their cause, and missed is missed."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulation.courtesy import CLOCK_KINDS

if TYPE_CHECKING:
    from tests.simulation.makini.connection import Connection
    from tests.simulation.oracle import Oracle

WITHIN = timedelta(minutes=20)
"""Two sweeps at their slowest, by which each incident is what its connections are."""
MANY, TRIED_FOR = 6, timedelta(seconds=45)
"""So many tries take at least so long, where the pause between two doubles from two seconds on."""
TWICE_APART = timedelta(minutes=11)
"""Two complete listings that agree are ten minutes apart."""
A_WINDOW = timedelta(days=7)
"""A listing that reaches back so far may be a history window."""
A_SHORT_WINDOW = timedelta(days=14)
"""The few records in a history window may all be younger than it: what is older is not known."""
SETTLED = timedelta(minutes=15)
IN_TROUBLE = ("reauthorization_required", "unreachable", "inactive")
OF_HEALTH = (*IN_TROUBLE, "degraded", "unknown")


def unnoticed(oracle: "Oracle") -> list[str]:
    """Everything that is broken, in one line each."""
    if oracle.universe.people.kinds & CLOCK_KINDS:
        return []  # our own times are not those of the world
    return [
        *_without_incident(oracle), *_outlived(oracle), *_twice_one_event(oracle),
        *_unseen(oracle), *_given_up_early(oracle), *_kept(oracle), *_figures(oracle),
    ]  # fmt: skip


def _edge(oracle: "Oracle") -> str:
    edge = oracle.universe.now() - WITHIN * max(1.0, oracle.universe.plan.pace)
    return edge.isoformat(timespec="microseconds")


def _without_incident(oracle: "Oracle") -> Iterator[str]:
    """Whatever has been in trouble for some time is in an incident."""
    for row in oracle.rows(
        "SELECT c.name, c.health, c.health_since FROM connection c WHERE c.setup = 'live'"
        f" AND c.health IN {IN_TROUBLE} AND c.health_since < ? AND NOT EXISTS ("
        " SELECT 1 FROM incident_connection m JOIN incident i ON i.id = m.incident_id"
        " WHERE m.connection_id = c.id AND m.left_at IS NULL AND i.resolved_at IS NULL)",
        _edge(oracle),
    ):
        since = row["health_since"][11:19]
        yield f"unsaid: {row['name']} is {row['health']} since {since}, and in no incident"


def _outlived(oracle: "Oracle") -> Iterator[str]:
    """No incident outlives its cause."""
    edge = _edge(oracle)
    for row in oracle.rows(
        "SELECT c.name, c.setup, c.health, m.kind FROM incident_connection m"
        " JOIN incident i ON i.id = m.incident_id JOIN connection c ON c.id = m.connection_id"
        f" WHERE m.left_at IS NULL AND i.resolved_at IS NULL AND m.kind IN {OF_HEALTH}"
        " AND m.joined_at < ?1 AND (c.health = 'healthy' AND c.health_since < ?1"
        " OR c.setup = 'disconnected' AND NOT EXISTS (SELECT 1 FROM transition t"
        " WHERE t.connection_id = c.id AND t.axis = 'setup' AND t.at >= ?1))", edge,
    ):  # fmt: skip
        yield (
            f"uncleared: {row['name']} is {row['setup']}, {row['health']}, and still in an "
            f"incident: {row['kind']}"
        )


def _twice_one_event(oracle: "Oracle") -> Iterator[str]:
    """A delivery that comes again under its id is the same event."""
    universe = oracle.universe
    if universe.personality.webhook_id == "none":
        return
    events: dict[int, str] = {}
    for delivered in universe.delivered:
        event = events.setdefault(delivered.post.number, delivered.identity)
        if event != delivered.identity:
            yield f"twice: webhook {delivered.post.number} is two events"


def _unseen(oracle: "Oracle") -> Iterator[str]:
    """An event that is given up is said to operators."""
    dead = oracle.rows(
        "SELECT id, kind FROM webhook_event WHERE status = 'dead' AND received_at < ?",
        (oracle.universe.calm_since - WITHIN).isoformat(timespec="microseconds"),
    )
    if dead and not oracle.rows("SELECT 1 FROM incident WHERE kind = 'webhooks_dead'"):
        yield f"unsaid: {len(dead)} events are given up, as {dead[0]['kind']}, and nobody was told"


def _given_up_early(oracle: "Oracle") -> Iterator[str]:
    """What fails again and again is tried with pauses between, not as fast as it can be."""
    for row in oracle.rows(
        "SELECT id, kind, received_at, processed_at, attempts FROM webhook_event"
        " WHERE status = 'dead' AND attempts >= ? AND error LIKE 'MakiniError%'", MANY,
    ):  # fmt: skip
        began, ended = (
            datetime.fromisoformat(row[name]) for name in ("received_at", "processed_at")
        )
        if ended - began < TRIED_FOR:
            yield (
                f"given up: event {row['id']} {row['kind']} was tried {row['attempts']} times "
                f"within {(ended - began).total_seconds():.0f} s"
            )


def _kept(oracle: "Oracle") -> Iterator[str]:
    """What two complete listings lacked is deleted, or waits for somebody to decide."""
    for row in oracle.rows(
        "SELECT c.makini_key, c.name, r.entity, r.key, r.updated_at, r.absent_since, w.full_at"
        " FROM record r"
        " JOIN watermark w ON w.connection_id = r.connection_id AND w.entity = r.entity"
        " JOIN connection c ON c.id = r.connection_id WHERE r.deleted_at IS NULL"
        " AND r.absent_since IS NOT NULL AND c.setup = 'live' AND NOT EXISTS ("
        " SELECT 1 FROM deletion d WHERE d.connection_id = r.connection_id"
        " AND d.entity = r.entity AND d.status = 'proposed')"
    ):
        lacked, again = (datetime.fromisoformat(row[name]) for name in ("absent_since", "full_at"))
        connection = oracle.universe.truth.connections.get(row["makini_key"])
        if connection is None or again - lacked < TWICE_APART:
            continue
        record = connection.records[row["entity"]].get(row["key"])
        if (record is None or record.deleted) and not _may_be_hidden(oracle, connection, row):
            yield (
                f"index: {row['name']} {row['entity']} {row['key']} is gone, two listings lacked "
                f"it until {again:%H:%M:%S}, and it is kept"
            )


def _may_be_hidden(oracle: "Oracle", connection: "Connection", row: Mapping[str, Any]) -> bool:
    """Whether it is older than all that is listed: a history window would hide it just so."""
    listed = connection.records[row["entity"]].values()
    oldest = min((each.updated_at for each in listed if not each.deleted), default=None)
    if oldest is None or row["updated_at"] is None:
        return False
    its_own, now = datetime.fromisoformat(row["updated_at"]), oracle.universe.now()
    is_hidden = now - oldest >= A_WINDOW or now - its_own >= A_SHORT_WINDOW
    return is_hidden and its_own < oldest


def _figures(oracle: "Oracle") -> Iterator[str]:
    """What counts as missed was announced by no webhook; what counts as announced was by one."""
    universe, truth = oracle.universe, oracle.universe.truth
    if universe.personality.webhook_connection == "none":
        return  # whose record it names nobody can say
    came: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for delivered in universe.delivered:
        for key in delivered.post.keys:
            came[delivered.post.connection, key].append(delivered.at)
    changed = {(key, entity, record): (at, how) for at, key, entity, record, how in truth.changes}
    heirs = {each.successor for each in truth.connections.values() if each.successor}
    edge = universe.now() - SETTLED
    for row in oracle.rows(
        "SELECT c.makini_key, c.name, h.entity, h.key, h.announced_at, h.recovered, max(h.seq)"
        " FROM change h JOIN connection c ON c.id = h.connection_id"
        " WHERE h.op IN ('inserted', 'updated') GROUP BY h.connection_id, h.entity, h.key"
    ):
        connection = truth.connections.get(row["makini_key"])
        place = (row["makini_key"], row["entity"], row["key"])
        if connection is None or connection.successor or connection.key in heirs:
            continue
        if place not in changed or changed[place][1] == "deleted":
            continue
        at = changed[place][0]
        if oracle.is_sick(connection.key, row["entity"]):
            continue
        since = [moment for moment in came[connection.key, row["key"]] if at <= moment < edge]
        which = f"{row['name']} {row['entity']} {row['key']}, changed at {at:%H:%M:%S}"
        # What came while it could not be read is settled by the next backfill or poll.
        is_read = connection.login_ok and connection.online and connection.active
        is_read = is_read and not universe.people.pairs.is_locked_out(connection)
        is_settled = is_read and not oracle.is_fresh(connection)
        if row["recovered"] and row["announced_at"] is None and since and is_settled:
            yield f"figures: {which}, counts as missed; a webhook came at {since[0]:%H:%M:%S}"
        if row["announced_at"] is not None and not came[connection.key, row["key"]]:
            yield f"figures: {which}, counts as announced, and no webhook came"
