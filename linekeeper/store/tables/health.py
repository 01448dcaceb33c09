"""What was learned, what changed, what is wrong."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from linekeeper.store.types import Id, identifier, json_object, optional_time, reference, time


class Observation(SQLModel, table=True):
    """Something learned about a connection. Unchanged good ones are only counted in its row."""

    __table_args__ = (Index("observation_of", "connection_id", "at"),)

    id: str = identifier()
    connection_id: str = reference("connection.id")
    at: datetime = time(index=True)
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

    id: str = identifier()
    connection_id: str = reference("connection.id")
    at: datetime = time(index=True)
    axis: str
    before: str
    after: str
    source: str
    evidence: dict[str, Any] = json_object()


SWEEP_OVERDUE = "parts:work:sweep"
"""The cause of the incident that no sweep was completed: what is known is as of the last one."""
LIST_REFUSED = "list_refused"
"""In the detail of a `list_failed`: Makini answered, and refused its list."""


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

    id: str = identifier()
    topic: str = "health"
    """`health` for connections' trouble, `list` for an app whose list fails, and so on."""
    kind: str
    """The health's name for a connection's trouble; else what is wrong (`list_failed`, …)."""
    scope: str
    """`connection`, `provider` or `app`: how far the root cause reaches. Of one that is a
    customer's it is `app`, for a version that does not know `customer_id`."""
    cause: str
    """Unique among open incidents, such as `connection:<id>:health`."""
    app: str
    provider: str = ""
    customer_id: str | None = Field(default=None, sa_type=Id)
    """The customer whose trouble it is, rather than a provider's, or the app's."""
    title: str
    summary: str = ""
    """What is found at present, in a sentence; a finder rewrites it."""
    figure: float | None = None
    """How bad it was when people were last notified of it."""
    status: str = "open"
    detail: dict[str, Any] = json_object()
    opened_at: datetime = time()
    reopened_at: datetime | None = optional_time()
    """When the present trouble began, where it fell again soon after it was resolved."""
    round: int = 0
    """How often it was opened again; each time people are notified as the first time."""
    acknowledged_at: datetime | None = optional_time()
    acknowledged_by: str | None = None
    resolved_at: datetime | None = optional_time(index=True)
    reported_at: datetime | None = optional_time()
    """When a run last ended red for it (DESIGN "Red means new")."""
    revision: int = 0
    """Counts what people were notified of; the dedupe key of its notices."""
    snoozed_until: datetime | None = optional_time()
    muted_at: datetime | None = optional_time()
    muted_until: datetime | None = optional_time()
    run_id: str | None = None
    """The run that works on it."""
    connect_url: str | None = None
    """The connect link its message shows."""
    code: str | None = None
    """Makini's error code, where it is about a whole app; `message`, `request_id` alike."""
    message: str | None = None
    request_id: str | None = None

    @property
    def since(self) -> datetime:
        """When the present trouble began."""
        return self.reopened_at or self.opened_at


class IncidentEntry(SQLModel, table=True):
    """One thing that happened in an incident; append-only."""

    __tablename__ = "incident_entry"
    __table_args__ = (Index("incident_entry_of", "incident_id", "at"),)

    id: str = identifier()
    incident_id: str = reference("incident.id")
    at: datetime = time()
    kind: str
    """`opened`, `reopened`, `changed`, `acknowledged`, `resolved`, `merged`."""
    text: str


class IncidentConnection(SQLModel, table=True):
    """Membership; `left_at` stays empty while the connection is in trouble.

    A connection may be in several incidents, also of one topic (deletions of two entities held
    back); about its health it is in one at a time, which `conclude` sees to.
    """

    __tablename__ = "incident_connection"
    __table_args__ = (
        Index(
            "incident_connection_live_once",
            "connection_id",
            "incident_id",
            unique=True,
            sqlite_where=text("left_at IS NULL"),
            postgresql_where=text("left_at IS NULL"),
        ),
        Index("incident_connection_of", "incident_id"),
        Index("incident_connection_ever", "connection_id", "topic"),
    )

    id: str = identifier()
    incident_id: str = reference("incident.id")
    connection_id: str = reference("connection.id")
    topic: str = "health"
    kind: str
    """The health this member has; worse than before means red again."""
    joined_at: datetime = time()
    left_at: datetime | None = optional_time()
    reported_kind: str | None = None
    """The kind a run was last red for."""
    reminded: int = 0
    """The last reminder that a lost login's customer was due, or that its deadline was said."""
