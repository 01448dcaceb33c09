"""The tables. Columns named in INTERFACE "Tables" are a promise to other programs."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, text
from sqlmodel import Field, SQLModel

from linekeeper.clock import utcnow
from linekeeper.store.types import Id, Json, UtcDateTime, new_id


def _id() -> Any:
    return Field(default_factory=new_id, primary_key=True, sa_type=Id)


def _at(**options: Any) -> Any:
    return Field(default_factory=utcnow, sa_type=UtcDateTime, **options)


def _maybe_at(**options: Any) -> Any:
    return Field(default=None, sa_type=UtcDateTime, **options)


def _ref(target: str, **options: Any) -> Any:
    return Field(foreign_key=target, sa_type=Id, index=True, **options)


class Customer(SQLModel, table=True):
    """Who owns systems."""

    id: str = _id()
    name: str = Field(unique=True)
    slug: str = Field(unique=True)
    time_zone: str = "UTC"
    locale: str = "en"
    owner: str | None = None
    critical: bool = False
    created_at: datetime = _at()


class Contact(SQLModel, table=True):
    """Whom at the customer to tell."""

    __table_args__ = (Index("contact_once", "customer_id", "email", unique=True),)

    id: str = _id()
    customer_id: str = _ref("customer.id")
    name: str = ""
    email: str


class Connection(SQLModel, table=True):
    """Makini's link to one system of a customer, on two axes: `setup` and `health`."""

    __table_args__ = (
        Index("connection_once", "app", "makini_key", unique=True),
        Index("connection_due", "app", "next_probe_at"),
        Index("connection_health", "health"),
    )

    id: str = _id()
    app: str
    makini_key: str
    makini_id: str | None = None
    customer_id: str | None = _ref("customer.id", default=None)
    name: str
    slug: str = Field(unique=True)
    provider: str = ""
    email: str = ""
    hosting: str = "cloud"
    tier: str | None = None
    tags: list[str] = Field(default_factory=list, sa_column=Column(Json, nullable=False))
    setup: str = "pending"
    health: str = "unknown"
    health_since: datetime = _at()
    suspect: bool = False
    """Missed a probe, or not judged yet: probed in every sweep."""
    list_status: str | None = None
    sync_status: str | None = None
    last_checked_at: datetime | None = _maybe_at()
    last_good_at: datetime | None = _maybe_at()
    last_sync_at: datetime | None = _maybe_at()
    last_webhook_at: datetime | None = _maybe_at()
    next_probe_at: datetime | None = _maybe_at()
    judged: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
    """What `judge` remembers (linekeeper.health.judge.Judged), as JSON."""
    listed_at: datetime | None = _maybe_at()
    """Last seen in Makini's list."""
    created_at: datetime = _at()


class Credential(SQLModel, table=True):
    """A connection's tokens, encrypted; one row a connection."""

    connection_id: str = Field(primary_key=True, foreign_key="connection.id", sa_type=Id)
    access_token: str = Field(repr=False)
    refresh_token: str | None = Field(default=None, repr=False)
    expires_at: datetime | None = _maybe_at()
    minted: bool = False
    """From the Admin API's token route: perhaps short-lived, never announced as expiring."""
    updated_at: datetime = _at()


class Observation(SQLModel, table=True):
    """Something learned about a connection. Unchanged good ones are only counted in its row."""

    __table_args__ = (Index("observation_of", "connection_id", "at"),)

    id: str = _id()
    connection_id: str = Field(foreign_key="connection.id", sa_type=Id)
    at: datetime = _at(index=True)
    source: str
    outcome: str
    applied: bool = True
    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    latency: float | None = None


class Transition(SQLModel, table=True):
    """A change of `setup` or `health`; append-only."""

    __table_args__ = (Index("transition_of", "connection_id", "at"),)

    id: str = _id()
    connection_id: str = Field(foreign_key="connection.id", sa_type=Id)
    at: datetime = _at(index=True)
    axis: str
    before: str
    after: str
    source: str
    evidence: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))


