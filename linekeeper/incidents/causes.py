"""Which troubles have one root cause: alike in app, provider, kind or moment. Pure."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row

from linekeeper.config import HealthPolicy
from linekeeper.store.tables import Incident

Scope = Literal["connection", "provider", "app"]
ROOT_CAUSE_WAIT = timedelta(seconds=20)
"""A lost login that follows another of its provider by less is held back for so long."""
LOST = "reauthorization_required"

_MISSED = "unreachable"
"""The kind that connections are on the way to while they are suspect."""
_APP_SHARE = 0.02
"""Of several providers' connections so many at one moment are the app's trouble."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A connection in trouble: `kind` is its health, `since` when it became that."""

    connection_id: str
    app: str
    provider: str
    kind: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """One root cause of several connections' trouble."""

    scope: Scope
    app: str
    provider: str
    kind: str
    members: frozenset[str]


def find_causes(
    troubles: Collection[Trouble],
    totals: Mapping[tuple[str, str], int],
    suspects: Mapping[tuple[str, str], int],
    policy: HealthPolicy,
) -> Sequence[Cause]:
    """The root causes behind `troubles`, the widest first.

    One is seen in at least `root_cause_members` connections of a provider that fail alike, if
    they are `root_cause_share` of them, those suspect counted in; or if that many fell within
    `root_cause_minutes`. It is the app's if the same holds beyond the provider that is hit most.
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
    for (app, kind), some in sorted(of_app.items()):
        more = doubts[app] if kind == _MISSED else 0
        providers = {trouble.provider for trouble in some} | (doubtful[app] if more else set())
        if len(providers) < 2:
            continue
        hit = Counter({p: n for (a, p), n in suspects.items() if a == app} if more else {})
        hit.update(trouble.provider for trouble in some)
        worst, most = max(hit.items(), key=lambda entry: (entry[1], entry[0]))
        others = len(some) + more - most
        elsewhere = sizes[app] - totals.get((app, worst), 0)
        wide = others >= elsewhere * policy.root_cause_share
        if wide and _is_share(len(some) + more, sizes[app], policy):
            causes.append(Cause("app", app, "", kind, _ids(some)))
            continue
        least = max(policy.root_cause_members, round(sizes[app] * _APP_SHARE))
        together = _at_one_moment(some, least, policy)
        hit = Counter(trouble.provider for trouble in together)
        if hit and hit.total() - max(hit.values()) >= policy.root_cause_members:
            causes.append(Cause("app", app, "", kind, _ids(together)))
    for (app, provider, kind), some in sorted(of_provider.items()):
        more = suspects.get((app, provider), 0) if kind == _MISSED else 0
        if _is_share(len(some) + more, totals.get((app, provider), 0), policy):
            causes.append(Cause("provider", app, provider, kind, _ids(some)))
        elif together := _at_one_moment(some, policy.root_cause_members, policy):
            causes.append(Cause("provider", app, provider, kind, _ids(together)))
    return causes


def _is_share(count: int, total: int, policy: HealthPolicy) -> bool:
    return count >= policy.root_cause_members and count >= total * policy.root_cause_share


def _at_one_moment(troubles: Iterable[Trouble], least: int, policy: HealthPolicy) -> list[Trouble]:
    """Those that fell with at least `least - 1` others within the policy's minutes."""
    dated = sorted(
        (
            (trouble.since, trouble.connection_id, trouble)
            for trouble in troubles
            if trouble.since is not None
        ),
        key=lambda entry: entry[:2],
    )
    within = timedelta(minutes=policy.root_cause_minutes)
    found: dict[str, Trouble] = {}
    start = 0
    for end, (since, _, _) in enumerate(dated):
        while since - dated[start][0] > within:
            start += 1
        if end - start + 1 >= least:
            found |= {identifier: trouble for _, identifier, trouble in dated[start : end + 1]}
    return list(found.values())


def _ids(troubles: Iterable[Trouble]) -> frozenset[str]:
    return frozenset(trouble.connection_id for trouble in troubles)


def heads(incidents: Sequence[Incident | Row[Any]]) -> dict[str, str]:
    """For lost logins, each alone, that follow another of their provider: the first of the row.

    Makini tells of them one by one; whoever doesn't answer is suspected for a while first. Pure.
    """
    last: dict[tuple[str, str], tuple[datetime, str]] = {}
    found: dict[str, str] = {}
    for incident in sorted(incidents, key=lambda other: (other.opened_at, other.id)):
        is_lost = (incident.scope, incident.kind) == (
            "connection",
            LOST,
        ) and incident.resolved_at is None
        if not is_lost or not incident.provider:
            continue
        where = (incident.app, incident.provider)
        before, head = last.get(where, (datetime.min.replace(tzinfo=incident.opened_at.tzinfo), ""))
        if incident.opened_at - before < ROOT_CAUSE_WAIT:
            found[incident.id] = head
        else:
            head = incident.id
        last[where] = incident.opened_at, head
    return found
