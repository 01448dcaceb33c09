"""What the database says of one record's way, before anything is concluded. Plain data."""

from dataclasses import dataclass, field
from datetime import datetime

from linekeeper.notify.situations import HoldCause
from linekeeper.store.retention import Retention


@dataclass(frozen=True, slots=True)
class ExplainedConnection:
    """The connection, and its app as it is configured now."""

    id: str
    label: str
    setup: str
    health: str
    health_since: datetime
    has_token: bool
    custody: str
    last_webhook_at: datetime | None
    app: str
    entities: frozenset[str] | None
    """None where the app isn't configured any more."""
    forwards: bool
    successor: str | None = None
    """What people call the connection that took over, and Makini's key of it."""


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What the index holds."""

    entity: str
    key: str
    number: str | None
    updated_at: datetime | None
    seen_at: datetime
    deleted_at: datetime | None
    absent_since: datetime | None
    deletion: str | None
    """The status of the deletion it belongs to."""


@dataclass(frozen=True, slots=True)
class ChangeFacts:
    """One change of the feed."""

    id: str
    op: str
    entity: str
    updated_at: datetime | None
    at: datetime
    source: str
    recovered: bool
    announced_at: datetime | None
    position: int | None

    @property
    def is_ours(self) -> bool:
        """Whether Linekeeper found it out, or people decided it here: nobody announces it."""
        return self.source == "deletion" or self.op in ("deleted", "rekeyed")


@dataclass(frozen=True, slots=True)
class DeliveryFacts:
    """One accepted delivery."""

    id: str
    delivery_key: str
    source: str
    status: str
    event: str | None
    kind: str
    entity: str | None
    event_at: datetime | None
    received_at: datetime
    processed_at: datetime | None
    next_attempt_at: datetime
    attempts: int
    is_claimed: bool
    error: str | None
    message_id: str
    """The `webhook-id` of its forward: of the first event, for a replay."""
    health_then: str | None = None
    """The connection's health when it was settled."""


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """One attempt to post to the product."""

    at: datetime
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class AheadFacts:
    """The message that the product has to take first, since a connection's go in order."""

    error: str
    refusal: str | None
    """`refused` or `gone`; None where the product is away, or says "not now"."""


@dataclass(frozen=True, slots=True)
class ForwardFacts:
    """The outbox row of the forward, and its attempts, the oldest first."""

    status: str | None
    """None where the row is no longer kept, or never was."""
    created_at: datetime | None
    settled_at: datetime | None
    attempts: tuple[AttemptFacts, ...] = ()
    ahead: AheadFacts | None = None
    """What it waits for, while it was not tried."""


@dataclass(frozen=True, slots=True)
class ReadFacts:
    """A read of the change feed that contained the change."""

    key_name: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EntityFacts:
    """How far an entity of the connection has been read."""

    entity: str
    position: datetime | None
    polled_at: datetime | None
    full_at: datetime | None
    offered: bool
    window_since: datetime | None
    grain_seconds: float | None
    failures: int
    failing_since: datetime | None
    error: str | None
    source_total: int | None
    """How many records the source said it has at its last whole listing."""
    indexed: int | None
    """How many were here right after it."""

    @property
    def is_partial(self) -> bool:
        """Whether the source has more than it could be brought to list."""
        return self.source_total is not None and (self.indexed or 0) < self.source_total


@dataclass(frozen=True, slots=True)
class OutageFacts:
    """A time in which no receiver of ours could store."""

    since: datetime
    until: datetime


_DOWN = ("reauthorization_required", "unreachable")