class Incident(SQLModel, table=True):
    """An open problem with one root cause and one or more connections."""

    __table_args__ = (
        Index(
            "incident_open_once",
            "cause",
            unique=True,
            sqlite_where=text("resolved_at IS NULL"),
            postgresql_where=text("resolved_at IS NULL"),
        ),
        Index("incident_status", "status"),
    )

    id: str = _id()
    kind: str
    """For a connection's trouble the health's name; else what is wrong (`list_failed`, …)."""
    scope: str
    """`connection`, `provider` or `app`: how far the root cause reaches."""
    cause: str
    """Unique among open incidents, such as `connection:<id>:health`."""
    app: str
    provider: str = ""
    title: str
    status: str = "open"
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
    opened_at: datetime = _at()
    acknowledged_at: datetime | None = _maybe_at()
    acknowledged_by: str | None = None
    resolved_at: datetime | None = _maybe_at(index=True)
    reported_at: datetime | None = _maybe_at()
    """When a run last ended red for it (DESIGN "Red means new")."""
    revision: int = 0
    """Counts what people were told; the dedupe key of its notices."""


class IncidentConnection(SQLModel, table=True):
    """Membership; `left_at` stays empty while the connection is in trouble."""

    __tablename__ = "incident_connection"
    __table_args__ = (
        Index(
            "incident_connection_live_once",
            "connection_id",
            "topic",
            unique=True,
            sqlite_where=text("left_at IS NULL"),
            postgresql_where=text("left_at IS NULL"),
        ),
        Index("incident_connection_of", "incident_id"),
    )

    id: str = _id()
    incident_id: str = Field(foreign_key="incident.id", sa_type=Id)
    connection_id: str = Field(foreign_key="connection.id", sa_type=Id)
    topic: str = "health"
    kind: str
    """The health this member has; worse than before means red again."""
    joined_at: datetime = _at()
    left_at: datetime | None = _maybe_at()
    reported_kind: str | None = None
    """The kind a run was last red for."""


class NoticeMessage(SQLModel, table=True):
    """Where an incident's one message is, so that it is edited and never posted again."""

    __tablename__ = "notice_message"

    subject: str = Field(primary_key=True)
    """`incident:<id>` (or another thing people are told about)."""
    channel: str = Field(primary_key=True)
    ts: str
    place: str
    """The channel's id as Slack answered it."""
    updated_at: datetime = _at()


class Outbox(SQLModel, table=True):
    """What leaves the house; written in the transaction that makes it true."""

    __table_args__ = (
        Index("outbox_due", "channel", "status", "next_attempt_at"),
        Index("outbox_lane", "lane", "status", "seq"),
    )

    id: str = _id()
    seq: str = Field(default_factory=new_id, sa_type=Id)
    """Order of writing, within a lane the order of delivery."""
    channel: str
    """`slack`, `event`, `run`, `email` or `forward`."""
    dedupe_key: str = Field(unique=True)
    lane: str
    """Rows of one lane go out one after the other; lanes side by side."""
    payload: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
    status: str = "pending"
    """`pending`, `sent` or `dead`."""
    attempts: int = 0
    error: str | None = None
    created_at: datetime = _at()
    next_attempt_at: datetime = _at()
    claimed_by: str | None = None
    claimed_until: datetime | None = _maybe_at()
    settled_at: datetime | None = _maybe_at(index=True)


class Lease(SQLModel, table=True):
    """Who may do a thing, until when; `fence` grows with every owner."""

    name: str = Field(primary_key=True)
    owner: str
    until: datetime = _at()
    fence: int = 0


class AppState(SQLModel, table=True):
    """One Makini app: its call budget and its circuit, shared by all processes."""

    __tablename__ = "app_state"

    app: str = Field(primary_key=True)
    budget: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
    circuit: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
    last_list_at: datetime | None = _maybe_at()


class AppSetting(SQLModel, table=True):
    """A named setting every process reads; the value is encrypted."""

    __tablename__ = "app_setting"

    name: str = Field(primary_key=True)
    value: str = Field(repr=False)
    updated_at: datetime = _at()


class Audit(SQLModel, table=True):
    """Who did what."""

    id: str = _id()
    at: datetime = _at(index=True)
    by: str
    action: str
    subject: str
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
