"""What is observed of a connection, what is remembered of it, and what outweighs what. Pure.

Makini's status and its list are words it had cached: they may lag behind the truth by a
synchronization (MAKINI "Found since"). So a good one doesn't undo a dated word that the login is
lost (an event, a refused read, the product's refused calls), nor does a `fail` from before the
customer logged in, or before a record was last read, say at once that it is lost. A read with the
connection's own token settles it; where nothing may be read the health is `unknown`.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from linekeeper.config import HealthPolicy
from linekeeper.makini import OTHER_SHAPE


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
    """`sync_status` fail, an auth-required event, or a 401 that nothing of ours fixes."""
    doubted = "doubted"
    """A call was refused with a token that may be an old one."""
    missed = "missed"
    """No usable answer: time-out, network, 5xx, garbage."""
    unclear = "unclear"
    """It answered, but nothing of its state: 403, 404, another shape, an unrenewed token."""
    refused = "refused"
    """Makini's event says that it is inactive."""
    strange = "strange"
    """It answered with a status nobody knows."""
    listed = "listed"
    """What Makini's list says of it; the word is in `Observation.lifecycle`."""


TOKEN_REFUSED = "token_refused"  # noqa: S105 - the cause: no other is given either
GOOD = (Outcome.answered, Outcome.sync_failing)
SEVERITY = {
    Health.healthy: 0,
    Health.degraded: 1,
    Health.unknown: 2,
    Health.inactive: 3,
    Health.unreachable: 4,
    Health.reauthorization_required: 5,
}
"""Higher is worse; a rise makes a sweep red again."""
FALLEN = frozenset(each for each in Health if SEVERITY[each] > SEVERITY[Health.degraded])


class Observation(msgspec.Struct, frozen=True):
    """Something learned about a connection: what, from whom, when (UTC)."""

    at: datetime
    source: str
    """`list`, `probe`, `read`, `webhook`, `product`, `reconnect`, `reconcile`, `operator`."""
    outcome: Outcome
    lifecycle: str = ""
    """What `listed` says: pending, synchronizing, in_progress, active, inactive, unknown."""
    decisive: bool = False
    """Whether, with `listed`, there is no token, so that the list is all there is to judge by."""
    unread: bool = False
    """Nothing may be read with the connection's token, so no contradiction can be settled."""
    unknown_there: bool = False
    """Makini, asked for a new token, said that it doesn't know the connection."""
    unrenewed: bool = False
    """Makini refuses its token, and gave no answer when asked for another."""
    tried: bool = False
    """It was to be probed, and had no token to ask with."""
    needs_login: bool = False
    """There is no token, and nothing but a login brings one: Makini was asked, and mints none."""
    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    latency: float | None = None
    """Seconds."""
    sync_status: str | None = None
    """Makini's word for its last synchronization, of a probe."""
    sync_updated_at: datetime | None = None
    connected_at: datetime | None = None
    """When the customer last connected it, where `listed` says so."""
    read_at: datetime | None = None
    """When a poll last read one of its entities to the end, as far as is known."""
    called: str = ""
    """What the connection's own status calls it."""
    login_at: datetime | None = None
    """When the customer logged in, where it is the status of that login."""

    @property
    def is_good_event(self) -> bool:
        """Whether it is Makini's event that a sync ended, well or not, or that all is well."""
        return self.source == "webhook" and self.outcome in GOOD

    @property
    def is_back(self) -> bool:
        """Whether it is Makini's event that it works again: of a sync it comes all the time."""
        return self.is_good_event and self.outcome is Outcome.answered and not self.sync_updated_at


