"""Which incidents there should be, given who is in trouble. Pure, total, repeatable.

`decide` compares what is with what is open and returns the steps between: deciding twice in the
same state gives nothing to do, so a crash or a second process can neither lose an incident nor
open one twice. One root cause is one incident (INTERFACE "Policy defaults"): connections of one
provider, or of one app, that fail alike; it starts as the incident of the first of them and grows,
so that people see one message that is edited.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from linekeeper.config import HealthPolicy

Scope = Literal["connection", "provider", "app"]

_MISSED = "unreachable"
"""The kind that connections are on the way to while they are suspect."""
_APP_SHARE = 0.02
"""This share of several providers' connections at one moment is the app's trouble."""
DISCONNECTED = "disconnected"
"""The kind of a connection that disappeared at Makini; no health, and it follows from none."""
_WIDTH: dict[str, int] = {"connection": 0, "provider": 1, "app": 2}
_NOBODY: Mapping[tuple[str, str], int] = {}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A connection in trouble: `kind` is its health, `since` when it became that."""

    connection_id: str
    app: str
    provider: str
    kind: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class RootCause:
    """One root cause of several connections' trouble."""

    scope: Scope
    app: str
    provider: str
    kind: str
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class Open:
    """An unresolved incident about connections, with its live members and their kinds."""

    id: str
    scope: Scope
    kind: str
    app: str
    provider: str
    opened_at: datetime
    members: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Past:
    """The resolved incident a connection was in last; `kind` as it was then."""

    incident_id: str
    scope: Scope
    kind: str
    resolved_at: datetime


@dataclass(slots=True)
class Draft:
    """What an incident should look like. `id` is None for one to open."""

    id: str | None
    scope: Scope
    kind: str
    app: str
    provider: str
    members: dict[str, str] = field(default_factory=dict)
    reopen: bool = False
    merged: list[str] = field(default_factory=list)
    """Incidents whose members moved here; they are resolved."""

    @property
    def cause(self) -> str:
        """Unique among open incidents (table `incident`)."""
        if self.scope == "app":
            return f"app:{self.app}:{self.kind}"
        if self.scope == "provider":
            return f"provider:{self.app}:{self.provider}:{self.kind}"
        return f"connection:{next(iter(self.members))}:health"


@dataclass(frozen=True, slots=True)
class IncidentDecision:
    """The incidents to open or change, and the ids of those that are over."""

    wanted: Sequence[Draft]
    resolved: Sequence[str]


def decide(
    troubles: Collection[Trouble],
    opened: Collection[Open],
    *,
    past: Mapping[str, Past],
    totals: Mapping[tuple[str, str], int],
    policy: HealthPolicy,
    now: datetime,
    suspects: Mapping[tuple[str, str], int] = _NOBODY,
) -> IncidentDecision:
    """Return which incidents to open, change, merge and resolve.

    `past` holds, by connection, the resolved incident it was in last; `totals` the number of
    connections that are set up, by (app, provider); `suspects` those of them that don't answer
    but are not in trouble yet, so that an outage is one incident from its first connection on.
    """
    causes = find_causes(troubles, totals, suspects, policy)
    incidents = {
        each.id: Draft(each.id, each.scope, each.kind, each.app, each.provider) for each in opened
    }
    before = {incident.id: incident for incident in opened}
    in_trouble = {trouble.connection_id: trouble for trouble in troubles}
    placed: set[str] = set()
    for incident in opened:
        for connection_id in incident.members:
            trouble = in_trouble.get(connection_id)
            if trouble is None or not _belongs(incident, trouble):
                continue
            incidents[incident.id].members[connection_id] = trouble.kind
            placed.add(connection_id)
    new: list[Draft] = []
    for trouble in sorted(in_trouble.values(), key=lambda item: item.connection_id):
        if trouble.connection_id in placed:
            continue
        last = past.get(trouble.connection_id)
        since = now - timedelta(minutes=policy.reopen_minutes)
        if last is not None and last.resolved_at < since:
            last = None
        home = _wider(trouble, incidents, in_trouble, causes, policy)
        home = home or _reopened(trouble, last, incidents)
        if home is None:
            home = Draft(None, "connection", trouble.kind, trouble.app, trouble.provider)
            new.append(home)
        elif home.id is not None and home.id not in incidents:
            incidents[home.id] = home
        home.members[trouble.connection_id] = trouble.kind
    everything = [*incidents.values(), *new]
    _group(everything, causes, before)
    for wanted in everything:
        if wanted.members and wanted.scope == "connection":
            wanted.kind = next(iter(wanted.members.values()))
    merged = {loser for wanted in everything for loser in wanted.merged}
    return IncidentDecision(
        [wanted for wanted in everything if wanted.members and not _same(wanted, before)],
        [
            incident_id
            for incident_id in before
            if not incidents[incident_id].members and incident_id not in merged
        ],
    )


