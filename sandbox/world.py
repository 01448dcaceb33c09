"""The state of the sandbox, and what can be done to it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .faults import Faults
from .fleet import PROVIDERS, Connection, describe, make_fleet, seeded
from .records import STRIDE, Change, Records, parse_moment
from .settings import Settings
from .slack import Slack
from .tokens import Tokens
from .webhooks import Webhooks

KEYS_PER_WEBHOOK = 10


class World:
    """Connections, their tokens and records, webhooks, Slack, and counts of every call."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._clock = clock
        self.ahead = 0.0
        """Seconds by which this world's clock runs ahead of the machine's."""
        self.calm = False
        """The scenario breaks nothing for now; what it broke it still fixes in time."""
        self.chance = seeded(settings.seed, "world")
        self.connections: dict[str, Connection] = {}
        self._by_id: dict[str, Connection] = {}
        self.records = Records(settings.records_per_connection)
        self.tokens = Tokens(self.now)
        self.webhooks = Webhooks(settings, self.now)
        self.slack = Slack(settings, self.now)
        self.faults = Faults(paging=settings.paging, since=settings.since, login=settings.login)
        self.calls: Counter[tuple[str, str]] = Counter()
        self._requests = int(self.now()) << 20
        self._last_change = 0
        self._made = 0
        self._removed: set[str] = set()
        for connection in make_fleet(
            settings.seed, settings.connections, distinct_ids=settings.distinct_ids
        ):
            self.add(connection)

    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock() + self.ahead

    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now(), UTC)

    def request_id(self) -> str:
        self._requests += 1
        return f"req_{self._requests:014x}"

    def find(self, name: str) -> Connection | None:
        """A connection by key or id."""
        return self.connections.get(name) or self._by_id.get(name)

    def add(self, connection: Connection) -> None:
        self.connections[connection.key] = connection
        self._by_id[connection.id] = connection

    def create(self, *, name: str, email: str, provider: str, pending: bool = False) -> Connection:
        """A new connection to a system of `provider` (slug or name).

        Raises:
            ValueError: a provider that Makini doesn't know.
        """
        wanted = provider.casefold()
        known = next((p for p in PROVIDERS.values() if wanted in (p.slug, p.name.casefold())), None)
        if known is None:
            raise ValueError(f"The platform {provider!r} is unknown.")
        self._made += 1
        now = self.moment()
        chance = seeded(self.settings.seed, "made", self._made)
        key = f"{chance.getrandbits(92):024x}"
        customer = name.partition(" · ")[0]
        connection = Connection(
            index=len(self.connections) + self._made,
            key=key,
            id=f"{chance.getrandbits(64):020d}" if self.settings.distinct_ids else key,
            name=name,
            customer=customer,
            provider=known,
            hosting=known.hosting[0],
            email=email,
            user_metadata=describe({"customer": customer}, 2),
            tags=[],
            active_word="Active",
            created_at=now,
            updated_at=now,
            connected_at=None if pending else now,
            pending=pending,
        )
        self.add(connection)
        return connection

    def remove(self, connection: Connection) -> None:
        """The connection is disconnected: gone from the list, its tokens dead."""
        self.tokens.kill(connection)
        self._removed.add(connection.key)
        self.connections.pop(connection.key, None)
        self._by_id.pop(connection.id, None)

    # What happens to a connection.

    def change_credentials(self, connection: Connection) -> None:
        """The customer changed the system's password: Makini can't log in any more."""
        if connection.login_ok:
            connection.login_ok = False
            self._touch(connection)
            self.webhooks.about(
                connection, "connection.auth_required", {"reason": "invalid_credentials"}
            )

    def restore_credentials(self, connection: Connection) -> None:
        """The customer set the old password back: the login works again, tokens unchanged."""
        if not connection.login_ok:
            connection.login_ok = True
            self._back(connection)

    def log_in(self, connection: Connection) -> Connection:
        """The customer passed Makini's authentication flow again, with working credentials.

        Returns the connection it led to: another one where `faults.login` says so.
        """
        if self.faults.login and not connection.pending:
            connection = self.succeed(connection, self.faults.login)
        first = connection.pending
        connection.pending = False
        connection.login_ok = True
        connection.connected_at = self.moment()
        self._back(connection)
        if first:
            connection.updated_at = self.moment()
        return connection

    def succeed(self, before: Connection, how: str) -> Connection:
        """A new connection to the same system; `before` is gone (see `Faults.login`).

        Raises:
            ValueError: `how` is none of the ways there are.
        """
        if how not in ("new", "prefix", "rename", "shift"):
            raise ValueError(f"A login can be 'new', 'prefix', 'rename' or 'shift', not {how!r}.")
        after = self.create(name=before.name, email=before.email, provider=before.provider.slug)
        after.customer, after.hosting = before.customer, before.hosting
        after.user_metadata, after.tags = before.user_metadata, list(before.tags)
        after.source_key = before.source_key or before.key
        after.key_prefix = before.key_prefix + (how == "prefix")
        after.key_shift = before.key_shift + (how == "rename") * 123_456_789_011
        after.key_shift += (how == "shift") * STRIDE
        self.records.hand_over(before, after)
        self.remove(before)
        return after

    def go_offline(self, connection: Connection) -> None:
        if not connection.offline:
            connection.offline = True
            self._touch(connection)
            self.webhooks.about(
                connection, "connection.status_changed", {"from": "online", "to": "offline"}
            )

    def come_online(self, connection: Connection) -> None:
        if connection.offline:
            connection.offline = False
            self._back(connection)

    def expire_token(self, connection: Connection, *, refresh: bool = False) -> None:
        """Its access tokens end now; `refresh`: its refresh token too."""
        self.tokens.expire(connection, refresh=refresh)

    def deactivate(self, connection: Connection) -> None:
        """Not enough credits."""
        if connection.active:
            connection.active = False
            self._touch(connection)
            self.webhooks.about(
                connection, "connection.status_changed", {"from": "active", "to": "inactive"}
            )

    def activate(self, connection: Connection) -> None:
        if not connection.active:
            connection.active = True
            self._back(connection, "inactive")

    def fail_sync(self, connection: Connection) -> None:
        """The last synchronization ended in an error, with a login that works."""
        connection.sync_error = True
        self._touch(connection)
        self.webhooks.about(connection, "sync.failed", {"error": "The system reported an error."})
        self.webhooks.about(connection, "system.error", {"error": "Synchronization failed."})

    def mend_sync(self, connection: Connection) -> None:
        connection.sync_error = False
        self._back(connection)

    def lag_status(self, connection: Connection, *, lags: bool) -> None:
        """The status stays what it is until somebody changes it: Makini's may lag by a sync."""
        connection.lagging_status = connection.sync_status() if lags else None
        connection.cached_slot = -1

    def stall_sync(self, connection: Connection) -> None:
        """No synchronization happens from now on, and nothing says so."""
        connection.sync_held_at = self.moment()
        connection.cached_slot = -1

    def mend(self, connection: Connection) -> None:
        """Everything that can be wrong with it is well again."""
        connection.status_override = None
        connection.lagging_status = None
        connection.slow_seconds = 0.0
        connection.sync_held_at = None
        self.come_online(connection)
        self.activate(connection)
        self.restore_credentials(connection)
        if connection.sync_error:
            self.mend_sync(connection)
        self._touch(connection)

    def _touch(self, connection: Connection) -> None:
        """A failing connection keeps the time of its last good synchronization."""
        connection.cached_slot = -1
        connection.updated_at = self.moment()
        if connection.readable and not connection.sync_error:
            connection.sync_held_at = None
        elif connection.sync_held_at is None:
            connection.sync_held_at = self.moment()

    def _back(self, connection: Connection, was: str = "offline") -> None:
        self._touch(connection)
        if connection.readable:
            self.webhooks.about(
                connection, "connection.status_changed", {"from": was, "to": "online"}
            )
            self.webhooks.about(connection, "sync.completed", {"result": "success"})

    # What happens to records.

    def change_records(
        self,
        connection: Connection,
        entity: str,
        *,
        make: int = 0,
        change: int = 0,
        delete: int = 0,
        announce: bool = True,
        per_webhook: int = KEYS_PER_WEBHOOK,
    ) -> dict[str, list[str]]:
        """Make, change and delete records at random; returns the keys.

        With more changes than records some change twice. New and changed ones are announced,
        `per_webhook` keys at a time; deletions never are. While Makini can't read the system
        nothing is announced either.

        Raises:
            KeyError: this system doesn't offer `entity`.
        """
        collection = self.records.of(connection)[entity]
        made = [collection.key(collection.put(Change(self._tick(), 0))) for _ in range(make)]
        changed: list[str] = []
        live = collection.live()
        enough = change <= len(live)
        chosen = (
            self.chance.sample(live, change)
            if enough
            else self.chance.choices(live or (0,), k=change if live else 0)
        )
        for index in chosen:
            known = collection.changes.get(index)
            revision = (known.revision if known else 0) + 1
            collection.put(Change(self._tick(), revision), index)
            changed.append(collection.key(index))
        deleted: list[str] = []
        for index in self.chance.sample(live, min(delete, len(live))):
            deleted.append(collection.key(index))
            collection.put(Change(self._tick(), 0, deleted=True), index)
        if announce:
            for operation, keys in (("inserted", made), ("updated", changed)):
                for start in range(0, len(keys), per_webhook):
                    self.webhooks.records(
                        connection, entity, operation, keys[start : start + per_webhook]
                    )
        return {"made": made, "changed": changed, "deleted": deleted}

    def put_record(
        self, connection: Connection, entity: str, fields_: dict[str, Any], *, announce: bool
    ) -> str:
        """Make or change exactly one record, fields as given; returns its key.

        `updatedAt` may be any text: what can't be read as a moment is shown as it is.
        """
        collection = self.records.of(connection)[entity]
        key = fields_.get("key")
        index = collection.index(str(key), with_deleted=True) if key is not None else None
        is_new = index is None or collection.is_deleted(index)
        at = self._tick()
        with contextlib.suppress(KeyError, ValueError):
            at = parse_moment(str(fields_["updatedAt"]))
        known = collection.changes.get(index) if index is not None else None
        change = Change(at, known.revision + 1 if known else 0, fields=dict(fields_))
        operation = "inserted" if is_new else "updated"
        record_key = collection.key(collection.put(change, index))
        if announce:
            self.webhooks.records(connection, entity, operation, [record_key])
        return record_key

    def kept(self) -> dict[str, Any]:
        """What outlives a restart; to be pickled in one piece, for tokens name connections."""
        return {
            "connections": list(self.connections.values()),
            "made": self._made,
            "removed": self._removed,
            "last_change": self._last_change,
            "ahead": self.ahead,
            "records": self.records.kept(),
            "tokens": self.tokens.kept(),
            "slack": self.slack.kept(),
        }

    def bring_back(self, kept: dict[str, Any]) -> None:
        """Be as `kept` says; connections that the fleet has grown by stay new."""
        for connection in kept["connections"]:
            connection.cached_slot = -1
            self.add(connection)
        for key in kept["removed"]:
            gone = self.connections.get(key)
            if gone is not None:
                self.remove(gone)
        self._made, self._removed = kept["made"], kept["removed"]
        self._last_change, self.ahead = kept["last_change"], kept["ahead"]
        self.tokens.bring_back(kept["tokens"])
        self.slack.bring_back(kept["slack"])
        for key, changes in kept["records"].items():
            if key in self.connections:
                self.records.bring_back(self.connections[key], changes)

    def _tick(self) -> int:
        """The next moment at which something changes; no two changes share one."""
        self._last_change = max(int(self.now() * 1e6), self._last_change + 1)
        return self._last_change
