"""One connection at the model Makini: its customer's login, its system's records, its tokens."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass
class Pair:
    """One access token with its refresh token, and until when each is alive."""

    access: str
    refresh: str | None
    access_until: datetime
    refresh_until: datetime
    source: str  # "login", "refresh" or "mint"
    issued_at: datetime


@dataclass
class Record:
    """One record as Makini lists it. `updated_at` is the source's time, before its grain."""

    key: str
    number: int  # the source's primary key
    updated_at: datetime
    data: dict[str, Any]
    read_at: datetime | None = None
    """When Makini reads it for the first time; None: it has."""
    deleted: bool = False
    """It stays listed, with its `deletedAt`."""


@dataclass
class Connection:
    """One connection, its customer's login and its system, as they truly are."""

    key: str
    name: str
    email: str
    provider: str
    company: str
    offers: tuple[str, ...]
    created_at: datetime
    metadata: Any = None
    login_ok: bool = True
    online: bool = True
    active: bool = True  # False: not enough credits
    syncing_until: datetime | None = None
    deleted: bool = False
    deleted_at: datetime | None = None
    successor: str | None = None
    pairs: list[Pair] = field(default_factory=list)
    records: dict[str, dict[str, Record]] = field(default_factory=dict)
    waiting: list[tuple[str, int | None, str, datetime]] = field(default_factory=list)
    words: list[tuple[datetime, str, str]] = field(default_factory=list)
    states: list[tuple[datetime, str]] = field(default_factory=list)
    """What it waits for, as `linekeeper.availability` calls it, and since when."""
    next_number: int = 1
    logins: list[tuple[datetime, bool]] = field(default_factory=list)
    """Whether the stored login works, and since when."""

    def word(self, at: datetime) -> tuple[str, str]:
        """The lifecycle and sync status as they were reported at `at`."""
        known = [entry for entry in self.words if entry[0] <= at] or self.words[:1]
        return known[-1][1], known[-1][2]

    def live(self, entity: str) -> list[Record]:
        """The records of an entity that are not deleted, read by Makini or not yet."""
        return [record for record in self.records[entity].values() if not record.deleted]

    def listed(self, entity: str, at: datetime) -> dict[str, Record]:
        """The records of an entity that Makini has read by `at`."""
        return {
            key: record
            for key, record in self.records[entity].items()
            if record.read_at is None or record.read_at <= at
        }
