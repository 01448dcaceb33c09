"""What came in: webhook events, what was turned away, and when somebody was listening.

With what `explain` needs recorded besides: attempts to forward, and reads of the change feed. Both
are written in groups, beside what is written anyway, and pruned by housekeeping.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, text
from sqlmodel import Field, SQLModel

from linekeeper.store.types import (
    Id,
    identifier,
    json_object,
    optional_time,
    reference,
    renamed,
    time,
)

_PENDING = text("status = 'pending'")
_DEAD = text("status = 'dead'")
_UNROUTED = text("status = 'unrouted'")
_TRIED = text("status = 'pending' AND attempts > 0")
_CANARY = text("kind = 'canary'")
_REPLAY = text("replay_of IS NOT NULL")
_PLAIN = text("status <> 'pending' AND body IS NOT NULL AND body_keys IS NULL")
_MERGEABLE = text("merge_key IS NOT NULL")


class WebhookEvent(SQLModel, table=True):
    """One accepted delivery and what became of it.

    Its indexes are what an insert can bear: those waiting for the first attempt are found in the
    order of arrival, and only those that were claimed before are found by ordering key
    too. An index by it over all of them would dirty as many pages as there are keys and halve the
    rate.
    """

    __tablename__ = "webhook_event"
    __table_args__ = (
        Index("webhook_event_once", "app", "delivery_key", unique=True),
        Index(
            "webhook_event_merge",
            "merge_key",
            unique=True,
            sqlite_where=_MERGEABLE,
            postgresql_where=_MERGEABLE,
        ),
        Index(
            "webhook_event_due",
            "rank",
            "next_attempt_at",
            "id",
            sqlite_where=_PENDING,
            postgresql_where=_PENDING,
        ),
        Index(
            "webhook_event_lane",
            "ordering_key",
            "id",
            sqlite_where=_TRIED,
            postgresql_where=_TRIED,
        ),
        Index(
            "webhook_event_of",
            "connection_id",
            "received_at",
            sqlite_where=text("connection_id IS NOT NULL"),
            postgresql_where=text("connection_id IS NOT NULL"),
        ),
        Index("webhook_event_dead", "processed_at", sqlite_where=_DEAD, postgresql_where=_DEAD),
        Index(
            "webhook_event_unrouted",
            "processed_at",
            sqlite_where=_UNROUTED,
            postgresql_where=_UNROUTED,
        ),
        Index(
            "webhook_event_canary",
            "received_at",
            sqlite_where=_CANARY,
            postgresql_where=_CANARY,
        ),
        Index(
            "webhook_event_replayed",
            "replay_of",
            sqlite_where=_REPLAY,
            postgresql_where=_REPLAY,
        ),
        Index("webhook_event_plain", "processed_at", sqlite_where=_PLAIN, postgresql_where=_PLAIN),
    )

    id: str = identifier()
    """Sorts by arrival."""
    app: str
    delivery_key: str
    """The sender's id verbatim up to 200 characters (longer, or with characters that can't be
    printed: `sha256:…`); one that only an unsigned header gives is followed by `#` and a part of
    the body's hash; where the sender gave none, `content:<our id>`."""
    merge_key: str | None = None
    """Hash of the content, only where the sender gave no id and only until the row is claimed:
    a claim clears it in its own transaction, so the same content later is a new event."""
    source: str = "webhook"
    """`webhook`, or `replay`."""
    status: str = "pending"
    """`pending`, `processed`, `deferred`, `stale`, `dead` or `unrouted`."""
    connection_id: str | None = reference("connection.id", default=None)
    connection_ref: str | None = None
    """Whose event it says it is (the body first, else the URL): Makini's id or key, or our id."""
    url_connection: str | None = None
    """The URL's; it counts where nobody is known as `connection_ref`."""
    event: str | None = None
    """The sender's name for it."""
    kind: str
    entity: str | None = None
    event_at: datetime | None = optional_time()
    """The sender's time, never after `received_at`."""
    ordering_key: str = renamed("lane", "ordering_key")
    """Events of one key are applied in order, different keys side by side."""
    rank: int = 1
    """0 for events about a connection, 1 for those about records: 0 is claimed first."""
    received_at: datetime = time()
    next_attempt_at: datetime = time()
    """When it may be claimed; while it is claimed, when that claim runs out."""
    attempts: int = 0
    claimed_by: str | None = None
    """The one claim that may settle it."""
    claim_owner: str | None = None
    """The process whose claim that is; None also where one of a version before claimed it."""
    processed_at: datetime | None = optional_time()
    error: str | None = None
    """Why it failed, or what else there is to say of how it was settled."""
    reported_at: datetime | None = optional_time()
    """When a run was red for it being dead."""
    echoed_at: datetime | None = optional_time()
    """When the product first said that it got a canary."""
    replay_of: str | None = Field(default=None, sa_type=Id)
    """The event this one repeats."""
    body: bytes | None = Field(default=None, repr=False)
    """The body as it was received and signed; encrypted once it is settled (`store.payloads`),
    emptied by housekeeping."""
    headers: bytes | None = Field(default=None, repr=False)
    """Makini's own, as JSON pairs; only where the product gets webhooks as Makini sends them."""
    keys_done: bytes | None = Field(default=None, repr=False)
    """Which of its record keys are read and stored already, one bit a key in the order of the
    body; none before a claim ends in the middle of it."""
    body_keys: bytes | None = Field(default=None, repr=False)
    """The record keys that the body names, a line each; only of a body that is encrypted."""


