"""What must hold, whatever happened: the model's truth against what Linekeeper did."""

import re
import sqlite3
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.simulation.ending import is_ending
from tests.simulation.indexed import wrong_records
from tests.simulation.lost import is_unreadable
from tests.simulation.makini.connection import Connection
from tests.simulation.patience import AT_ONCE, OVERDUE_WITHIN
from tests.simulation.promises import broken_promises
from tests.simulation.secrecy import leaked_secrets
from tests.simulation.universe import Universe
from tests.simulation.working_hours import CAN_WAIT, is_at_work, waits_for_work

DAY = 86_400.0
"""A sender's grain, in seconds."""
_CONNECTION = re.compile(r"\bconnection (\w+)[],]")
"""Of which connection an error of Makini's is, as it is written."""
AT_THE_END = timedelta(seconds=30)
"""What comes so late may wait still."""
WEEKEND = timedelta(days=3)
"""So long people may not be at work."""


class Oracle:
    """Judges one universe once it is calm."""

    def __init__(self, universe: Universe, database: Path) -> None:
        self.universe = universe
        self.broken: list[str] = list(universe.found)
        self.db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        self.db.row_factory = sqlite3.Row
        sick = universe.people.sick
        self.sick_key = sick.connection.key if sick is not None else ""

    def is_sick(self, key: str, entity: str = "") -> bool:
        """Whether nothing can be expected of it: what is wrong with it lasts."""
        sick = self.universe.people.sick
        if sick is None or sick.connection.key != key:
            return False
        return bool(sick.entity == "" or (entity and sick.entity == entity))

    def judge(self) -> list[str]:
        """Everything that is broken, in one line each."""
        if self.is_shut():
            return self.broken  # what can't be read can't be judged
        self.acknowledged()
        self.ended()
        self.gone()
        self.pending()
        self.broken += wrong_records(self)
        self.health()
        self.forwards()
        self.tokens()
        self.broken += leaked_secrets(self)
        self.errors()
        self.broken += broken_promises(self)
        self.db.close()
        return self.broken

    def rows(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        return self.db.execute(statement, values).fetchall()

    def acknowledged(self) -> None:
        """No acknowledged delivery is gone."""
        known = {row["id"] for row in self.rows("SELECT id FROM webhook_event")}
        for delivered in self.universe.delivered:
            if delivered.identity not in known:
                self.broken.append(f"lost: webhook {delivered.post.number} was acknowledged")

    def ended(self) -> None:
        """Every event ends, every message is sent or visibly not.

        Those of a connection of which Makini asked for a pause wait until it is over; so do those
        that name none, while it is one of those that may have the record.
        """
        patience, now = self.universe.people.patience, self.universe.now()
        excused = {self.sick_key} | {
            connection.key
            for connection in self.universe.truth.living()
            if patience.excuses(connection, AT_ONCE)
        }
        for row in self.rows("SELECT id, kind, status, error, connection_ref, url_connection"
                             " FROM webhook_event WHERE status = 'pending'"
                             " AND received_at NOT BETWEEN ? AND ?",
                             _text(now - AT_THE_END), _text(now)):  # fmt: skip
            if excused & {row["connection_ref"], row["url_connection"]}:
                continue
            named = set(_CONNECTION.findall(row["error"] or ""))
            if row["connection_ref"] is None and excused & named:
                continue
            self.broken.append(f"stuck: event {row['id']} {row['kind']} waits: {row['error']}")
        put_off = {
            row["lane"]
            for row in self.rows(
                "SELECT lane, next_attempt_at FROM outbox WHERE status = 'pending'"
                " AND channel IN ('run', 'event', 'email')"
            )
            if self.universe.people.rare.put_off(datetime.fromisoformat(row["next_attempt_at"]))
        }
        for row in self.rows(
            "SELECT channel, dedupe_key, lane, error, (SELECT time_zone FROM customer"
            " WHERE id = json_extract(outbox.payload, '$.customer_id')) AS zone,"
            " EXISTS (SELECT 1 FROM outbox first WHERE first.lane = outbox.lane"
            " AND first.status = 'pending' AND first.seq < outbox.seq"
            " AND first.next_attempt_at = first.due_at AND first.due_at BETWEEN ? AND ?) AS behind"
            " FROM outbox WHERE status = 'pending' AND next_attempt_at < ?",
            _text(now), _text(now + WEEKEND), _text(now - timedelta(minutes=10)),
        ):  # fmt: skip
            if row["behind"] and not is_at_work(now, row["zone"] or "UTC"):
                continue  # behind one that waits for working hours
            if row["lane"] in put_off:
                continue
            self.broken.append(f"stuck: {row['channel']} {row['dedupe_key']}: {row['error']}")
        # What is said in working hours waits for the next, though a clock of tomorrow had tried it.
        for row in self.rows(
            "SELECT channel, dedupe_key, lane, error, next_attempt_at,"
            " json_extract(payload, '$.do') AS what, (SELECT time_zone FROM customer"
            " WHERE id = json_extract(outbox.payload, '$.customer_id')) AS zone"
            " FROM outbox WHERE status = 'pending' AND attempts > 0 AND created_at < ?"
            " AND (due_at IS NULL OR due_at <> next_attempt_at OR due_at NOT BETWEEN ? AND ?)",
            _text(self.universe.calm_since), _text(now), _text(now + WEEKEND),
        ):  # fmt: skip
            until = datetime.fromisoformat(row["next_attempt_at"])
            if row["what"] in CAN_WAIT and waits_for_work(now, until, row["zone"] or "UTC"):
                continue
            if row["lane"] in put_off:
                continue
            self.broken.append(f"stuck: {row['channel']} {row['dedupe_key']}: {row['error']}")
        for table in ("outbox", "webhook_event"):
            for row in self.rows(
                f"SELECT id, claimed_by, next_attempt_at FROM {table} WHERE status = 'pending'"
                " AND claimed_by IS NOT NULL AND next_attempt_at > ?",
                _text(self.universe.now() + timedelta(minutes=10)),
            ):
                until = row["next_attempt_at"][:16]
                self.broken.append(f"held: {table} {row['id']} is claimed until {until}")

    def gone(self) -> None:
        """A connection that is gone at Makini is gone here, and somebody was told."""
        edge = self.universe.now() - timedelta(minutes=45)
        for connection in self.universe.truth.connections.values():
            if connection.key not in self.universe.people.removed or not connection.deleted:
                continue
            for row in self.rows("SELECT * FROM connection WHERE makini_key = ?", connection.key):
                if (connection.deleted_at or edge) < edge and row["setup"] != "disconnected":
                    self.broken.append(f"gone: {row['name']} is gone, held {row['setup']}")

    def pending(self) -> None:
        """Nothing is wrong with a connection that nobody has finished yet."""
        left = {each.key for each in self.universe.truth.pending}
        for key, finished_at in self.universe.truth.invited.items():
            wrong_by = max(self.wrong_by(), timedelta())
            until = _text((finished_at or self.universe.now()) - wrong_by)
            for row in self.rows(
                "SELECT m.kind, m.joined_at FROM incident_connection m JOIN connection c"
                " ON c.id = m.connection_id WHERE c.makini_key = ? AND m.joined_at < ?", key, until,
            ):  # fmt: skip
                self.broken.append(f"pending: {key} is in trouble ({row['kind']}), and not set up")
            for row in self.rows("SELECT setup, health FROM connection WHERE makini_key = ?", key):
                held = (row["setup"], row["health"])
                if key in left and held != ("pending", "unknown"):
                    self.broken.append(f"pending: {key} is listed as pending, held {held}")

    def health(self) -> None:
        """The final health is the truth's, and an incident is open just where there is trouble."""
        lag = self.universe.personality.status_lag
        open_kinds: dict[str, set[str]] = {}
        for row in self.rows(
            "SELECT m.connection_id, m.kind FROM incident_connection m JOIN incident i"
            " ON i.id = m.incident_id WHERE i.status != 'resolved' AND m.left_at IS NULL"
        ):
            open_kinds.setdefault(row["connection_id"], set()).add(row["kind"])
        for connection in self.universe.truth.living():
            changed = connection.words[-1][0]
            if lag > 600 or self.universe.now() - changed < timedelta(minutes=35):
                continue  # what it says of itself is older than what is so
            if self.is_sick(connection.key) or self.is_locked_out(connection):
                continue
            if self.is_unreadable(connection) and not self.is_announced(connection):
                continue
            for row in self.rows("SELECT * FROM connection WHERE makini_key = ?", connection.key):
                lost = "reauthorization_required" in open_kinds.get(row["id"], set())
                where = f"{row['name']} ({connection.key})"
                if connection.login_ok and (row["health"] != "healthy" or lost):
                    self.broken.append(f"health: {where} is well, held {row['health']}, {lost=}")
                if not connection.login_ok and (
                    row["health"] != "reauthorization_required" or not lost
                ):
                    self.broken.append(
                        f"health: {where} lost its login, held {row['health']}, {lost=}"
                    )

    def is_fresh(self, connection: Connection) -> bool:
        """Whether it works again so lately that Makini's word may not have told of it yet.

        A lost login is found again by reads; that there are credits again by that word alone, by
        the next sweep, and the next poll.
        """
        lag = timedelta(seconds=self.universe.personality.status_lag)
        late = min(lag, timedelta(minutes=15))
        if len(connection.states) > 1 and connection.states[-2][1] == "us":
            late = lag + timedelta(minutes=20) * self.universe.pace
        now, begins = self.universe.now(), self.universe.begins
        changed = max(connection.states[-1][0], connection.syncing_until or begins)
        # While its late word says that the login is lost, what webhooks bring is left to a poll.
        worded = [(at, word) for at, _, word in connection.words if at <= now]
        failed = [ends for (_, word), (ends, _) in pairwise([*worded, (now, "")]) if word == "fail"]
        return now - max([changed, *failed]) < OVERDUE_WITHIN + late

    def is_unreadable(self, connection: Connection) -> bool:
        """Whether nobody gave Linekeeper a token of it, and it may not make one itself."""
        return is_unreadable(self.universe, connection)

    def is_announced(self, connection: Connection) -> bool:
        """Whether Makini's own event said of its login that it is lost, as it is to the end."""
        personality = self.universe.personality
        if connection.login_ok or not personality.auth_event or personality.grain >= DAY:
            return False
        return any(
            each.post.event == personality.auth_event and each.post.connection == connection.key
            and each.at >= connection.logins[-1][0] for each in self.universe.delivered
        )  # fmt: skip

    def is_locked_out(self, connection: Connection) -> bool:
        """Whether a new pair was lost for good, as when a process dies while it gets one."""
        issued = [pair.issued_at for pair in connection.pairs if pair.source != "mint"]
        near = timedelta(seconds=90)
        return any(abs(at - crash) < near for at in issued for crash in self.universe.crashed_at)

    def was_locked_out(self, connection: Connection) -> bool:
        """Whether Linekeeper has had to ask for a login that works."""
        pairs = self.universe.people.pairs
        return self.is_locked_out(connection) or pairs.was_locked_out(connection)

    def forwards(self) -> None:
        """What was applied reached the product; each connection's in order."""
        taken: dict[str, int] = {}
        for position, forwarded in enumerate(self.universe.product.taken):
            taken.setdefault(forwarded.identity, position)
        last: dict[str, tuple[int, str, datetime]] = {}
        for row in self.rows("SELECT dedupe_key, lane, status, seq, error, created_at FROM outbox"
                             " WHERE channel = 'forward' ORDER BY seq"):  # fmt: skip
            # Of an event of several connections each has a forward, and an id, of its own.
            identity = row["dedupe_key"].removeprefix("forward:").replace(":", "-")
            if row["status"] == "sent" and identity not in taken:
                self.broken.append(f"forward: {identity} counts as sent, the product never saw it")
            if identity in taken:
                before, at = last.get(row["lane"]), datetime.fromisoformat(row["created_at"])
                if (
                    before is not None and taken[identity] < before[0]
                    and at - before[2] >= self.wrong_by()
                ):  # fmt: skip
                    self.broken.append(f"forward: {identity} came before {before[1]}")
                last[row["lane"]] = (taken[identity], identity, at)
        self.broken += [f"product: {wrong}" for wrong in self.universe.product.wrong]

    def wrong_by(self) -> timedelta:
        """By so much two of our own times may be wrong beside each other."""
        if "day" in self.universe.people.kinds:
            return timedelta(days=3)
        clocks = "clock" in self.universe.people.kinds
        return timedelta(minutes=10) if clocks else timedelta(days=-1)

    def tokens(self) -> None:
        """The stored pair is a live one; or the live one is kept until Makini says whose it is."""
        from linekeeper.store.cipher import Cipher

        cipher, now = Cipher(self.universe.keys), self.universe.now()
        kept = {
            cipher.decrypt(row["refresh_token"])
            for row in self.rows("SELECT refresh_token FROM pending_login")
            if row["refresh_token"]
        }
        for row in self.rows("SELECT c.makini_key, c.name, k.* FROM credential k"
                             " JOIN connection c ON c.id = k.connection_id"):  # fmt: skip
            connection = self.universe.truth.connections.get(row["makini_key"])
            if connection is None or connection.deleted or row["minted"]:
                continue
            if self.was_locked_out(connection) or any(
                pair.refresh in kept for pair in connection.pairs
            ):
                continue
            refresh = row["refresh_token"] and cipher.decrypt(row["refresh_token"])
            pairs = [pair for pair in connection.pairs if pair.refresh == refresh]
            if refresh and not pairs and any(pair.refresh for pair in connection.pairs):
                self.broken.append(f"tokens: {row['name']}: the stored pair is not the live one")
            elif pairs and now >= pairs[0].refresh_until and not is_ending(self, connection):
                self.broken.append(f"tokens: {row['name']}: the stored pair ended unrenewed")

    def is_shut(self) -> bool:
        """Whether something needs another key than there are: once it may go, nothing does."""
        from linekeeper.store.cipher import Cipher, KeyProblem

        if "keys" not in self.universe.people.kinds:
            return False
        cipher, count = Cipher(self.universe.keys), len(self.broken)
        for table, columns in (
            ("credential", ("access_token", "refresh_token")),
            ("pending_login", ("access_token", "refresh_token")),
            ("app_setting", ("value",)),
            ("record", ("body",)),
        ):
            for column in columns:
                shut = [
                    row[0]
                    for row in self.rows(f"SELECT {column} FROM {table}")
                    if row[0] and row[0].startswith("gAAAA") and not cipher.opens(row[0])
                ]
                if shut:
                    self.broken.append(f"keys: {len(shut)} of {table}.{column} need the old key")
        for row in self.rows("SELECT id, body FROM webhook_event WHERE body_keys IS NOT NULL"):
            try:
                cipher.unseal(row["body"] or b"")
            except KeyProblem:
                self.broken.append(f"keys: the body of event {row['id']} needs the old key")
        return len(self.broken) > count

    def errors(self) -> None:
        """Nothing fails that nobody looks at."""
        for context in self.universe.loop.errors:
            error = context.get("exception")
            self.broken.append(f"unhandled: {context.get('message')}: {error!r}")
        for run in self.universe.prefect.runs.values():
            if run.state_word == "failed" and ": " in run.message and _is_a_bug(run.message):
                self.broken.append(f"run: {run.deployment} raised {run.message}")


def _text(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")


def _is_a_bug(message: str) -> bool:
    return message.split(":", 1)[0] in {
        "AttributeError", "KeyError", "TypeError", "AssertionError", "IndexError", "ValueError",
        "UnboundLocalError", "NameError", "IntegrityError", "ExceptionGroup",
    }  # fmt: skip
