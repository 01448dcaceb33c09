"""The index is what the systems hold once it is calm: nothing missing, outdated, wrongly gone."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulation.makini.connection import Connection
from tests.simulation.patience import OVERDUE_WITHIN

if TYPE_CHECKING:
    import sqlite3

    from tests.simulation.oracle import Oracle

ADOPTED_WITHIN = timedelta(minutes=25)
"""Two sweeps at their slowest."""


def wrong_records(oracle: "Oracle") -> Iterator[str]:
    """Of every connection that works, and has for long enough, the records that are not its."""
    rows = {row["makini_key"]: row for row in oracle.rows("SELECT * FROM connection")}
    for connection in oracle.universe.truth.living():
        row = rows.get(connection.key)
        if row is None:
            if oracle.universe.now() - connection.created_at >= ADOPTED_WITHIN:
                yield f"unknown: connection {connection.key} was never adopted"
            continue
        if not (connection.login_ok and connection.online and connection.active):
            continue
        if oracle.universe.people.patience.excuses(connection, OVERDUE_WITHIN):
            continue
        if not (oracle.is_unreadable(connection) or oracle.is_fresh(connection)):
            yield from _wrong_records_of(oracle, connection, row)


def _wrong_records_of(
    oracle: "Oracle", connection: Connection, row: "sqlite3.Row"
) -> Iterator[str]:
    window = oracle.universe.personality.window
    edge = oracle.universe.now() - timedelta(seconds=window) if window else None
    index = {
        (each["entity"], each["key"]): each
        for each in oracle.rows("SELECT * FROM record WHERE connection_id = ?", row["id"])
    }
    succeeding = _succeeding(oracle, row["id"])
    waiting = set(_waiting(oracle, row["id"], connection))
    for entity, records in connection.records.items():
        if oracle.is_sick(connection.key, entity) or entity in waiting:
            continue
        for key, record in records.items():
            where = f"index: {row['name']} ({connection.key}) {entity} {key}"
            kept = index.get((entity, key))
            if record.deleted:
                is_due = entity not in succeeding
                if is_due and kept is not None and kept["deleted_at"] is None:
                    yield f"{where} is listed as deleted, and held for one that lives"
                continue
            if edge is not None and record.updated_at < edge + timedelta(hours=12):
                continue
            if kept is None:
                yield f"{where} is missing"
            elif kept["deleted_at"] is not None:
                yield f"{where} lives, held deleted"
            elif kept["body"] and (held := _opened(oracle, kept["body"])) != record.data:
                yield f"{where} is outdated: {held['notes']} for {record.data['notes']}"


def _succeeding(oracle: "Oracle", connection_id: str) -> set[str]:
    """The entities whose records came from the connection before, and were not listed since.

    By the first listing they are compared, by the next what is listed as deleted goes.
    """
    rows = oracle.rows(
        "SELECT s.entity FROM succession s LEFT JOIN watermark w"
        " ON w.connection_id = s.connection_id AND w.entity = s.entity"
        " WHERE s.connection_id = ? AND coalesce(w.full_at, '') <= coalesce(s.done_at, '9')",
        connection_id,
    )
    return {row["entity"] for row in rows}


def _waiting(oracle: "Oracle", connection_id: str, connection: Connection) -> Iterator[str]:
    """The entities that wait for a time after they were refused again and again.

    Each waits by itself, as is documented, where the whole connection did not work and Makini's
    late word said that it does.
    """
    for row in oracle.rows(
        "SELECT entity, failing_since FROM watermark WHERE connection_id = ? AND retry_at > ?",
        connection_id, oracle.universe.now().isoformat(timespec="microseconds"),
    ):  # fmt: skip
        began = datetime.fromisoformat(row["failing_since"])
        states = [state for at, state in connection.states if at <= began]
        is_hidden = connection.word(began) == ("Active", "done")
        if is_hidden and states and states[-1] != "healthy":
            yield row["entity"]


def _opened(oracle: "Oracle", kept: str) -> Any:
    """The contents of a record, which are encrypted at rest."""
    from linekeeper.store.bodies import open_body
    from linekeeper.store.cipher import Cipher

    return json.loads(open_body(Cipher(oracle.universe.keys), kept) or "null")
