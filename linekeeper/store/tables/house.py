"""Linekeeper's own: outbox, messages, leases, shared state, settings, audit."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from linekeeper.clock import new_id
from linekeeper.store.types import (
    Id,
    UtcDateTime,
    identifier,
    json_object,
    optional_time,
    renamed,
    time,
)


class NoticeMessage(SQLModel, table=True):
    """Where an incident's one message is, so that it is edited and never posted again."""

    __tablename__ = "notice_message"

    subject: str = Field(primary_key=True)
    """`incident:<id>` (or another thing people are notified of)."""
    channel: str = Field(primary_key=True)
    ts: str
    place: str
    """The channel's id as Slack answered it."""
    stamp: str | None = None
    """What distinguishes what an artifact shows from what it would show now (`views.stamps`).

    Of a message: which forms it leads to (`notify.view`).
    """
    updated_at: datetime = time()


class Outbox(SQLModel, table=True):
    """What leaves the house; written in the transaction that makes it true."""

    __table_args__ = (
        Index("outbox_due", "channel", "status", "next_attempt_at"),
        Index("outbox_lane", "ordering_key", "status", "seq"),
        Index(
            "outbox_pending",
            "next_attempt_at",
            sqlite_where=text("status = 'pending'"),
            postgresql_where=text("status = 'pending'"),
        ),
    )

    id: str = identifier()
    seq: str = Field(default_factory=new_id, sa_type=Id)
    """Order of writing, within an ordering key the order of delivery."""
    channel: str
    """`slack`, `event`, `run`, `email` or `forward`."""
    dedupe_key: str = Field(unique=True)
    ordering_key: str = renamed("lane", "ordering_key")
    """Rows of one key go out in order, different keys side by side."""
    kind: str | None = None
    """What it is for, where others of its channel are not (`linekeeper.outbox.about`). None only in
    rows of a version before."""
    subject: str | None = None
    """The id of what it is about: an incident, a connection, an implementation, or a flow run."""
    app: str | None = None
    """Whose forward it is."""
    destination: str | None = None
    """Where a forward goes: an app, or its target."""
    payload: dict[str, Any] = json_object()
    status: str = "pending"
    """`pending`, `dead`, or how it ended: `sent`; `suppressed` by the alert policy; `superseded` by
    a later message that says the same; `skipped`, as there is nothing left to say, or nobody to
    say it to."""
    attempts: int = 0
    error: str | None = None
    """Why it waits or has ended; of a `skipped` one in Slack, what would have been said."""
    refusal: str | None = None
    """Why a forward waits: `refused` by the product, or its address is `gone` (410). `unanswered`:
    a message to Slack that may stand there all the same."""
    created_at: datetime = time()
    next_attempt_at: datetime = time()
    due_at: datetime | None = optional_time()
    """When a row is due that was written for later. Until then it waits for nothing, and nothing
    is late."""
    retry_at: datetime | None = optional_time()
    """When the next try of a row was planned that was tried before."""
    counts_from: datetime | None = optional_time()
    """The time from which its age counts, where nobody was there to try it for some time."""
    claimed_by: str | None = None
    """The one claim that may settle it."""
    claim_owner: str | None = None
    """The process whose claim that is; None also where one of a version before claimed it."""
    claimed_until: datetime | None = optional_time()
    """Not written any more, as a claim puts `next_attempt_at` off; when it goes says migration
    0061."""
    settled_at: datetime | None = optional_time(index=True)


class Lease(SQLModel, table=True):
    """Who may do a thing, until when; `fence` grows with every owner."""

    name: str = Field(primary_key=True)
    """Its kind, and its subject if it has one, as one key."""
    kind: str | None = None
    """The work it is for, or `consumer`, as a sign of life. None only in rows of a version before,
    whose names alone say it."""
    subject: str | None = None
    """The id of the one thing it is about: a connection, a connect link, an app, a consumer."""
    owner: str
    until: datetime = time()
    fence: int = 0
    purpose: str | None = None
    """What its owner holds it for, where others want to know."""
    run_id: str | None = None
    """The flow run that took it, if one did."""
    run_fence: int | None = None
    """The fence with which `run_id` was written: the version before takes a lease without it."""


