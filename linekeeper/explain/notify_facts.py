"""What the database says of one incident's notifications. Plain data."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

HeldCause = Literal["silence", "alike", "lasting", "quiet", "cap"]


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


@dataclass(frozen=True, slots=True)
class NotifyFacts:
    """One incident, and all that was decided and sent of it."""

    title: str
    kind: str
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
    held: HeldCause | None = None
    held_why: str = ""
    held_until: datetime | None = None
    notices: tuple[NoticeFacts, ...] = ()
    messages: tuple[MessageFacts, ...] = ()
    slack_configured: bool = True
    slack_trouble: str = ""
    unasked: tuple[str, ...] = ()
    """Why customers are asked for no login, a sentence each."""
    timeline: tuple[tuple[datetime, str], ...] = ()

    def present(self) -> list[NoticeFacts]:
        """What was decided since it was opened the last time."""
        return [notice for notice in self.notices if notice.round == self.round]
