"""What people were notified of and why, when they are not to be, and whether they can be."""

from datetime import datetime

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from linekeeper.store.types import identifier, optional_time, reference, renamed, time


class Notice(SQLModel, table=True):
    """One decision of the alert policy: this is said of an incident, once (or never will be)."""

    __table_args__ = (
        Index("notice_once", "incident_id", "channel", "step", "round", unique=True),
        Index("notice_fold", "group_key"),
    )

    id: str = identifier()
    incident_id: str = reference("incident.id")
    channel: str
    """`slack` or `elsewhere`."""
    step: str
    """The name by which it is said once; what it is, is in the next two."""
    step_kind: str | None = None
    """What it is (`linekeeper.notify.steps`). None also in rows of the version before."""
    number: int | None = None
    """Which of its kind it is, from 1; 0 where there is only one."""
    round: int = 0
    """The number of the incident's opening (`incident.round`)."""
    group_key: str | None = renamed("fold", "group_key", default=None)
    """The one message about several incidents, if it is part of one."""
    group_kind: str | None = None
    """Why they share it (`linekeeper.notify.groups`). None also in rows of the version before."""
    slack_channel: str | None = None
    """The block of the Slack channel it is said in; None: `default`."""
    severity: str = "normal"
    why: str = ""
    at: datetime = time(index=True)


PAUSE_WINDOW = "pause"
"""The kind of the silence that is open while `linekeeper_paused` is set."""


class Silence(SQLModel, table=True):
    """A time in which trouble of some connections is recorded, and nobody is notified."""

    __table_args__ = (Index("silence_ends", "ends_at"),)

    id: str = identifier()
    kind: str = "maintenance"
    """`maintenance`, `mute`, or `pause` (`PAUSE_WINDOW`), which is of everything."""
    scope: str
    """`connection`, `customer`, `provider` or `all`."""
    subject: str = ""
    """The connection's or customer's id, or the provider's name."""
    label: str
    """What it is about, as people call it."""
    starts_at: datetime = time()
    ends_at: datetime = time()
    by: str
    reason: str = ""
    ended_at: datetime | None = optional_time()
    """When somebody ended it early."""


class NoticeChannel(SQLModel, table=True):
    """Whether a channel takes messages; no row: nothing is known against it."""

    __tablename__ = "notice_channel"

    channel: str = Field(primary_key=True)
    trouble: str
    """Why it takes none, and what to fix."""
    needs_fix: bool = renamed("needs_mending", "needs_fix", default=False)
    since: datetime = time()