class WebhookHour(SQLModel, table=True):
    """How many events a connection had in an hour: its habit, against which silence is judged."""

    __tablename__ = "webhook_hour"

    connection_id: str = Field(primary_key=True, foreign_key="connection.id", sa_type=Id)
    hour: int = Field(primary_key=True, index=True)
    """Whole hours since 1970, by the time of receipt."""
    events: int = 0


class DeliveryCount(SQLModel, table=True):
    """Deliveries that left no event: repeats and rejections, counted by the minute."""

    __tablename__ = "delivery_count"

    app: str = Field(primary_key=True)
    """Empty where the URL named no app we know."""
    cause: str = Field(primary_key=True)
    """`duplicate`, or why it was turned away."""
    minute: datetime = time(primary_key=True, index=True)
    """Its beginning."""
    count: int = 0


class RejectedDelivery(SQLModel, table=True):
    """A sample of what was turned away; the newest of each app are kept."""

    __tablename__ = "rejected_delivery"
    __table_args__ = (Index("rejected_delivery_of", "app", "at"),)

    id: str = identifier()
    app: str
    at: datetime = time()
    cause: str
    path: str
    size: int
    """Bytes of body read before it was turned away."""
    headers: dict[str, Any] = json_object()
    """The headers, without signatures, tokens and cookies."""


class ReceiverHeartbeat(SQLModel, table=True):
    """A span of time in which one receiver could store what it was sent.

    A receiver that could not write for a while begins a new span, so a gap between the spans of
    all receivers is a time in which deliveries were refused.
    """

    __tablename__ = "receiver_heartbeat"

    id: str = identifier()
    receiver: str
    """Host, process and a random part."""
    since: datetime = time()
    at: datetime = time(index=True)
    """The last time it wrote."""


class ForwardAttempt(SQLModel, table=True):
    """One attempt to post one message to the product, and the product's answer."""

    __tablename__ = "forward_attempt"
    __table_args__ = (
        Index("forward_attempt_of", "message_id"),
        Index("forward_attempt_at", "at"),
    )

    id: str = identifier()
    message_id: str
    """The `webhook-id` it was posted with: the id of an event (`-` and the connection's id follow
    where it is about several) or of a change."""
    at: datetime = time()
    status: int | None = None
    """The product's HTTP status; none where nothing answered."""
    error: str | None = None
    """What kind of error it was where nothing answered."""


class FeedRead(SQLModel, table=True):
    """A stretch of the change feed that one key has read, without a gap."""

    __tablename__ = "feed_read"
    __table_args__ = (Index("feed_read_upto", "upto"), Index("feed_read_at", "at"))

    id: str = identifier()
    key_id: str = reference("api_key.id")
    after: int = Field(sa_column=Column(BigInteger, nullable=False))
    """The position its cursor stood for ..."""
    upto: int = Field(sa_column=Column(BigInteger, nullable=False))
    """... and the last one it was given."""
    at: datetime = time()
    """When the last of it was given."""
