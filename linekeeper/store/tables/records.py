"""What the sources hold, what changed there, and what the webhooks missed of it."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Text, text
from sqlmodel import Field, SQLModel

from linekeeper.store.types import Id, identifier, json_object, optional_time, reference, time


class Record(SQLModel, table=True):
    """The index: one row for each record of a connection, right as of `seen_at`."""

    __table_args__ = (
        Index("record_key", "key", "entity"),
        Index(
            "record_number",
            "number",
            "connection_id",
            sqlite_where=text("number IS NOT NULL"),
            postgresql_where=text("number IS NOT NULL"),
        ),
        Index(
            "record_absent",
            "connection_id",
            "entity",
            "absent_since",
            sqlite_where=text("absent_since IS NOT NULL"),
            postgresql_where=text("absent_since IS NOT NULL"),
        ),
        Index(
            "record_deletion",
            "deletion_id",
            sqlite_where=text("deletion_id IS NOT NULL"),
            postgresql_where=text("deletion_id IS NOT NULL"),
        ),
    )

    connection_id: str = Field(primary_key=True, foreign_key="connection.id", sa_type=Id)
    entity: str = Field(primary_key=True)
    """The entity as in `MAKINI_ENTITIES`."""
    key: str = Field(primary_key=True)
    """The source's, verbatim; `sha256:…` where a database can't hold it (reconcile.identity)."""
    updated_at: datetime | None = optional_time()
    """The source's time, as it says; absent where it says none."""
    deleted_at: datetime | None = optional_time()
    """When we concluded that the source no longer has it."""
    hash: str
    body: str | None = Field(default=None, sa_column=Column(Text, nullable=True), repr=False)
    """Its JSON, only for the entities of `MAKINI_BODIES`."""
    number: str | None = None
    """What people call it by: its `code`, `orderNo` or `serialNumber`."""
    natural_key: str | None = None
    """Hashes of the fields that tell it from every other whatever its key (reconcile.identity)."""
    plain_hash: str | None = None
    """Hash of its contents without any keys, which a new connection may rename."""
    seen_at: datetime = time()
    """When this state was read from the source."""
    absent_since: datetime | None = optional_time()
    """The first complete listing without it; a second one that agrees makes it a deletion."""
    deletion_id: str | None = Field(default=None, sa_type=Id)
    """The deletion it belongs to, also one refused or undone (not proposed again until seen)."""


class Change(SQLModel, table=True):
    """The feed: what changed in a connection, in order, never edited but for its accounting."""

    __table_args__ = (
        Index("change_once", "connection_id", "seq", unique=True),
        Index("change_position", "position", unique=True),
        Index(
            "change_unplaced",
            "connection_id",
            "seq",
            sqlite_where=text("position IS NULL"),
            postgresql_where=text("position IS NULL"),
        ),
        Index(
            "change_due",
            "connection_id",
            "entity",
            sqlite_where=text("due IS NOT NULL"),
            postgresql_where=text("due IS NOT NULL"),
        ),
        Index("change_of", "connection_id", "entity", "key", "seq"),
        Index("change_at", "at"),
        Index(
            "change_renamed",
            "connection_id",
            "old_key",
            sqlite_where=text("old_key IS NOT NULL"),
            postgresql_where=text("old_key IS NOT NULL"),
        ),
    )

    id: str = identifier()
    connection_id: str = reference("connection.id")
    seq: int
    """1, 2, 3, … in each connection."""
    position: int | None = Field(default=None, sa_type=BigInteger)
    """Place in the feed of all connections, given when it is first read (reconcile.feed)."""
    entity: str
    key: str
    op: str
    """`inserted`, `updated`, `deleted` or `rekeyed`."""
    old_key: str | None = None
    """The key that a `rekeyed` record had in the connection before."""
    updated_at: datetime | None = optional_time()
    """The source's time."""
    at: datetime = time()
    source: str
    """`webhook`, `poll` or `deletion`."""
    recovered: bool = False
    """No webhook had announced it when a poll found it."""
    announced_at: datetime | None = optional_time()
    """When the delivery that announced it came."""
    due: str | None = None
    """What the next run counts it as in `drift`: `seen`, `missed`, `late`, `mismatched`,
    `deleted`; none once it is counted."""
    missed_in: str | None = Field(default=None, sa_type=Id)
    """The row of `drift` that counted it as missed."""