class AppState(SQLModel, table=True):
    """One Makini app: its call budget and its circuit, shared by all processes."""

    __tablename__ = "app_state"

    app: str = Field(primary_key=True)
    budget: dict[str, Any] = json_object()
    circuit: dict[str, Any] = json_object()
    last_list_at: datetime | None = optional_time()
    listed_since: datetime | None = optional_time()
    """Since when its list was read again and again, without a pause of hours."""
    listed_from: str | None = None
    """The base URL that gave that list."""
    removed_at: datetime | None = optional_time()
    """Since when the settings don't name it any more: nothing of it is an incident."""
    left_out: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """How many that were due the last sweep did not probe: the call budget bore no more."""
    accepted_shortfall: int = 0
    """The difference between the list's total and what it lists that a person accepted."""


class AppAbsence(SQLModel, table=True):
    """A time in which the settings did not name an app, and that is over."""

    __tablename__ = "app_absence"

    id: str = identifier()
    app: str
    since: datetime = time()
    until: datetime = time()


class CallCount(SQLModel, table=True):
    """How many calls were made to an app in one hour, for one purpose."""

    __tablename__ = "call_count"

    app: str = Field(primary_key=True)
    hour: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    purpose: str = Field(primary_key=True)
    """`sweep`, `reconcile`, `events`, `tokens`, `logins`, `product` or `other`."""
    calls: int = 0
    refused: int = 0
    """Answered 429."""


class CallPause(SQLModel, table=True):
    """What may not be called for a while, because Makini answered 429."""

    __tablename__ = "call_pause"

    app: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    """What Makini calls it in routes and errors; empty: calls with the app's own credentials."""
    refused_at: datetime = time()
    until: datetime = time()


class AppSetting(SQLModel, table=True):
    """A named setting every process reads; the value is encrypted."""

    __tablename__ = "app_setting"

    name: str = Field(primary_key=True)
    kind: str | None = None
    """Of the copy of a block which one it is (`app`, `slack`, `policy`, `alerts`, `mail`), or
    `listing`; None for what its name says whole, and in rows of a version before."""
    subject: str | None = None
    """The app, or the channel, of which there may be several."""
    value: str = Field(repr=False)
    updated_at: datetime = time()


class Audit(SQLModel, table=True):
    """Who did what."""

    __table_args__ = (Index("audit_action", "action", "at"),)

    id: str = identifier()
    at: datetime = time(index=True)
    by: str
    action: str
    subject: str
    detail: dict[str, Any] = json_object()


class PartHeartbeat(SQLModel, table=True):
    """The last sign of life of one part, by the database's clock.

    A part that ends in good order removes its row; a row that is not renewed is a part that died
    or hangs.
    """

    __tablename__ = "part_heartbeat"

    part: str = Field(primary_key=True)
    """`consumer:<owner>`, `receiver:<owner>`, `worker:<name>`, `prefect`, `sweep`, …"""
    kind: str
    host: str = ""
    process_id: int | None = None
    """Which process of `host` it is, where it is one that writes this row itself."""
    since: datetime = time()
    """When it started, or when the present span of answers began; of work that is completed time
    and again, when it was completed before."""
    at: datetime = time()
    mark: str = ""
    """What was seen last where others see it for the part (a worker's own last heartbeat); of a
    receiver, the address it answers at."""


class OpenProcess(SQLModel, table=True):
    """A process that has the database open; one that ends in good order removes its row."""

    __tablename__ = "open_process"

    owner: str = Field(primary_key=True)
    kind: str
    """`receiver`, `consumer`, `flow run` or `command`."""
    host: str | None = None
    process_id: int | None = None
    """The machine, and its process; None also for one of the version before."""
    life: str | None = None
    """What tells it from a later process with its id (`life_of_this`); None where nothing does."""
    key: str
    """The fingerprint of the key it encrypts with."""
    since: datetime = time()
    at: datetime = time()
    """Its last sign of life, by the database's clock."""


class EndedRun(SQLModel, table=True):
    """A flow run that came to its own end: if it failed, it failed by what it found."""

    __tablename__ = "ended_run"

    run_id: str = Field(primary_key=True)
    at: datetime = time(index=True)


class RunAlert(SQLModel, table=True):
    """What one of Prefect's automations reported, until it is over."""

    __tablename__ = "run_alert"

    cause: str = Field(primary_key=True)
    """`<kind>:<deployment>`, or `pool_not_ready:<pool>`."""
    kind: str
    subject: str
    """The deployment's name, or the pool's."""
    run_id: str = ""
    run_name: str = ""
    state_message: str = ""
    at: datetime = time()
