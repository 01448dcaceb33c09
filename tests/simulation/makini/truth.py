"""What is so at the model Makini and in the customers' systems behind it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any

from tests.simulation.makini.connection import Connection, Pair, Record
from tests.simulation.makini.personality import Personality

ENTITIES = ("eam/work-orders", "eam/assets", "eam/sites", "erp/purchase-orders")
UNDATED = "eam/sites"
"""The entity without times, where this Makini has one."""
ACCESS_LIFE = timedelta(days=30)
REFRESH_LIFE = timedelta(days=31)


class Truth:
    """Every connection and record, changed only through methods that say what happens."""

    def __init__(self, rng: Random, personality: Personality) -> None:
        self.rng = rng
        self.personality = personality
        self.connections: dict[str, Connection] = {}
        self.pending: list[Connection] = []
        """Prepared by a magic link that nobody has finished yet."""
        self.invited: dict[str, datetime | None] = {}
        """Whoever was prepared so, by key, and when they finished."""
        self.secrets: list[str] = []  # every token ever handed out, for the oracle
        self.changes: list[tuple[datetime, str, str, str, str]] = []
        self.dated: dict[tuple[datetime, str, str], datetime] = {}
        """Of what became visible then, by connection and key, and had waited: since when it was."""
        self.announce: list[tuple[str, str, list[str]]] = []  # webhooks still to be sent
        self.announced = asyncio.Event()

    def notify(self, webhook: tuple[str, str, list[str]]) -> None:
        """A webhook is to be sent."""
        self.announce.append(webhook)
        self.announced.set()

    # --- connections

    def connect(
        self, *, name: str, email: str, provider: str, company: str, now: datetime,
        offers: tuple[str, ...] = ENTITIES, records: int = 0, metadata: Any = None,
        backlog: timedelta = timedelta(days=20),
    ) -> Connection:  # fmt: skip
        """Make a connection whose system already holds `records` records of each entity."""
        key = f"{self.rng.randrange(10**9):010d}"
        connection = Connection(key, name, email, provider, company, offers, now, metadata)
        connection.records = {entity: {} for entity in offers}
        for entity in offers:
            for _ in range(records):
                at = now - backlog * self.rng.random()
                self._write(connection, entity, None, at)
        self.connections[key] = connection
        self._say(connection, now)
        return connection

    def invite(self, connection: Connection) -> None:
        """A magic link prepares `connection`: it is pending until somebody finishes it."""
        del self.connections[connection.key]
        connection.words = [(connection.created_at, "Pending", "")]
        connection.states.clear()
        connection.logins.clear()
        self.pending.append(connection)
        self.invited[connection.key] = None

    def finish(self, connection: Connection, now: datetime) -> None:
        """The customer finishes the magic link."""
        self.pending.remove(connection)
        self.connections[connection.key] = connection
        self.invited[connection.key] = connection.created_at = now
        connection.words.clear()
        self._say(connection, now)
        self._read_slowly(connection, now)

    def fill(self, connection: Connection, entity: str, count: int) -> None:
        """The system has held so many records more since before anybody looked."""
        began = connection.created_at
        for _ in range(count):
            at = began - timedelta(days=20) * self.rng.random()
            self._write(connection, entity, None, at)

    def living(self) -> list[Connection]:
        """The connections that the list shows."""
        return [each for each in self.connections.values() if not each.deleted]

    def lose_login(self, connection: Connection, now: datetime) -> None:
        """The customer's system begins to refuse the stored login."""
        if connection.login_ok:
            connection.login_ok = False
            self._say(connection, now)
            if self.personality.auth_event:
                self.notify((connection.key, self.personality.auth_event, []))

    def restore_login(self, connection: Connection, now: datetime) -> None:
        """The customer's system accepts the login again; what waited becomes visible."""
        if not connection.login_ok:
            connection.login_ok = True
            self._say(connection, now)
            if self.personality.recovery_event:
                self.notify((connection.key, self.personality.recovery_event, []))
            self._release(connection, now)

    def set_online(self, connection: Connection, online: bool, now: datetime) -> None:
        """The customer's system goes off line, or comes back and syncs what happened."""
        if connection.online != online:
            connection.online = online
            self._say(connection, now)
            if online:
                self._release(connection, now)

    def set_active(self, connection: Connection, active: bool, now: datetime) -> None:
        """Credits run out, or suffice again."""
        if connection.active != active:
            connection.active = active
            self._say(connection, now)

    def delete(self, connection: Connection, now: datetime) -> None:
        """The connection is disconnected; every token of it dies."""
        connection.deleted, connection.deleted_at = True, now
        connection.pairs.clear()

    def log_in(self, connection: Connection, now: datetime) -> tuple[Connection, Pair]:
        """The customer finishes Makini Link: the same connection, or a new one in its place."""
        while connection.successor is not None:
            connection = self.connections[connection.successor]
        if self.personality.keeps_id and not connection.deleted:
            target = connection
        else:
            target = self.connect_anew(connection, now)
        target.login_ok = True
        self._say(target, now)
        self._release(target, now)
        return target, self.issue(target, now, source="login")

    def connect_anew(self, connection: Connection, now: datetime) -> Connection:
        """A new connection to the same system, in the place of the old one."""
        target = self.connect(
            name=connection.name, email=connection.email, provider=connection.provider,
            company=connection.company, now=now, offers=connection.offers,
            metadata=connection.metadata,
        )  # fmt: skip
        target.next_number = connection.next_number
        for entity, records in connection.records.items():
            for record in records.values():
                key = self._key(target, entity, record.number)
                target.records[entity][key] = replace(
                    record, key=key, data=dict(record.data, key=key)
                )
        target.waiting = list(connection.waiting)
        self._read_slowly(target, now)
        connection.successor = target.key
        if not connection.deleted:
            self.delete(connection, now)
        return target

    def _read_slowly(self, connection: Connection, now: datetime) -> None:
        """Makini reads the system for the first time: until then it lists what it has so far."""
        lasts = timedelta(seconds=self.personality.first_sync)
        if lasts:
            connection.syncing_until = now + lasts
            connection.words.clear()
            self._say(connection, now)
            for records in connection.records.values():
                for record in records.values():
                    record.read_at = now + lasts * self.rng.random()

    # --- tokens

    def issue(self, connection: Connection, now: datetime, *, source: str) -> Pair:
        """A new token. A login and a refresh kill what was there before."""
        long = source != "mint" or self.personality.mint == "long"
        refreshes = source != "mint" or self.personality.mint_refreshes
        pair = Pair(
            access=f"mkat-{self.rng.getrandbits(96):024x}",
            refresh=f"mkrt-{self.rng.getrandbits(96):024x}" if refreshes else None,
            access_until=now + (ACCESS_LIFE if long else timedelta(seconds=300)),
            refresh_until=now + REFRESH_LIFE,
            source=source,
            issued_at=now,
        )
        self.secrets += [pair.access] + ([pair.refresh] if pair.refresh else [])
        if source != "mint" or self.personality.mint_kills:
            connection.pairs.clear()
        connection.pairs.append(pair)
        return pair

    def owner_of(self, access: str, now: datetime) -> Connection | None:
        """Whose live access token this is."""
        for connection in self.living():
            for pair in connection.pairs:
                if pair.access == access and now < pair.access_until:
                    return connection
        return None

    def refreshable(self, refresh: str, now: datetime) -> Connection | None:
        """Whose live refresh token this is."""
        for connection in self.living():
            for pair in connection.pairs:
                if pair.refresh == refresh and now < pair.refresh_until:
                    return connection
        return None

    def end_tokens(self, connection: Connection, now: datetime) -> None:
        """The access tokens end early; the refresh tokens live."""
        for pair in connection.pairs:
            pair.access_until = min(pair.access_until, now)

    # --- records

    def touch(self, connection: Connection, entity: str, number: int, now: datetime) -> None:
        """Update the record with this number."""
        self._apply(connection, entity, number, now, "updated")

    def change(self, connection: Connection, entity: str, now: datetime, how: str) -> None:
        """Insert, update or delete one record at the source, now."""
        numbers = sorted(record.number for record in connection.live(entity))
        number = self.rng.choice(numbers) if numbers and how != "inserted" else None
        if how == "deleted" and number is None:
            return
        if connection.login_ok and connection.online and connection.active:
            self._apply(connection, entity, number, now, how)
        else:
            connection.waiting.append((entity, number, how, now))

    def _release(self, connection: Connection, now: datetime) -> None:
        if not (connection.login_ok and connection.online and connection.active):
            return
        waiting, connection.waiting = connection.waiting, []
        for entity, number, how, at in waiting:
            dated = at if self.personality.source_times else now
            self._apply(connection, entity, number, now, how, dated=dated)

    def _apply(
        self, connection: Connection, entity: str, number: int | None, now: datetime, how: str,
        *, dated: datetime | None = None,
    ) -> None:  # fmt: skip
        """It becomes visible `now`; the source gives it the time `dated`."""
        records = connection.records[entity]
        if how == "deleted":
            gone = [key for key, record in records.items() if record.number == number]
            for key in gone:
                self._delete(connection, entity, key, dated or now)
                self.changes.append((now, connection.key, entity, key, how))
                if self.personality.delete_events:  # else Makini announces no deletes
                    self.notify((connection.key, self.event_of(entity, how), [key]))
            return
        record = self._write(connection, entity, number, dated or now)
        self.changes.append((now, connection.key, entity, record.key, how))
        if dated is not None:
            self.dated[now, connection.key, record.key] = dated
        event = self.event_of(entity, "inserted" if number is None else "updated")
        self.notify((connection.key, event, [record.key]))

    def _delete(self, connection: Connection, entity: str, key: str, at: datetime) -> None:
        records = connection.records[entity]
        if self.personality.soft_deletes and not self.is_undated(entity):
            record, said = records[key], self.stamp(at)
            data = dict(record.data, updatedAt=said, deletedAt=said)
            records[key] = replace(record, updated_at=at, data=data, deleted=True)
        else:
            del records[key]

    def is_undated(self, entity: str) -> bool:
        """Whether the records of an entity have no times."""
        return self.personality.undated and entity == UNDATED

    def event_of(self, entity: str, verb: str) -> str:
        """What this Makini calls it."""
        plural = entity.rsplit("/", 1)[-1]
        name = plural if self.personality.event_spelling != "camel" else _camel(plural)
        if self.personality.event_spelling == "underscore":
            name = name.replace("-", "_")
        return f"{name}.{verb}"

    def _write(
        self, connection: Connection, entity: str, number: int | None, at: datetime
    ) -> Record:
        if number is None:
            number, connection.next_number = connection.next_number, connection.next_number + 1
        key = self._key(connection, entity, number)
        before = connection.records[entity].get(key)
        created = before.data.get("createdAt") if before else self.stamp(at)
        data = {
            "key": key, "title": f"{entity} {number}", "createdAt": created,
            "updatedAt": self.stamp(at), "deletedAt": None,
            "status": self.rng.choice(("open", "assigned", "done")),
            "notes": f"note {self.rng.getrandbits(32):08x}",
        }  # fmt: skip
        if self.is_undated(entity):
            data = {name: value for name, value in data.items() if not name.endswith("At")}
        record = Record(key, number, at, data)
        connection.records[entity][key] = record
        return record

    def _key(self, connection: Connection, entity: str, number: int) -> str:
        home = connection.key[-4:] if self.personality.renames_keys else "0000"
        digest = int(sha256(f"{entity} {number}".encode()).hexdigest()[:8], 16)
        return f"09{home}{digest:010d}"

    def stamp(self, at: datetime) -> str:
        """A time as this Makini writes it: UTC, cut down to its grain."""
        grain = self.personality.grain
        if grain >= 1:
            seconds = int(at.timestamp() // grain * grain)
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = at.astimezone(UTC).isoformat(
            timespec="microseconds" if grain < 1e-4 else "milliseconds"
        )
        return text.replace("+00:00", "Z")

    def _say(self, connection: Connection, now: datetime) -> None:
        if not connection.active:
            # Nothing is synchronized, so that what was said of a login that is lost stays.
            was_lost = not connection.login_ok and connection.words[-1][2] == "fail"
            state, words = "us", ("Inactive", "fail" if was_lost else "done")
        elif not connection.login_ok:
            state, words = "customer_login", ("Active", "fail")
        elif not connection.online:
            state, words = "customer_system", ("Active", "error")
        else:
            state, words = "healthy", ("Active", "done")
        connection.states.append((now, state))
        connection.logins.append((now, connection.login_ok))
        lag = timedelta(seconds=self.personality.status_lag) if connection.words else timedelta()
        syncing_until = connection.syncing_until or now
        if state == "healthy" and now < syncing_until:
            connection.words.append((now + lag, self.personality.syncing_as, "inprogress"))
            connection.words.append((max(now + lag, syncing_until), "Active", "fulldone"))
        else:
            connection.words.append((now + lag, *words))


def _camel(plural: str) -> str:
    head, *rest = plural.split("-")
    return head + "".join(word.capitalize() for word in rest)