class Feed(SQLModel, table=True):
    """A connection's last `change.seq`; whoever writes its records locks this row."""

    connection_id: str = Field(primary_key=True, foreign_key="connection.id", sa_type=Id)
    last_seq: int = 0


class FeedEnd(SQLModel, table=True):
    """The last `change.position` given; one row, locked by whoever gives the next ones."""

    __tablename__ = "feed_end"

    id: int = Field(default=1, primary_key=True)
    position: int = Field(default=0, sa_type=BigInteger)


class Watermark(SQLModel, table=True):
    """How far one entity of a connection has been read."""

    connection_id: str = Field(primary_key=True, foreign_key="connection.id", sa_type=Id)
    entity: str = Field(primary_key=True)
    position: datetime | None = optional_time()
    """Everything the source changed before it is in the index; none before the first listing."""
    moved_at: datetime | None = optional_time()
    """Start of the run that last moved it."""
    polled_at: datetime | None = optional_time()
    """Start of the last reading that came to its end."""
    run_at: datetime | None = optional_time()
    """Start of the run of that reading, as in `drift.run_at`; none of a first listing."""
    full_at: datetime | None = optional_time()
    """Start of the last complete listing."""
    confirm_at: datetime | None = optional_time()
    """When to list again, to agree or disagree with the last listing about what is gone."""
    offered: bool = True
    """False: this system answered 404, for a day if it was read before; asked again with the next
    full listing."""
    filtered: bool = True
    """False: the source refused the time filter; listed whole until it is tried again."""
    filter_refused_at: datetime | None = optional_time()
    """When it did; a day later the filter is tried again."""
    listed: int | None = None
    """Different records of the last whole listing."""
    source_total: int | None = None
    """How many the source said it has at that time; none where it says none."""
    inconsistent: int = 0
    """How many whole listings in a row broke off, or had not as many records as the total."""
    broken_off: str | None = None
    """Why the last whole listing ended too early (`ListingFault`)."""
    indexed: int | None = None
    """Live records of the index right after the last whole listing."""
    lacking: int = 0
    """How many whole listings in a row left fewer here than the source's total."""
    compared_at: datetime | None = optional_time()
    """Start of the listing that `indexed` and `source_total` are of."""
    agreed_at: datetime | None = optional_time()
    """The last time the two were the same."""
    count_base: int | None = None
    """By how much the source's total exceeded `indexed`; none where that can't be compared."""
    counted_at: datetime | None = optional_time()
    """When the source was last asked for its total alone."""
    count_difference: int | None = None
    """By how much that total was more than what is here explains; none before it was asked."""
    window_since: datetime | None = optional_time()
    """The listing holds only what changed since then; older records may live unlisted."""
    grain_seconds: float | None = None
    """How coarse the source's times of this entity are, as learned; none while unknown."""
    error: str | None = None
    """Why the last attempt failed."""
    failure: str | None = None
    """The kind of error (`ErrorKind`) with which this entity failed, though its connection did
    not."""
    failures: int = 0
    """How often it failed so in a row."""
    failing_since: datetime | None = optional_time()
    """When the first of these was."""
    retry_at: datetime | None = optional_time()
    """When a scheduled run tries it again."""
    not_found_since: datetime | None = optional_time()
    """Since when the source has answered 404 and nothing else."""
    sync_failed_at: datetime | None = optional_time()
    """When Makini last said that its sync of this entity failed."""
    sync_error: str | None = None
    """What it said of that."""
    synced_at: datetime | None = optional_time()
    """When Makini last said that its sync of this entity ended well."""


class ConnectionSetting(SQLModel, table=True):
    """An entity that a connection was configured to be read for.

    A connection without any is read for the entities of its app; one that has some, for these and
    no others.
    """

    __tablename__ = "connection_setting"

    connection_id: str = Field(primary_key=True, foreign_key="connection.id", sa_type=Id)
    entity: str = Field(primary_key=True)
    """The entity as in `MAKINI_ENTITIES`."""
    cadence_minutes: int | None = None
    """How long it may go unread; empty: by the state of the connection's webhooks."""
    keep_bodies: bool | None = None
    """Whether the contents of records are kept; empty: as the app says."""
    forward_to: str | None = None
    """The name of the forward target of the app's block; empty: the app's forward URL."""


