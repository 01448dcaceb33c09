"""What an explanation is: hops with evidence, and the one that is missing. Plain data."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, auto
from typing import Literal

from sqlmodel import Field

from linekeeper.answers import Answer, UtcTime

Kind = Literal["record", "delivery", "change", "incident", "message"]


class HopName(StrEnum):
    """The stations of a way, in order. Records take the first nine, notifications the others."""

    source = auto()
    webhook = auto()
    accepted = auto()
    claimed = auto()
    read = auto()
    indexed = "index"
    forward = auto()
    feed = auto()
    poll = auto()
    opened = auto()
    policy = auto()
    outbox = auto()
    delivered = auto()
    acknowledged = auto()
    resolved = auto()


class HopState(StrEnum):
    """What is known of one hop."""

    done = auto()
    missing = auto()
    waiting = auto()
    not_needed = auto()
    unknown = auto()


class Party(StrEnum):
    """Whose the missing hop is."""

    makini = auto()
    customer = auto()
    us = auto()
    product = auto()
    nobody = auto()


class Cause(StrEnum):
    """Why a hop is missing, or why none is."""

    nothing_missing = auto()
    webhook_lost = auto()
    webhook_late = auto()
    webhooks_never = auto()
    rejected = auto()
    our_outage = auto()
    unrouted = auto()
    dead = auto()
    waiting = auto()
    retrying = auto()
    stale = auto()
    deferred_login = auto()
    deferred_unreachable = auto()
    deferred_without_token = auto()
    deferred_given_back = auto()
    deferred = auto()
    outside_entities = auto()
    absent_at_source = auto()
    no_news = auto()
    deleted = auto()
    deletion_held = auto()
    outside_window = auto()
    listing_incomplete = auto()
    product_accepted = auto()
    product_refused = auto()
    product_unreachable = auto()
    product_gone = auto()
    forward_waiting = auto()
    forward_gave_up = auto()
    feed_unread = auto()
    not_recorded = auto()
    baseline = auto()
    disconnected = auto()
    not_connected = auto()
    login_lost = auto()
    system_unreachable = auto()
    entity_failing = auto()
    entity_not_offered = auto()
    never_polled = auto()
    never_seen = auto()
    notified = auto()
    muted = auto()
    silenced = auto()
    quiet_hours = auto()
    held_alike = auto()
    held_checked = auto()
    held_lasting = auto()
    merged = auto()
    never_notified = auto()
    slack_unconfigured = auto()
    message_dead = auto()
    message_waiting = auto()
    message_suppressed = auto()


@dataclass(frozen=True, slots=True)
class Hop:
    """One station: whether it was reached, when, and what shows it."""

    name: HopName
    state: HopState
    text: str
    at: datetime | None = None
    evidence: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The missing hop, whose it is and what to do."""

    cause: Cause
    missing: HopName | None
    owner: Party
    summary: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The way of one subject."""

    kind: Kind
    subject: str
    title: str
    hops: tuple[Hop, ...]
    verdict: Diagnosis
    limits: tuple[str, ...] = ()
    """Where the records end, and what can't be known."""
    ids: dict[str, str] = field(default_factory=dict)
    """The ids of what the explanation names: connection, event, change, incident."""

    def answer(self) -> "ExplanationAnswer":
        """The answer of `GET /api/explain` and of `--json`."""
        return ExplanationAnswer(
            kind=self.kind,
            subject=self.subject,
            title=self.title,
            cause=self.verdict.cause,
            missing=self.verdict.missing,
            owner=self.verdict.owner,
            summary=self.verdict.summary,
            next_step=self.verdict.next_step,
            hops=[
                HopAnswer(
                    hop=hop.name, state=hop.state, at=hop.at, text=hop.text, evidence=hop.evidence
                )
                for hop in self.hops
            ],
            limits=list(self.limits),
            ids=self.ids,
        )


class HopAnswer(Answer):
    """One station of the way."""

    hop: HopName
    state: HopState
    at: UtcTime | None
    text: str
    evidence: dict[str, str]


class ExplanationAnswer(Answer):
    """The way of one subject, and the hop that is missing."""

    kind: Kind
    subject: str
    title: str
    cause: Cause
    missing: HopName | None
    owner: Party = Field(description="Whose the missing hop is")
    summary: str
    next_step: str
    hops: list[HopAnswer]
    limits: list[str] = Field(description="Where the records end, and what can't be known")
    ids: dict[str, str]
