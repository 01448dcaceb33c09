"""What the alert policy is asked and what it answers, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from linekeeper.config import Severity
from linekeeper.incidents.suppressed import FOREVER, Silence
from linekeeper.notify.routing import DEFAULT

Channel = Literal["slack", "elsewhere"]
Cause = Literal["silence", "alike", "lasting", "quiet", "cap"]


@dataclass(frozen=True, slots=True)
class Situation:
    """An incident as the policy sees it."""

    id: str
    severity: Severity
    opened_at: datetime
    """When the present trouble began: where it was opened again, then."""
    round: int = 0
    """How often it was opened again."""
    acknowledged_at: datetime | None = None
    resolved_at: datetime | None = None
    merged: bool = False
    """It goes on in a wider incident."""
    snoozed_until: datetime | None = None
    silences: Sequence[Silence] = ()
    slack_channel: str = DEFAULT
    """The Slack channel it is told in (`notify.routing`)."""
    follows: bool = False
    """A login lost moments after another of its provider: perhaps they are one root cause."""
    joined_at: datetime | None = None
    """When the last of its connections joined it."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that was decided to be said: `first`, `reminder:<n>`, `escalation`, `joined:<n>`,
    `resolved`."""

    incident_id: str
    channel: str
    step: str
    at: datetime
    fold: str | None = None
    """The one message that tells of several incidents, if it is part of one."""
    round: int = 0
    """Of which opening of the incident."""
    slack_channel: str = DEFAULT


@dataclass(frozen=True, slots=True)
class Say:
    """Something to say now, and why now."""

    incident_id: str
    channel: Channel
    step: str
    why: str
    fold: str | None = None
    severity: Severity = "normal"
    round: int = 0
    """Of which opening of the incident."""
    slack_channel: str = DEFAULT


@dataclass(frozen=True, slots=True)
class Held:
    """Not now: why, and until when at least."""

    cause: Cause
    why: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether Slack's channel can be reached, and which incidents have a message there."""

    configured: bool = True
    broken_since: datetime | None = None
    needs_mending: bool = False
    """Only a person can mend it: a token, a scope, a channel."""
    delivered: frozenset[str] = frozenset()
    others: Mapping[str, "Reach"] = field(default_factory=dict)
    """The channels other than `default`; their `delivered` is that of all."""


@dataclass(slots=True)
class Decision:
    """What is to be said now, what never will be and why, what waits."""

    say: list[Say] = field(default_factory=list)
    never: dict[str, str] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)

    def reason(self, incident_id: str) -> str:
        """Why an incident is not told of now."""
        if incident_id in self.never:
            return self.never[incident_id]
        holding = self.held.get(incident_id)
        if holding is None:
            return "not to be told"
        ends = "" if holding.until == FOREVER else f" until {holding.until:%Y-%m-%d %H:%M} UTC"
        return f"{holding.why}{ends}"