class Judged(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is held of a connection: its health and what later judgements need to remember."""

    health: Health = Health.unknown
    own: Health = Health.unknown
    """What the connection itself last showed, before the list caps it."""
    lifecycle: str = ""
    misses: int = 0
    observed_at: datetime | None = None
    degraded_by: str = ""
    """The one cause, while it is degraded: `sync_failing`, `sync_stale`, `slow` or `flapping`."""
    unknown_by: str = ""  # why it is unknown, where that has a name: TOKEN_REFUSED
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
    """When the customer last logged in, or Makini or a read said that a lost login works."""
    connected_at: datetime | None = None  # the customer did, as the list says
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
    failing_since: datetime | None = None
    """Since when Makini's status says `fail` of a login that is held for good."""
    syncing_since: datetime | None = None
    """Since when its status said that it is being read, before it ever said that it was."""
    synced_at: datetime | None = None  # when its status first said that it was read to the end
    replied_at: datetime | None = None
    """When something readable last came of that: well or refused, but no time-out, 5xx or HTML."""
    token_missing_since: datetime | None = None
    """Since when its token is missing, where it took a connection's place (`token_missing`)."""
    denied_since: datetime | None = None
    denied_at: datetime | None = None
    """Since when, and when last, Makini said it doesn't know it; None once it answered since."""

    @property
    def suspect(self) -> bool:
        """Whether the next sweep should look again, whatever its health."""
        lost = self.own is Health.reauthorization_required
        doubted = self.refusals > 0 or self.failing_since is not None
        doubted = doubted or (bool(self.lost_by or self.token_missing_since) and not lost)
        return self.misses > 0 or self.own is Health.unknown or doubted


def load(row: dict[str, Any]) -> Judged:
    """What the table `connection` holds as JSON; an empty row is one that nobody has judged yet.

    A row of an earlier version lacks what was not remembered then.
    """
    return msgspec.convert(row, Judged)


CACHED = ("list", "probe")
"""Sources that repeat what Makini had cached."""
OURS = (*CACHED, "read")
"""Sources dated by our own clock, to the microsecond."""
CALLS = ("probe", "read", "reconcile")
"""Sources that call with the connection's own token."""
LAG_AFTER_LOGIN = timedelta(hours=1)
"""So long after a login a `fail` may be of a synchronization that had begun before it, whatever
its date says, and is if it has none: a read settles it."""


def is_late(observation: Observation, judged: Judged) -> bool:
    """Whether `observation` is older than what the connection was last judged by.

    Two times are compared as finely as the coarser of them is given, so a sender's whole second is
    not older than a probe within it. The sender's word wins such a tie.
    """
    if observation.outcome is Outcome.doubted and observation.source not in OURS:
        # A status probed since says nothing of a call that was refused before it.
        good = [at for at in (judged.read_at, judged.restored_at) if at is not None]
        return bool(good) and observation.at < max(good)
    return is_older(observation.at, judged.observed_at, ours=observation.source in OURS)


def is_readable(observation: Observation) -> bool:
    """Whether Makini's answer says something of the connection, be it that it refuses the call."""
    return observation.outcome is not Outcome.missed and observation.code != OTHER_SHAPE


def is_older(at: datetime, than: datetime | None, *, ours: bool) -> bool:
    """Whether `at` is before `than`; `ours` tells a time of our own clock from a sender's."""
    if than is None:
        return False
    mine, theirs = _grain(at), _grain(than)
    grain = max(mine, theirs)
    left, right = _floor(at, grain), _floor(than, grain)
    if left != right:
        return left < right
    return ours and theirs > mine


def _floor(at: datetime, grain: int) -> datetime:
    return at.replace(microsecond=at.microsecond // grain * grain)


def _grain(at: datetime) -> int:
    """How finely `at` is given, in microseconds."""
    if at.microsecond == 0:
        return 1_000_000
    return 1_000 if at.microsecond % 1_000 == 0 else 1


def unit_of(at: datetime) -> timedelta | None:
    """The minute, hour or day to which the time of an event may have been cut; None for neither.

    A sender that gives whole days says of every event that it was before whatever we did that day.
    One in sixty whole minutes, and the rare whole day, is none that was cut: all that costs is a
    read.
    """
    if at.microsecond or at.second:
        return None
    if at.minute:
        return timedelta(minutes=1)
    return timedelta(hours=1) if at.hour else timedelta(days=1)


def cut_alike(at: datetime, like: datetime) -> datetime:
    """`at`, cut to the unit to which `like` may have been."""
    unit = unit_of(like)
    if unit is None:
        return at
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // unit * unit


def contradicts(judged: Judged, observation: Observation, policy: HealthPolicy) -> bool:
    """Whether a cached word says the opposite of something dated that we know of the login."""
    if observation.source == "reconnect":
        return _is_before_login(judged, observation) or _is_lost_since(judged, observation)
    if observation.source not in CACHED:
        return False
    if observation.outcome is Outcome.login_lost:
        return _is_leftover(judged, observation) or _is_outdated(judged, observation)
    if observation.outcome in GOOD or _is_listed_active(observation):
        return _is_claimed_lost(judged, observation, policy)
    return False


def _is_before_login(judged: Judged, observation: Observation) -> bool:
    """Whether the status that a new login is asked for says `fail` of what is held to work.

    It had said so before the customer logged in; the next sweep settles it with a read.
    """
    lost = judged.own in (Health.reauthorization_required, Health.unknown)
    return observation.sync_status == "fail" and not lost


def _is_lost_since(judged: Judged, observation: Observation) -> bool:
    """Whether a refused read, or Makini's event, says that the login was lost again after it came.

    An event may be of the loss before, if its time is cut, or it comes late and has none: the next
    sweep settles it with a read.
    """
    login_at, lost_at = observation.login_at, judged.lost_at
    if observation.outcome not in GOOD or login_at is None or lost_at is None:
        return False
    return not is_older(lost_at, cut_alike(login_at, lost_at), ours=False)


def _is_leftover(judged: Judged, observation: Observation) -> bool:
    """Whether a status `fail` may be of a synchronization before the customer logged in."""
    back = judged.restored_at
    if observation.sync_status != "fail" or back is None:
        return False
    if observation.sync_updated_at is None:
        return observation.at - back < LAG_AFTER_LOGIN
    return observation.sync_updated_at - back < LAG_AFTER_LOGIN


def _is_outdated(judged: Judged, observation: Observation) -> bool:
    """Whether a status `fail` is from before a record was read with the login.

    One that lasts, or that comes of a later synchronization, is believed: reads may be answered
    from what Makini had cached.
    """
    reads = [at for at in (judged.read_at, observation.read_at) if at is not None]
    failed, since = observation.sync_updated_at, judged.failing_since
    if observation.sync_status != "fail" or observation.unread or failed is None or not reads:
        return False
    if judged.own is Health.reauthorization_required or failed >= max(reads):
        return False
    return since is None or (failed <= since and observation.at - since < LAG_AFTER_LOGIN)


def _is_claimed_lost(judged: Judged, observation: Observation, policy: HealthPolicy) -> bool:
    said = [at for at in (judged.lost_at, judged.refused_at) if at is not None]
    if said and observation.connected_at is not None and observation.connected_at > max(said):
        return False  # the customer connected it again since
    if judged.lost_by:
        synced, lost = observation.sync_updated_at, judged.lost_at
        lag = timedelta(hours=policy.stale_sync_hours)
        # No synchronization takes longer to be seen: this one began with a login that works.
        outlived = synced is not None and lost is not None and synced - lost > lag
        return not outlived or (judged.lost_by in CALLS and not observation.unread)
    if judged.refusals < policy.failing_calls or judged.refused_at is None:
        return False
    return observation.at - judged.refused_at <= timedelta(minutes=policy.failing_minutes)


def _is_listed_active(observation: Observation) -> bool:
    is_decisive = observation.outcome is Outcome.listed and observation.decisive
    return is_decisive and observation.lifecycle == "active"
