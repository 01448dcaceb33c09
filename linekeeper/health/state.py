"""What is observed of a connection, and what is remembered of it between two observations. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter


class Health(StrEnum):
    """The health axis. `unknown` counts as unhealthy once a connection is live."""

    healthy = "healthy"
    degraded = "degraded"
    unreachable = "unreachable"
    reauthorization_required = "reauthorization_required"
    inactive = "inactive"
    unknown = "unknown"


class Evidence(StrEnum):
    """How strong the evidence of a health is; each is stronger than the one before."""

    listed = "listed"
    """Makini's list of connections is all there is to judge by."""
    probed = "probed"
    """Makini answered a status call with the connection's own token, from what it had cached."""
    read = "read"
    """A record was asked for with the connection's own token, not longer ago than a login check."""


class Outcome(StrEnum):
    """What an observation says."""

    answered = "answered"
    """The connection answered and its data flows, or is about to."""
    login_restored = "login_restored"
    """Makini says that the customer logged in again."""
    sync_failing = "sync_failing"
    """It answered, but its last sync ended in an error that is not the login."""
    login_lost = "login_lost"
    """`sync_status` fail, an auth-required event, or a 401 that nothing of ours mends."""
    doubted = "doubted"
    """A call was refused with a token that may be an old one."""
    missed = "missed"
    """No usable answer: time-out, network, 5xx, garbage."""
    unclear = "unclear"
    """It answered, but nothing of its state: 404, or JSON of another shape."""
    refused = "refused"
    """It answered 403: not enough credits, or not allowed."""
    strange = "strange"
    """It answered with a status nobody knows."""
    listed = "listed"
    """What Makini's list says of it; the word is in `Observation.lifecycle`."""


SEVERITY = {
    Health.healthy: 0,
    Health.degraded: 1,
    Health.unknown: 2,
    Health.inactive: 3,
    Health.unreachable: 4,
    Health.reauthorization_required: 5,
}
"""Higher is worse; a rise makes a sweep red again."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Something learned about a connection: what, from whom, when (UTC)."""

    at: datetime
    source: str
    """`list`, `probe`, `read`, `webhook`, `product`, `reconnect`, `reconcile`, `operator`."""
    outcome: Outcome
    lifecycle: str = ""
    """With `listed`: pending, synchronizing, in_progress, active, inactive, unknown."""
    decisive: bool = False
    """With `listed`: there is no token, so the list is all there is to judge by."""
    unread: bool = False
    """Nothing may be read with the connection's token, so no contradiction can be settled."""
    unknown_there: bool = False
    """Makini, asked for a new token, said that it doesn't know the connection."""
    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    latency: float | None = None
    """Seconds."""
    sync_status: str | None = None
    """Makini's word for its last synchronization, of a probe."""
    sync_updated_at: datetime | None = None
    connected_at: datetime | None = None
    """With `listed`: when the customer last connected it, where the list says so."""
    read_at: datetime | None = None
    """When a poll last read one of its entities to the end, as far as is known."""
    called: str = ""
    """What the connection's own status calls it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is held of a connection: its health and what later judgements need to remember."""

    health: Health = Health.unknown
    own: Health = Health.unknown
    """What the connection itself last showed, before the list caps it."""
    lifecycle: str = ""
    misses: int = 0
    observed_at: datetime | None = None
    falls: tuple[datetime, ...] = ()
    """When it fell from healthy, within the flap window."""
    trouble_at: datetime | None = None
    """When it was last seen in trouble."""
    latencies: tuple[float, ...] = ()
    lost_by: str = ""
    """Who said that the login is lost, other than Makini's status: the source of an observation.
    Empty once the status agreed, or something stronger said that the login works."""
    lost_at: datetime | None = None
    stated_at: datetime | None = None
    """When something stronger than a cached word last spoke of it: an event, a read, a login."""
    restored_at: datetime | None = None
    """When the customer last logged in, or Makini last said so."""
    refusals: int = 0
    """Calls that the product reported as refused, since something stronger said otherwise."""
    refused_at: datetime | None = None
    disputed: bool = False
    """The evidence contradicts itself, and nothing may be read to settle it."""
    evidence: Evidence | None = None
    """How strong the evidence of the present health is; None before there is any."""
    read_at: datetime | None = None
    """When a record was last read with the connection's own token."""
    tried_at: datetime | None = None
    """When a read was last tried to find out about the login."""
    asked_at: datetime | None = None
    """When it was last asked itself, or for a token, whatever came of it."""
    replied_at: datetime | None = None
    """When something readable last came of that: well or refused, but no time-out, 5xx or HTML."""

    @property
    def suspect(self) -> bool:
        """Whether the next sweep should look again, whatever its health."""
        lost = self.own is Health.reauthorization_required
        doubted = self.refusals > 0 or (bool(self.lost_by) and not lost)
        return self.misses > 0 or self.own is Health.unknown or doubted


_JUDGED = TypeAdapter(Judged)


def dump(judged: Judged) -> dict[str, Any]:
    """`judged` as JSON for the table `connection`."""
    dumped: dict[str, Any] = _JUDGED.dump_python(judged, mode="json")
    return dumped


def load(row: dict[str, Any]) -> Judged:
    """The inverse of `dump`; an empty row is a connection nobody has judged yet.

    A row of an earlier version lacks what was not remembered then.
    """
    return _JUDGED.validate_python(row)
