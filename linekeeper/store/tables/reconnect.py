"""Getting logins back: keys of products, connect links, their use, and the way of one incident."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from linekeeper.store.types import (
    Id,
    identifier,
    json_array,
    json_object,
    optional_time,
    reference,
    time,
)


class ApiKey(SQLModel, table=True):
    """A key of the operator's product; only its hash is kept."""

    __tablename__ = "api_key"

    id: str = identifier()
    name: str = Field(unique=True)
    digest: str = Field(unique=True, repr=False)
    scopes: list[str] = json_array()
    created_at: datetime = time()
    created_by: str
    last_used_at: datetime | None = optional_time()
    """When it was last used, to the hour."""
    revoked_at: datetime | None = optional_time()


class ConnectLink(SQLModel, table=True):
    """A link by which a customer logs in; used up by the callback that succeeds."""

    __tablename__ = "connect_link"
    __table_args__ = (
        Index("connect_link_of", "incident_id", "connection_id"),
        Index("connect_link_connection", "connection_id"),
        Index("connect_link_customer", "customer_id"),
    )

    id: str = identifier()
    app: str
    connection_id: str | None = reference("connection.id", default=None)
    """The connection whose login is lost; None for a system that is new."""
    customer_id: str | None = reference("customer.id", default=None)
    incident_id: str | None = reference("incident.id", default=None)
    system: str = ""
    """The provider that is asked for, as the customer knows it."""
    created_at: datetime = time()
    created_by: str
    expires_at: datetime = time()
    used_at: datetime | None = optional_time()
    used_for: str | None = Field(default=None, sa_type=Id)
    """The connection the login turned out to be."""


class AuthenticationSetup(SQLModel, table=True):
    """One set-up of a login, by the run that sees to it: how far it is, what it waits for."""

    __tablename__ = "authentication_setup"
    __table_args__ = (
        Index("authentication_setup_connection", "connection_id"),
        Index("authentication_setup_system", "system_id"),
        Index("authentication_setup_open", "ended_at"),
    )

    id: str = identifier()
    run_id: str = Field(unique=True)
    connection_id: str | None = reference("connection.id", default=None)
    system_id: str | None = reference("implementation_system.id", default=None)
    """The system of an implementation that is set up; a connection may be known as well."""
    link_id: str | None = reference("connect_link.id", default=None)
    """The last link made for it."""
    started_at: datetime = time()
    started_by: str
    logins_from: datetime = time()
    """Logins from then on count: the start, or when a new link was asked for."""
    confirmed_at: datetime | None = optional_time()
    """When the technical requirements were confirmed."""
    confirmed_by: str | None = None
    without_preflight: bool = False
    """Somebody said that preflight is not waited for."""
    links: int = 0
    """How many links were made."""
    send_again: bool = False
    """Somebody asked for a new link that is not made yet."""
    asked_at: datetime | None = optional_time()
    """When the customer was asked by the last link; reminders count from it. None: not yet."""
    is_mailed: bool = False
    """The customer is asked, and reminded, by mail; otherwise somebody passes the link on."""
    reminded: int = 0
    """The number of the last reminder."""
    verified_at: datetime | None = optional_time()
    """When a record was read with the new token."""
    waits_for: str | None = None
    """`requirements`, `preflight`, `login` or `verification`, while the run is suspended."""
    look_at: datetime | None = optional_time()
    """When its run looks again, whatever has happened until then."""
    answers: int = 0
    """How many answers of its run's form were taken; each counts once."""
    outcome: str | None = None
    """`connected`, `not_needed`, `given_up` or `replaced`."""
    ended_at: datetime | None = optional_time()


class ConnectAttempt(SQLModel, table=True):
    """A callback that came: its `state` is used up by it."""

    __tablename__ = "connect_attempt"

    nonce: str = Field(primary_key=True)
    link_id: str = reference("connect_link.id", index=True)
    at: datetime = time()
    outcome: str = "begun"


class PendingLogin(SQLModel, table=True):
    """A token pair that a login gave and whose status could not be asked yet, encrypted.

    The code is spent and the pair before it dead, so this one is kept until Makini says whose it
    is.
    """

    __tablename__ = "pending_login"
    __table_args__ = (Index("pending_login_due", "retry_at"),)

    id: str = identifier()
    link_id: str = reference("connect_link.id", index=True)
    by: str
    """Who logged in, for the audit."""
    access_token: str = Field(repr=False)
    refresh_token: str | None = Field(default=None, repr=False)
    expires_at: datetime | None = optional_time()
    received_at: datetime = time()
    attempts: int = 0
    """How often the status was asked since, in vain."""
    refused_seconds: int = 0
    """How long Makini has refused the pair. A time in which it said nothing of it is not in it."""
    retry_at: datetime = time()


class Reconnect(SQLModel, table=True):
    """What is done to get the logins of one incident back."""

    __table_args__ = (Index("reconnect_open", "closed_at"),)

    incident_id: str = Field(primary_key=True, foreign_key="incident.id", sa_type=Id)
    attempt: int = 1
    """Grows when the incident is reopened; with it the run and the mails are new ones."""
    run_generation: int = 1
    """Grows when the run is gone (cancelled, crashed, deleted) and another takes over."""
    run_id: str | None = None
    """Prefect's run, once it works."""
    replaced_runs: list[str] = json_array(server_default="[]")
    """Prefect's runs that worked on it before: they don't take it back."""
    woken_at: datetime | None = optional_time()
    """When its run was last asked to look at the database."""
    opened_at: datetime = time()
    deadline_at: datetime = time()
    answers: int = 0
    """How many answers of its present run's form were taken; each counts once."""
    snoozed_until: datetime | None = optional_time()
    windows: dict[str, Any] = json_object()
    """Connection id → since when its data may be missing (ISO time): its last good moment."""
    counts: dict[str, Any] = json_object()
    """Connection id → what the backfill brought."""
    outcome: str | None = None
    """`reconnected`, `given_up`, `not_in_time` or `moved` (to a wider incident)."""
    closed_at: datetime | None = optional_time()


class CustomerLink(SQLModel, table=True):
    """A link to a customer's page; its address is signed, and it works until it is revoked."""

    __tablename__ = "customer_link"

    id: str = identifier()
    customer_id: str = reference("customer.id", index=True)
    created_at: datetime = time()
    created_by: str
    revoked_at: datetime | None = optional_time()
    opened_at: datetime | None = optional_time()
    """When it was opened last, to the hour."""
    answered_at: datetime | None = optional_time()
    """When the customer ticked or commented something last."""
    opens: int = Field(default=0)
    """The number of hours in which it was opened."""
