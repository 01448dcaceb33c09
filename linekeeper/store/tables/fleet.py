"""Who and what: customers, contacts, connections, their tokens."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index
from sqlmodel import Field, SQLModel

from linekeeper.store.types import (
    Id,
    Json,
    identifier,
    json_array,
    json_object,
    optional_time,
    reference,
    time,
)


class Customer(SQLModel, table=True):
    """Who owns systems."""

    id: str = identifier()
    name: str = Field(unique=True)
    slug: str = Field(unique=True)
    time_zone: str = "UTC"
    locale: str = "en"
    owner: str | None = None
    critical: bool = False
    hosting: str | None = None
    tier: str | None = None
    """The tier of its future connections, where a person said so (also `hosting`)."""
    aliases: list[str] = json_array()
    """Other names it is known by, such as that of a customer that turned out to be the same."""
    created_at: datetime = time()


class Contact(SQLModel, table=True):
    """Whom at the customer to notify."""

    __table_args__ = (Index("contact_once", "customer_id", "email", unique=True),)

    id: str = identifier()
    customer_id: str = reference("customer.id", index=True)
    name: str = ""
    email: str
    confirmed: bool = True
    """False: proposed by the adoption, from the e-mail of a login; nobody is mailed there yet."""


class Connection(SQLModel, table=True):
    """Makini's link to one system of a customer, on two axes: `setup` and `health`."""

    __table_args__ = (
        Index("connection_once", "app", "makini_key", unique=True),
        Index("connection_makini_id", "app", "makini_id"),
        Index("connection_due", "app", "next_probe_at"),
        Index("connection_health", "health"),
    )

    id: str = identifier()
    app: str
    makini_key: str
    makini_id: str | None = None
    customer_id: str | None = reference("customer.id", default=None, index=True)
    name: str
    slug: str = Field(unique=True)
    provider: str = ""
    email: str = ""
    hosting: str = "cloud"
    tier: str | None = None
    tariff_by: str | None = None
    """Who said its hosting; None: Makini's list and the table of providers do."""
    tier_by: str | None = None
    """Who said its tier, which may be somebody else."""
    tariff_default: str | None = None
    """What the table of providers made of the two, where it did."""
    tags: list[str] = json_array()
    """Those of Makini's list, and `inherited_tags`."""
    inherited_tags: list[str] | None = Field(default=None, sa_column=Column(Json, nullable=True))
    """Those of the connections whose place it took, until Makini's list has named them of it."""
    setup: str = "pending"
    health: str = "unknown"
    health_since: datetime = time()
    suspect: bool = False
    """Missed a probe, or not judged yet: probed in every sweep."""
    list_status: str | None = None
    sync_status: str | None = None
    last_checked_at: datetime | None = optional_time()
    last_answered_at: datetime | None = optional_time()
    """When somebody last said anything of it; a miss says nothing."""
    last_good_at: datetime | None = optional_time()
    last_read_at: datetime | None = optional_time()
    """When a record was last read with its own token."""
    evidence: str | None = None
    """How strong the evidence of its health is: `listed`, `probed` or `read`."""
    last_sync_at: datetime | None = optional_time()
    last_webhook_at: datetime | None = optional_time()
    next_probe_at: datetime | None = optional_time()
    judged: dict[str, Any] = json_object()
    """What `judge` remembers (linekeeper.health.evidence.Judged), as JSON."""
    missing_since: datetime | None = optional_time()
    """Since when Makini's list lacks it; in the next list without it, it is disconnected."""
    unlisted_since: datetime | None = optional_time()
    """Since when it is in no list of Makini's, whole or truncated. A refused call then doesn't tell
    a lost login from a connection that is gone."""
    disappeared_at: datetime | None = optional_time()
    """When it was found missing from two complete lists though nobody here had ordered that.

    It is an incident until it is listed again, replaced, disconnected here or accepted as gone.
    """
    custody: str = "owned"
    """Who renews its tokens: `owned` (we do), `borrowed` (the product does) or `exported`."""
    mode: str | None = None
    """What the rules say of it (`mode_rule`): `observe` or `manage`; None: the app's mode holds."""
    notify_customers: bool | None = None
    """Whether the rules say that its customer is notified; None: the app's setting holds."""
    metadata_digest: str | None = None
    """The digest of `user_metadata` in Makini's list; None where that is empty."""
    replaced_by: str | None = Field(default=None, sa_type=Id)
    """The connection that a new login of the same customer at the same system became."""
    told_apart_by: str | None = None
    """What else its name says where its customer has several of its product."""
    created_at: datetime = time()
    """When Linekeeper first saw it."""
    made_at: datetime | None = optional_time()
    """When it was made, as Makini's list says; None where the list doesn't say."""


class Credential(SQLModel, table=True):
    """A connection's tokens, encrypted; one row a connection."""

    connection_id: str = Field(primary_key=True, foreign_key="connection.id", sa_type=Id)
    access_token: str = Field(repr=False)
    refresh_token: str | None = Field(default=None, repr=False)
    expires_at: datetime | None = optional_time()
    minted: bool = False
    """Whether it is from the Admin API's token route: short-lived, never announced as ending."""
    refused_at: datetime | None = optional_time()
    """When Makini last refused to renew this pair; None while it never did."""
    renewing_since: datetime | None = optional_time()
    """Since when the pair is in doubt: a refresh is under way whose end isn't stored, so Makini may
    have replaced the pair already; or its token was refused and no other could be had."""
    refresh_unanswered_since: datetime | None = optional_time()
    """When it was first sent to be refreshed without an answer that is known, where Makini had not
    refused to renew it before."""
    ending_notified: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """How often the customer was asked to renew this login before its end."""
    updated_at: datetime = time()


class ModeRule(SQLModel, table=True):
    """A mode, or whether customers are notified, for an app, a tag, a customer or a connection."""

    __tablename__ = "mode_rule"
    __table_args__ = (Index("mode_rule_once", "scope", "subject", unique=True),)

    id: str = identifier()
    scope: str
    """`app`, `tag`, `customer` or `connection`."""
    subject: str
    """The app's name, the tag, or the id of the customer or connection."""
    label: str
    """What it is about, as people call it."""
    mode: str | None = None
    """`observe` or `manage`; None: it says nothing of the mode."""
    notify_customers: bool | None = None
    """None: it says nothing of that."""
    by: str
    at: datetime = time()