class WorkflowConfiguration(SQLModel, table=True):
    """What the configuration of one connection was, and how far it has been verified."""

    __tablename__ = "workflow_configuration"

    connection_id: str = Field(primary_key=True, foreign_key="connection.id", sa_type=Id)
    configured_at: datetime = time()
    """What counts as verification came after it."""
    configured_by: str
    run_id: str | None = None
    """The run that verifies it, while it isn't verified."""
    waits_for: str | None = None
    """What the run waits for: `first_read`, `webhooks` or `reconcile`."""
    read_at: datetime | None = optional_time()
    """When every entity had been listed whole."""
    evidence: str = ""
    """What that showed, in a sentence: the evidence of the implementation's gate."""
    webhooks_at: datetime | None = optional_time()
    """When a delivery of every entity had been processed."""
    reconciled_at: datetime | None = optional_time()
    """When a reading after these found nothing that the webhooks had not brought."""
    verified_at: datetime | None = optional_time()
    look_at: datetime | None = optional_time()
    """When its run looks again, whatever has happened until then."""
    webhooks_accepted: bool = False
    """Somebody said that the webhooks that have not been seen are not waited for."""
    answers: int = 0
    """How many answers of its run's form were taken; each counts once."""


class Deletion(SQLModel, table=True):
    """Records two complete listings agree are gone, concluded together."""

    __table_args__ = (
        Index("deletion_of", "connection_id", "entity"),
        Index("deletion_status", "status"),
    )

    id: str = identifier()
    connection_id: str = reference("connection.id")
    entity: str
    status: str
    """`proposed` (over the cap, nothing deleted), `unmatched` or `ambiguous` (of a connection that
    was replaced, and nothing says which records they are now), `agreed` (being applied),
    `applied`, `refused`, `undone` or `void` (the source has them after all)."""
    records: int
    live: int
    """Live records of the entity before it."""
    at: datetime = time()
    decided_by: str | None = None
    decided_at: datetime | None = optional_time()


class Drift(SQLModel, table=True):
    """What one run found that the webhooks had not brought; no row where nothing was counted."""

    __table_args__ = (Index("drift_of", "connection_id", "run_at"), Index("drift_at", "run_at"))

    id: str = identifier()
    connection_id: str = reference("connection.id")
    entity: str
    run_at: datetime = time()
    shard: str | None = None
    """The shard of the run, where it shared its work with others: theirs is counted together."""
    missed: int = 0
    """Changed at the source; no delivery had come when this run read it."""
    came_late: int = 0
    """How many of those it missed have come since; the others are lost."""
    late: int = 0
    """Missed in an earlier run; their delivery came since."""
    mismatched: int = 0
    """Other contents at the same source time, or a source time that went back."""
    deleted: int = 0
    webhooks_seen: int = 0
    """Changes a delivery did announce, counted once."""
    late_seconds: float = 0
    """The delays of all late ones together, from the source's change to the delivery."""
    cause: str | None = None
    """`backfill` or `outage`: what changed when no webhook could have come, or none reach us. The
    sender doesn't answer for it; none for what it does."""


class WebhookTrust(SQLModel, table=True):
    """How far a connection's webhooks can be relied on, over the last days."""

    __tablename__ = "webhook_trust"

    connection_id: str = Field(primary_key=True, foreign_key="connection.id", sa_type=Id)
    state: str = "unknown"
    """`good`, `bad`, `none` (no webhook ever comes) or `unknown` (too few changes to tell)."""
    since: datetime = time()
    missed: int = 0
    """The missed changes, without those that came late."""
    late: int = 0
    webhooks_seen: int = 0
    """Announced in time."""
    caught_up: int = 0
    """Changed in an outage of ours, however they came to be known; no part of the rate."""
    late_seconds: float = 0
    measured_at: datetime = time()


class Outage(SQLModel, table=True):
    """A time in which nothing that was sent to us could arrive."""

    __table_args__ = (Index("outage_once", "since", unique=True),)

    id: str = identifier()
    since: datetime = time()
    until: datetime = time()
    found_at: datetime = time()
    cause: str = "receiver"
    """`receiver`: none could store what it was sent. `standstill`: and nothing else of ours ran, so
    that no connection was looked at. `unreachable`: receivers ran, but neither canaries nor any
    other delivery came."""
    covered_at: datetime | None = optional_time()
    """When every connection had been read from `since` on."""
    detail: dict[str, Any] = json_object()
    """What the catch-up found, in counts."""