@dataclass(frozen=True, slots=True)
class Way:
    """Everything known of one record's way, of which some may be absent."""

    key: str | None
    """None for a delivery that isn't about records."""
    connection: ExplainedConnection | None
    now: datetime
    record: RecordFacts | None = None
    change: ChangeFacts | None = None
    delivery: DeliveryFacts | None = None
    forward: ForwardFacts | None = None
    reads: tuple[ReadFacts, ...] = ()
    entities: tuple[EntityFacts, ...] = ()
    outage: OutageFacts | None = None
    health_then: str | None = None
    """The connection's health when the source says it changed."""
    counted_as: str | None = None
    """What the missing webhook of the change was put down to (`drift.cause`)."""
    rejected: int = 0
    """Deliveries to the app rejected between the change at the source and its recovery."""
    rejected_why: str = ""
    kept_since: datetime | None = None
    """When the oldest delivery came that is still kept."""
    retention: Retention = field(default_factory=dict)
    """What housekeeping has removed, by kind."""
    renamed_from: str | None = None
    """The key that was asked for, where the record has another by now."""
    also_in: tuple[str, ...] = ()
    """Other entities of the connection with a record of the same key."""
    named_at: datetime | None = None
    """When the newest delivery came that names the record, where none belongs to the change."""
    more_keys: int = 0
    """How many records more the delivery names."""

    @property
    def is_unlisted_since(self) -> bool:
        """Whether a whole listing begun after the delivery was settled lacks the record."""
        delivery = self.delivery
        if delivery is None or delivery.processed_at is None or self.record is not None:
            return False
        return any(
            facts.full_at > delivery.processed_at
            and facts.window_since is None
            and not facts.is_partial
            for facts in self.entities
            if facts.full_at is not None and facts.entity == delivery.entity
        )

    @property
    def was_down(self) -> bool:
        """Whether it changed while its login was lost or its system away: unannounced by nature."""
        down = self.counted_as == "down" and self.health_then in _DOWN
        return down or self.counted_as == "backfill"

    @property
    def is_of_first_sync(self) -> bool:
        """Whether Makini's first sync brought it: it was there before anybody could announce it."""
        return self.counted_as == "first_sync"

    @property
    def changed_at(self) -> datetime | None:
        """When the source says it changed."""
        if self.change is not None and self.change.updated_at is not None:
            return self.change.updated_at
        return self.record.updated_at if self.record is not None else None

    def entity(self) -> str | None:
        """The record's entity, from whatever names it."""
        for holder in (self.change, self.record, self.delivery):
            if holder is not None and holder.entity:
                return holder.entity
        return None

    def reading(self) -> EntityFacts | None:
        """How far the record's entity has been read."""
        wanted = self.entity()
        return next((facts for facts in self.entities if facts.entity == wanted), None)


@dataclass(frozen=True, slots=True)
class NoticeFacts:
    """One decision of the alert policy."""

    channel: str
    step: str
    why: str
    severity: str
    at: datetime
    round: int


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """One outbox message."""

    id: str
    channel: str
    status: str
    attempts: int
    error: str | None
    created_at: datetime
    settled_at: datetime | None
    to: str = ""
    """The customer whom a mail is for."""


@dataclass(frozen=True, slots=True)
class NotifyFacts:
    """One incident, and all that was decided and sent of it."""

    title: str
    since: datetime
    """When its present trouble began."""
    round: int
    now: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    muted_at: datetime | None = None
    muted_until: datetime | None = None
    silence: str | None = None
    """The maintenance window, or what else covered its beginning."""
    merged_into: str | None = None
    """The title of the incident in which it goes on."""
    is_unwatched: bool = False
    """It ended as its app was taken out of the settings."""
    held: HoldCause | None = None
    held_why: str = ""
    held_until: datetime | None = None
    notices: tuple[NoticeFacts, ...] = ()
    messages: tuple[MessageFacts, ...] = ()
    mails: tuple[MessageFacts, ...] = ()
    """Those to customers, about the lost logins of this incident."""
    more_mails: int = 0
    slack_configured: bool = True
    slack_trouble: str = ""
    unasked: tuple[str, ...] = ()
    """Why customers are asked for no login, a sentence each."""

    def present(self) -> list[NoticeFacts]:
        """What was decided since it was opened the last time."""
        return [notice for notice in self.notices if notice.round == self.round]
