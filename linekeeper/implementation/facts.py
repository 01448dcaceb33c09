"""What the database knows that proves a gate. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """What counts as evidence about one connection. Times are UTC."""

    id: str
    name: str
    provider: str
    setup: str
    health: str
    health_since: datetime
    has_token: bool
    sync_status: str | None
    last_good_at: datetime | None
    last_sync_at: datetime | None
    created_at: datetime
    """When Linekeeper first saw it."""
    made_at: datetime | None
    """When it was made, as Makini's list says; None where the list doesn't say."""
    customer_id: str | None
    app: str
    delivered_at: datetime | None = None
    """When its first signed delivery was processed."""
    polled_at: datetime | None = None
    """When all its entities had been read to the end; None: not yet."""
    drift: int = 0
    """What the last reading of them found that the webhooks had not brought, or differently."""
    poll_trouble: str | None = None
    replaced_by: str | None = None
    """The connection that a new login at the same system became."""
    logged_in_at: datetime | None = None
    """When the customer last logged in by a link."""
    system: str | None = None
    """What the link was made for by which the customer connected it; None: not by such a link."""

    def came_before(self, since: datetime) -> bool:
        """Whether it is older than `since`, as far as is known."""
        return (self.made_at or self.created_at) < since


@dataclass(frozen=True, slots=True)
class SeenPreflight:
    """The last preflight of one target from one vantage."""

    at: datetime
    passed: bool
    finding: str = ""
    """The first thing it found."""


@dataclass(frozen=True, slots=True)
class AppListing:
    """An app's whole list: when it came, and from which base URL."""

    at: datetime
    url: str | None


@dataclass(frozen=True, slots=True)
class SetUp:
    """The last `authentication-setup` of one system."""

    verified_at: datetime | None
    """When a record was read with the new token; None: not yet."""
    is_open: bool
    logins_from: datetime | None = None
    """Logins from then on count: later than the last one where a new one was asked for."""


@dataclass(frozen=True, slots=True)
class Configured:
    """What `workflow-configuration` has shown of one connection: it was read whole."""

    at: datetime
    by: str
    text: str


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """Everything the database knows that proves a gate."""

    connections: Mapping[str, ConnectionFacts] = field(default_factory=dict)
    providers: frozenset[str] = frozenset()
    """What all connections in the books are to."""
    known_since: Mapping[str, datetime] = field(default_factory=dict)
    """When the first connection of each app was seen; only where Makini's list says of some of the
    others not when they were made."""
    preflights: Mapping[tuple[str, str], SeenPreflight] = field(default_factory=dict)
    """The last preflights, by target and vantage."""
    listed: Mapping[str, AppListing] = field(default_factory=dict)
    """When each app last gave its whole list."""
    credited: frozenset[str] = frozenset()
    """Subjects of the ledger that hold credits: connections' ids, planned systems' ids."""
    set_up: Mapping[str, SetUp] = field(default_factory=dict)
    """The set-ups of logins, by the system's id."""
    configured: Mapping[str, Configured] = field(default_factory=dict)
    """The workflow configurations, by the connection's id."""