def _belongs(incident: Open, trouble: Trouble) -> bool:
    """Whether a member stays: a connection's own incident follows it, a wider one is of a kind."""
    if DISCONNECTED in (incident.kind, trouble.kind):
        return trouble.kind == incident.kind
    return incident.scope == "connection" or trouble.kind == incident.kind


def _wider(
    trouble: Trouble,
    incidents: Mapping[str, Draft],
    in_trouble: Mapping[str, Trouble],
    causes: Sequence[RootCause],
    policy: HealthPolicy,
) -> Draft | None:
    """The wider incident that a connection newly in trouble belongs to, if there is one.

    It takes the connection if its cause reaches so far, or if its last member fell not long ago:
    what falls alone hours after the others has a cause of its own.
    """
    recently = timedelta(minutes=policy.reopen_minutes)
    for wanted in sorted(incidents.values(), key=lambda incident: -_WIDTH[incident.scope]):
        alike = wanted.kind == trouble.kind and wanted.app == trouble.app
        wide = wanted.scope == "app" or (
            wanted.scope == "provider" and wanted.provider == trouble.provider
        )
        if not (alike and wide):
            continue
        fell = [at for member in wanted.members if (at := in_trouble[member].since) is not None]
        if (
            trouble.since is None
            or not fell
            or trouble.since - max(fell) <= recently
            or any(
                cause.scope == wanted.scope and trouble.connection_id in cause.members
                for cause in causes
            )
        ):
            return wanted
    return None


def _reopened(trouble: Trouble, last: Past | None, incidents: Mapping[str, Draft]) -> Draft | None:
    """The incident that a connection newly in trouble was in before, if it goes on."""
    if last is None or last.incident_id in incidents or last.kind != trouble.kind:
        return None  # another trouble is another message
    return Draft(
        last.incident_id, last.scope, trouble.kind, trouble.app, trouble.provider, reopen=True
    )


def _group(
    everything: list[Draft], causes: Sequence[RootCause], before: Mapping[str, Open]
) -> None:
    """Merge incidents with one root cause into the oldest of them, whose message is kept."""
    for cause in causes:
        group = [
            wanted
            for wanted in everything
            if wanted.app == cause.app
            and set(wanted.members.values()) == {cause.kind}
            and (
                cause.scope == "app"
                or (wanted.scope != "app" and wanted.provider == cause.provider)
            )
            and (wanted.members.keys() <= cause.members or wanted.scope == cause.scope)
        ]
        _merge(group, cause.scope, cause.kind, before)


def _merge(group: list[Draft], scope: Scope, kind: str, before: Mapping[str, Open]) -> None:
    if not group or (len(group) == 1 and group[0].scope == scope):
        return

    def preference(incident: Draft) -> tuple[int, bool, str, bool, str]:
        name = incident.id or ""
        known = before.get(name)
        opened = known.opened_at.isoformat() if known else ""
        return -_WIDTH[incident.scope], known is None, opened, not incident.reopen, name

    keeper = min(group, key=preference)
    if _WIDTH[keeper.scope] > _WIDTH[scope]:
        return
    for wanted in group:
        if wanted is keeper:
            continue
        keeper.members.update(wanted.members)
        wanted.members.clear()
        if wanted.id is not None and not wanted.reopen:
            keeper.merged.append(wanted.id)
    keeper.scope, keeper.kind = scope, kind
    if scope == "app":
        keeper.provider = ""


