"""Bringing customers live: implementations, systems, gates; credits; preflight evidence."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import Column, Index
from sqlmodel import Field, SQLModel

from linekeeper.store.types import (
    Json,
    identifier,
    json_array,
    json_object,
    optional_time,
    reference,
    renamed,
    time,
)


class Implementation(SQLModel, table=True):
    """One customer's way from kickoff to go-live."""

    __table_args__ = (Index("implementation_status", "status"),)

    id: str = identifier()
    key: str = Field(unique=True)
    """Customer and systems: a second start of the same is the same implementation."""
    slug: str = Field(unique=True)
    customer_id: str = reference("customer.id", index=True)
    title: str
    app: str = "default"
    complexity: str
    hosting: str
    custom_workflows: int = 0
    kickoff: date
    committed: date | None = None
    country: str | None = None
    owner: str
    """Who of us answers for it; a gate may have somebody else."""
    status: str = "running"
    """`running`, `held`, `live` or `abandoned`."""
    held_because: str | None = None
    holds: list[dict[str, Any]] = json_array()
    """Times in which it was on hold (linekeeper.implementation.hold)."""
    template: dict[str, Any] = json_object()
    """The gates as they were agreed at the start; a later template doesn't change them."""
    started_at: datetime = time()
    started_by: str
    live_at: datetime | None = optional_time()
    abandoned_at: datetime | None = optional_time()
    run_id: str | None = None
    """The run of `implementation` whose graph shows it."""
    run_at: datetime | None = optional_time()
    """When that run took it up."""
    run_attempt: int = 0
    """Grows with every run that Linekeeper itself started for it."""
    planned_p50: date
    planned_p80: date
    """The forecast made at the start, for comparison."""
    p50: date
    p80: date
    chance: float | None = None
    """The probability of keeping the committed date, 0 to 1."""
    commitment: str = "none"
    progress: float = 0
    forecast_at: datetime = time()
    digest: str | None = None
    """Its line in the digest while something is late or will be; empty: as planned."""
    notified: dict[str, Any] | None = Field(default=None, sa_column=Column(Json, nullable=True))
    """The slip people were last notified of (linekeeper.implementation.notified); None: of none."""
    notified_of_before: str = renamed("told", "notified_of_before", default="")
    """The same as the version before writes and reads it."""
    actual: dict[str, Any] = json_object()
    """Actual against plan, recorded at the go-live."""


class ImplementationSystem(SQLModel, table=True):
    """One of its systems, and the connection it became."""

    __tablename__ = "implementation_system"
    __table_args__ = (
        Index("implementation_system_once", "implementation_id", "number", unique=True),
        Index("implementation_system_connection", "connection_id"),
    )

    id: str = identifier()
    implementation_id: str = reference("implementation.id")
    number: int
    """Counted from 1, as in the gates' ids."""
    name: str
    tier: str = "I"
    cost: int
    """Connection credits (estimate)."""
    target: str | None = None
    """Where Makini is to reach it, `host:port` or a URL; for preflight and the hand-over."""
    vpn: bool = False
    """Whether Makini reaches it through a VPN tunnel."""
    hosting: str | None = None
    """Where that of the systems differs; None: as the implementation."""
    connects: date | None = None
    """When its login is likely, by the last forecast."""
    connection_id: str | None = reference("connection.id", default=None)


class Gate(SQLModel, table=True):
    """What is known of one gate; what it is follows from the implementation's plan."""

    __table_args__ = (
        Index("gate_once", "implementation_id", "gate", unique=True),
        Index("gate_status", "status"),
    )

    id: str = identifier()
    implementation_id: str = reference("implementation.id")
    gate: str
    """Its id in the plan, such as `workflow-configuration-2`."""
    title: str
    check_name: str | None = Field(default=None)
    """What proves it by itself; empty: a person says so in the form of its `gate` run."""
    status: str = "pending"
    """`pending`, `open`, `blocked`, `done` or `skipped`."""
    owner: str
    """Whose turn: `us`, `customer` or `makini`."""
    assignee: str
    """The person who sees to it."""
    opened_at: datetime | None = optional_time()
    done_at: datetime | None = optional_time()
    done_by: str | None = None
    evidence: str = ""
    note: str = ""
    skipped_because: str | None = None
    skipped_at: datetime | None = optional_time()
    blocks: list[dict[str, Any]] = json_array()
    """Times in which it could not be worked on (linekeeper.implementation.evaluate.Block)."""
    earliest: date | None = None
    due: date | None = None
    attempt: int = 0
    """Grows with every run started for it; 0: none yet."""
    answers: int = 0
    """How many answers its present run gave; each counts once."""
    refusal: str = ""
    """Why the last answer was not taken, shown in the next form."""
    run_id: str | None = None
    work_run_id: str | None = None
    """The `authentication-setup` or `workflow-configuration` that does the work of the gate."""
    work_attempt: int = 0
    """Grows with every such run that Linekeeper starts; 0: none yet."""
    work_at: datetime | None = optional_time()
    """When that run took the gate up."""
    is_work_over: bool = False
    """That run ended as it was meant to, so that it isn't started again."""
    changes: int = 0
    """Counts what happened to it; part of the id of its events."""


class CreditEntry(SQLModel, table=True):
    """A line of the credit ledger (an estimate: Makini publishes no balance)."""

    __tablename__ = "credit_entry"

    id: str = identifier()
    app: str = "default"
    """Whose account at Makini: each app has a ledger of its own."""
    connection_id: str | None = reference("connection.id", default=None, index=True)
    subject: str | None = Field(default=None, index=True)
    """Whose: a connection's id, before there is one its `implementation_system`; empty: all's."""
    implementation_id: str | None = reference("implementation.id", default=None)
    delta: int
    reason: str
    """`grant`, `reserve`, `release`, `consume`, `return` or `adjust`."""
    at: datetime = time(index=True)
    by: str
    note: str = ""


class PreflightReport(SQLModel, table=True):
    """What one preflight found of one target: evidence, never edited."""

    __tablename__ = "preflight_report"
    __table_args__ = (Index("preflight_report_of", "target", "vantage", "at"),)

    id: str = identifier()
    target: str
    vantage: str
    at: datetime = time()
    """The time by the clock of the machine that checked."""
    passed: bool
    verdicts: list[dict[str, Any]] = json_array()
    source: str
    """`flow` (a worker of ours stood there: re-run daily) or `import` (a file somebody sent)."""
    worker: str | None = None
    """Which worker of ours stood there; only it can check this vantage again."""
    by: str
    received_at: datetime = time()
