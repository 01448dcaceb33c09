"""The rows of `drift` sum up what changed in truth, and what the webhooks announced of it.

Of each entity of a connection the truth knows what changed, and which deliveries named it. What
lies between two changes of one record nobody may have seen, so that it gives bounds: of what is
lost, of what was announced, of what is gone, and of how late a delivery was. Whose doing it was is
known where nothing of ours was ever away, and where a login was lost.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulation.courtesy import CLOCK_KINDS
from tests.simulation.heard import AGAINST

if TYPE_CHECKING:
    from tests.simulation.makini.connection import Connection
    from tests.simulation.oracle import Oracle

SETTLED = timedelta(minutes=15)
"""What came so late may not be settled yet."""
TAKEN_WITHIN = timedelta(seconds=15)
"""From when a delivery is stored until its sender has the answer."""
CLOCK = timedelta(hours=1)
"""A source whose times are coarser says of a change only the day."""
NUMBERS = ("missed", "came_late", "late", "mismatched", "deleted", "webhooks_seen", "late_seconds")
INTERRUPTED = frozenset({"keys", "dark keys", "statements", "locked", "before commit", "commits"})
"""Kinds of trouble with which a receiver may have been away, though nobody stopped it."""


@dataclass
class _Changed:
    """What is true of the records of one entity."""

    changes: int = 0
    deletions: int = 0
    lost_at_most: int = 0
    """All but the last change of a record that a delivery announced."""
    lost_at_least: int = 0
    """Records that no delivery named, of which Linekeeper saw a change."""
    announced_at_most: int = 0
    announced_at_least: int = 0
    """Records whose last change a delivery announced, and Linekeeper saw."""
    gone_at_least: int = 0
    """Records that are gone, which no delivery named, and Linekeeper knows."""


@dataclass
class _Record:
    """What happened to one record."""

    moments: list[datetime] = field(default_factory=list)
    is_gone: bool = False
    came: list[datetime] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)
    """Rows of `change`, in their order."""


def false_sums(oracle: "Oracle") -> Iterator[str]:
    """Everything that is broken, in one line each."""
    yield from _not_once(oracle)
    if oracle.universe.people.kinds & CLOCK_KINDS:
        return  # our own times are not those of the world
    if oracle.universe.personality.webhook_connection == "none":
        return  # whose record a webhook names nobody can say
    records = _records(oracle)
    ours = {row["makini_key"]: row for row in oracle.rows("SELECT * FROM connection")}
    for connection in _unreplaced(oracle):
        if connection.key not in ours:
            continue
        yield from _falsely_excused(oracle, connection, ours[connection.key])
        yield from _falsely_blamed(oracle, connection, ours[connection.key])
        for entity in connection.offers:
            if not oracle.is_sick(connection.key, entity):
                theirs = records.get((connection.key, entity), {})
                yield from _beyond_the_truth(
                    oracle, connection, ours[connection.key], entity, theirs
                )


def _not_once(oracle: "Oracle") -> Iterator[str]:
    """Each change that was missed is counted once, in the row that it names."""
    for row in oracle.rows(
        "SELECT c.name, d.entity, d.run_at, d.missed, d.came_late, count(h.id) AS names,"
        " count(CASE WHEN h.announced_at IS NOT NULL AND h.due IS NULL THEN 1 END) AS came"
        " FROM drift d JOIN connection c ON c.id = d.connection_id"
        " LEFT JOIN change h ON h.missed_in = d.id GROUP BY d.id"
        " HAVING d.missed <> names OR d.came_late <> came"
    ):
        yield (
            f"drift: {row['name']} {row['entity']}, run of {row['run_at'][11:19]}: {row['missed']} "
            f"missed, {row['came_late']} came late; {row['names']} changes name it, "
            f"{row['came']} of them came late"
        )


def _unreplaced(oracle: "Oracle") -> Iterator["Connection"]:
    """The connections whose figures are of them alone, from their first listing on."""
    truth = oracle.universe.truth
    heirs = {each.successor for each in truth.connections.values() if each.successor}
    for connection in truth.connections.values():
        if connection.successor or connection.key in heirs or connection.key in truth.invited:
            continue
        if not connection.deleted and connection.syncing_until is None:
            yield connection


def _records(oracle: "Oracle") -> dict[tuple[str, str], dict[str, _Record]]:
    """All that changed, by connection and entity, and by its key."""
    universe = oracle.universe
    records: defaultdict[tuple[str, str], defaultdict[str, _Record]]
    records = defaultdict(lambda: defaultdict(_Record))
    entities: dict[tuple[str, str], str] = {}
    for at, connection, entity, key, how in universe.truth.changes:
        record = records[connection, entity][key]
        record.moments.append(at)
        record.is_gone |= how == "deleted"
        entities[connection, key] = entity
    for delivered in universe.delivered:
        for key in delivered.post.keys:
            place = (delivered.post.connection, key)
            if place in entities:
                records[place[0], entities[place]][key].came.append(delivered.at)
    for row in oracle.rows(
        "SELECT c.makini_key, h.* FROM change h JOIN connection c ON c.id = h.connection_id"
        " ORDER BY h.seq"
    ):
        records[row["makini_key"], row["entity"]][row["key"]].seen.append(row)
    return {place: dict(theirs) for place, theirs in records.items()}


def _truth_of(oracle: "Oracle", entity: str, records: dict[str, _Record]) -> _Changed:
    changed, edge = _Changed(), oracle.universe.now() - SETTLED
    for record in records.values():
        if not record.moments:  # the first listing lacked it, and only its date could say so
            changed.lost_at_most += oracle.universe.truth.is_undated(entity)
            changed.changes += oracle.universe.truth.is_undated(entity)
            continue
        last = record.moments[-1]
        is_seen = record.seen and _at(record.seen[-1], "at") >= last
        is_counted = is_seen and all(row["due"] is None for row in record.seen)
        announced = [at for at in record.came if last <= at < edge]
        changed.changes += len(record.moments)
        changed.deletions += record.is_gone
        changed.lost_at_most += len(record.moments) - bool(announced or record.is_gone)
        changed.announced_at_most += len(record.moments) if record.came else 0
        if record.is_gone:
            changed.gone_at_least += bool(is_counted and not record.came)
        else:
            changed.lost_at_least += bool(is_counted and not record.came)
            changed.announced_at_least += bool(is_counted and announced)
    return changed


def _beyond_the_truth(
    oracle: "Oracle", connection: "Connection", row: Any, entity: str, records: dict[str, _Record]
) -> Iterator[str]:
    """What the rows of one entity sum up lies within what can be so."""
    (told,) = oracle.rows(
        f"SELECT {', '.join(f'coalesce(sum({name}), 0) AS {name}' for name in NUMBERS)}"
        " FROM drift WHERE connection_id = ? AND entity = ? AND cause IS NOT 'first_sync'",
        row["id"], entity,
    )  # fmt: skip
    is_read = connection.login_ok and connection.online and connection.active
    is_read = is_read and not oracle.universe.people.pairs.is_locked_out(connection)
    is_settled = is_read and not oracle.is_fresh(connection)
    truth = _truth_of(oracle, entity, records)
    lost = told["missed"] - told["came_late"]
    announced = told["webhooks_seen"] + told["late"]
    counted = told["missed"] + told["mismatched"] + told["webhooks_seen"] + told["deleted"]
    where = f"drift: {row['name']} ({connection.key}) {entity}"
    if is_settled and lost > truth.lost_at_most:
        yield f"{where}: {lost} are lost, at most {truth.lost_at_most} can be"
    if lost + told["mismatched"] < truth.lost_at_least:
        yield f"{where}: {lost} are lost, of {truth.lost_at_least} records no webhook came"
    if announced > truth.announced_at_most:
        yield f"{where}: {announced} were announced, at most {truth.announced_at_most} can be"
    if is_settled and announced < truth.announced_at_least:
        yield f"{where}: {announced} were announced, of {truth.announced_at_least} a webhook came"
    if counted > truth.changes:
        yield f"{where}: {counted} changes are counted, there were {truth.changes}"
    if not truth.gone_at_least <= told["deleted"] <= truth.deletions:
        yield (
            f"{where}: {told['deleted']} are gone, {truth.gone_at_least} to {truth.deletions} are"
        )
    yield from _wrongly_late(oracle, connection, where, told["late_seconds"], records)


def _wrongly_late(
    oracle: "Oracle", connection: "Connection", where: str, told: float,
    records: dict[str, _Record],
) -> Iterator[str]:  # fmt: skip
    """Deliveries that came late were so late: from the change to one of them."""
    grain = timedelta(seconds=oracle.universe.personality.grain)
    least = most = timedelta()
    for key, record in records.items():
        for row in record.seen:
            if row["missed_in"] is None or row["announced_at"] is None or row["due"] is not None:
                continue
            read_at = _at(row, "at")
            changed = max((at for at in record.moments if at <= read_at), default=read_at)
            changed = oracle.universe.truth.dated.get((changed, connection.key, key), changed)
            came = [at for at in record.came if at >= read_at - TAKEN_WITHIN] or [read_at]
            least += max(min(came) - TAKEN_WITHIN - read_at, timedelta())
            most += max(came) - changed + grain + TAKEN_WITHIN
    if not least.total_seconds() <= told <= most.total_seconds():
        yield f"{where}: what came late took {told:.0f} s, in truth {least} to {most}"


def _falsely_excused(oracle: "Oracle", connection: "Connection", row: Any) -> Iterator[str]:
    """Nothing is put down to what never was: an outage of ours, a system that is away."""
    universe = oracle.universe
    excuses: set[str] = set()
    interrupted = universe.crashed_at or universe.stopped_at
    if not interrupted and not universe.people.kinds & INTERRUPTED:
        excuses.add("outage")
    if {state for _, state in connection.states} == {"healthy"} and not (
        universe.evidence.words_of(connection) & (AGAINST | {"error", "inprogress"})
    ):
        excuses.add("down")
    for each in oracle.rows(
        "SELECT entity, run_at, cause FROM drift WHERE connection_id = ? AND cause IS NOT NULL"
        " AND missed + mismatched + late > 0", row["id"],
    ):  # fmt: skip
        if each["cause"] in excuses:
            yield (
                f"drift: {row['name']} ({connection.key}) {each['entity']}, run of "
                f"{each['run_at'][11:19]}, is put down to {each['cause']}, which never was"
            )
    changed = {
        (entity, record): at
        for at, key, entity, record, _ in reversed(universe.truth.changes)
        if key == connection.key
    }
    for each in oracle.rows(
        "SELECT h.entity, h.key, h.at FROM change h JOIN drift d ON d.id = h.missed_in"
        " WHERE h.connection_id = ? AND d.cause = 'first_sync'", row["id"],
    ):  # fmt: skip
        at = changed.get((each["entity"], each["key"]))
        if at is not None and at <= _at(each, "at"):
            yield (
                f"drift: {row['name']} ({connection.key}) {each['entity']} {each['key']} changed "
                f"at {at:%H:%M:%S}, and counts as from before it was known"
            )


def _falsely_blamed(oracle: "Oracle", connection: "Connection", row: Any) -> Iterator[str]:
    """What changed while the login was lost, and that was known, is not the sender's doing."""
    personality, truth = oracle.universe.personality, oracle.universe.truth
    if not personality.source_times or timedelta(seconds=personality.grain) >= CLOCK:
        return
    known = [
        datetime.fromisoformat(each["at"]) for each in oracle.rows(
            "SELECT at FROM transition WHERE connection_id = ? AND axis = 'health'"
            " AND after = 'reauthorization_required'", row["id"],
        )
    ]  # fmt: skip
    ends = [at for at, _ in connection.logins[1:]] + [oracle.universe.now()]
    lost = [
        (max(since, min((at for at in known if since <= at < until), default=until)), until)
        for (since, works), until in zip(connection.logins, ends, strict=True)
        if not works
    ]
    for each in oracle.rows(
        "SELECT h.entity, h.key, h.at FROM change h JOIN drift d ON d.id = h.missed_in"
        " WHERE h.connection_id = ? AND d.cause IS NULL AND h.announced_at IS NULL", row["id"],
    ):  # fmt: skip
        if truth.is_undated(each["entity"]):
            continue
        moments = [
            at for at, key, entity, record, _ in truth.changes
            if (key, entity, record) == (connection.key, each["entity"], each["key"])
            and at <= _at(each, "at")
        ]  # fmt: skip
        changed = truth.dated.get((moments[-1], connection.key, each["key"])) if moments else None
        if changed is not None and any(since < changed < until for since, until in lost):
            yield (
                f"drift: {row['name']} {each['entity']} {each['key']}, changed at "
                f"{changed:%H:%M:%S}, is held against the sender; its login was lost"
            )


def _at(row: Any, name: str) -> datetime:
    return datetime.fromisoformat(row[name])