def _same(wanted: Draft, before: Mapping[str, Open]) -> bool:
    known = before.get(wanted.id or "")
    return (
        known is not None
        and not wanted.merged
        and (known.scope, known.kind) == (wanted.scope, wanted.kind)
        and dict(known.members) == wanted.members
    )


def find_causes(
    troubles: Collection[Trouble],
    totals: Mapping[tuple[str, str], int],
    suspects: Mapping[tuple[str, str], int],
    policy: HealthPolicy,
) -> Sequence[RootCause]:
    """The root causes behind `troubles`, the widest first.

    One is seen in at least `root_cause_members` connections of a provider that fail alike, if
    they are `root_cause_share` of them, those suspect counted in; or in `root_cause_together` that
    fell within `root_cause_minutes`. It is the app's if the same holds beyond the worst provider.
    """
    of_app: dict[tuple[str, str], list[Trouble]] = defaultdict(list)
    of_provider: dict[tuple[str, str, str], list[Trouble]] = defaultdict(list)
    for trouble in troubles:
        of_app[trouble.app, trouble.kind].append(trouble)
        of_provider[trouble.app, trouble.provider, trouble.kind].append(trouble)
    sizes: Counter[str] = Counter()
    doubts: Counter[str] = Counter()
    doubtful: defaultdict[str, set[str]] = defaultdict(set)
    for (app, _), total in totals.items():
        sizes[app] += total
    for (app, provider), count in suspects.items():
        doubts[app] += count
        if count:
            doubtful[app].add(provider)
    causes = []
    for (app, kind), members in sorted(of_app.items()):
        extra = doubts[app] if kind == _MISSED else 0
        providers = {trouble.provider for trouble in members} | (doubtful[app] if extra else set())
        if len(providers) < 2:
            continue
        hit = Counter({p: n for (a, p), n in suspects.items() if a == app} if extra else {})
        hit.update(trouble.provider for trouble in members)
        worst, most = max(hit.items(), key=lambda entry: (entry[1], entry[0]))
        others = len(members) + extra - most
        elsewhere = sizes[app] - totals.get((app, worst), 0)
        wide = others >= elsewhere * policy.root_cause_share
        if wide and _is_share(len(members) + extra, sizes[app], policy):
            causes.append(RootCause("app", app, "", kind, _ids(members)))
            continue
        least = max(policy.root_cause_together, round(sizes[app] * _APP_SHARE))
        together = _at_one_moment(members, least, policy)
        hit = Counter(trouble.provider for trouble in together)
        if hit and hit.total() - max(hit.values()) >= policy.root_cause_members:
            causes.append(RootCause("app", app, "", kind, _ids(together)))
    for (app, provider, kind), members in sorted(of_provider.items()):
        extra = suspects.get((app, provider), 0) if kind == _MISSED else 0
        if _is_share(len(members) + extra, totals.get((app, provider), 0), policy):
            causes.append(RootCause("provider", app, provider, kind, _ids(members)))
        elif together := _at_one_moment(members, policy.root_cause_together, policy):
            causes.append(RootCause("provider", app, provider, kind, _ids(together)))
    return causes


def _is_share(count: int, total: int, policy: HealthPolicy) -> bool:
    return count >= policy.root_cause_members and count >= total * policy.root_cause_share


def _at_one_moment(troubles: Iterable[Trouble], least: int, policy: HealthPolicy) -> list[Trouble]:
    """Those that fell with at least `least - 1` others within the policy's minutes."""
    dated = sorted(
        ((each.since, each.connection_id, each) for each in troubles if each.since is not None),
        key=lambda entry: entry[:2],
    )
    within = timedelta(minutes=policy.root_cause_minutes)
    at_once: dict[str, Trouble] = {}
    start = 0
    for end, (since, _, _) in enumerate(dated):
        while since - dated[start][0] > within:
            start += 1
        if end - start + 1 >= least:
            at_once |= {identifier: trouble for _, identifier, trouble in dated[start : end + 1]}
    return list(at_once.values())


def _ids(troubles: Iterable[Trouble]) -> frozenset[str]:
    return frozenset(trouble.connection_id for trouble in troubles)
