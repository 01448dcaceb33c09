"""What several connections' trouble has in common: one customer, one provider, or the app. Pure.

One root cause is one incident (INTERFACE "Policy defaults"). Whatever is rather one customer's than
that of its providers, or of the app, is the customer's.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from linekeeper.config import HealthPolicy

Scope = Literal["connection", "customer", "provider", "app"]

_MISSED = "unreachable"
"""The kind that connections are on the way to while they are suspect."""
_APP_SHARE = 0.02
"""This share of several providers' connections at one moment is the app's trouble."""
LEAST_SHARE = 2 / 3
"""The share of an incident's connections from which on one customer has nearly all of them."""


class ProviderCounts(NamedTuple):
    """Of a customer's connections of one provider: how many are set up, and how many suspect."""

    total: int
    suspect: int = 0


@dataclass(frozen=True, slots=True)
class Trouble:
    """A connection in trouble: `kind` is its health, `since` when it became that."""

    connection_id: str
    app: str
    provider: str
    kind: str
    since: datetime | None = None
    customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class RootCause:
    """One root cause of several connections' trouble."""

    scope: Scope
    app: str
    provider: str
    kind: str
    members: frozenset[str]
    customer_id: str | None = None


Customers = Mapping[tuple[str, str], Mapping[str, ProviderCounts]]
"""By (app, customer): how their connections of each provider stand."""
_NOBODY: Customers = {}


def find_causes(
    troubles: Collection[Trouble],
    totals: Mapping[tuple[str, str], int],
    suspects: Mapping[tuple[str, str], int],
    policy: HealthPolicy,
    customers: Customers = _NOBODY,
) -> Sequence[RootCause]:
    """The root causes behind `troubles`, the widest first.

    One is seen in at least `root_cause_members` connections of a provider that fail alike, if
    they are `root_cause_share` of them, those suspect counted in; or in `root_cause_together` that
    fell within `root_cause_minutes`. It is the app's if the same holds beyond the worst provider.
    Before that it is a customer's, if it is so many of the customer's, and hardly anybody else's.
    """
    of_customers = _of_customers(troubles, totals, suspects, policy, customers)
    if of_customers:  # what customers of different providers have at one moment is the app's
        wide = _beyond_customers(troubles, totals, suspects, policy)
        of_customers = [cause for cause in of_customers if not _is_minor_part(cause, wide)]
    explained = {(cause.kind, member) for cause in of_customers for member in cause.members}
    rest = [each for each in troubles if (each.kind, each.connection_id) not in explained]
    left = Counter(suspects)
    for cause in of_customers:
        for provider, standing in customers[cause.app, cause.customer_id or ""].items():
            left[cause.app, provider] -= standing.suspect if cause.kind == _MISSED else 0
    return [*_beyond_customers(rest, totals, left, policy), *of_customers]


def _of_customers(
    troubles: Collection[Trouble],
    totals: Mapping[tuple[str, str], int],
    suspects: Mapping[tuple[str, str], int],
    policy: HealthPolicy,
    customers: Customers,
) -> Sequence[RootCause]:
    """The causes that are a customer's: the systems of the same providers that others have are
    mostly well; where nobody else has any of several providers, whatever others have."""
    of_customer: defaultdict[tuple[str, str, str], list[Trouble]] = defaultdict(list)
    hit: Counter[tuple[str, str, str]] = Counter()
    for trouble in troubles:
        hit[trouble.app, trouble.provider, trouble.kind] += 1
        if trouble.customer_id is not None:
            of_customer[trouble.app, trouble.kind, trouble.customer_id].append(trouble)
    causes = []
    for (app, kind, customer_id), theirs in sorted(of_customer.items()):
        standings = customers.get((app, customer_id), {})
        counts_suspects = kind == _MISSED
        extra = sum(each.suspect for each in standings.values()) if counts_suspects else 0
        total = sum(each.total for each in standings.values())
        if not standings or not _is_share(len(theirs) + extra, total, policy):
            continue
        products = {trouble.provider for trouble in theirs}
        beside = products
        if len(products) > 1 and not _of_others(app, products, totals, standings):
            beside = {provider for name, provider in totals if name == app}
        others = _of_others(app, beside, totals, standings)
        others_hit = sum(hit[app, provider, kind] for provider in beside)
        if counts_suspects:
            others_hit += sum(suspects.get((app, provider), 0) for provider in beside)
            others_hit -= sum(each.suspect for name, each in standings.items() if name in beside)
        if is_of_customer(len(theirs) + extra, others_hit - len(theirs), others):
            causes.append(RootCause("customer", app, "", kind, _ids(theirs), customer_id))
    return causes


def _of_others(
    app: str,
    providers: Collection[str],
    totals: Mapping[tuple[str, str], int],
    standings: Mapping[str, ProviderCounts],
) -> int:
    """How many connections of `providers` are not the customer's with these `standings`."""
    everybodys = sum(totals.get((app, provider), 0) for provider in providers)
    return everybodys - sum(each.total for name, each in standings.items() if name in providers)


def _is_minor_part(cause: RootCause, wide: Iterable[RootCause]) -> bool:
    """Whether it is a part of what the whole app has, and not nearly all of that. Pure."""
    return any(
        (each.scope, each.app, each.kind) == ("app", cause.app, cause.kind)
        and cause.members & each.members
        and len(cause.members) < len(each.members) * LEAST_SHARE
        for each in wide
    )


def is_of_customer(hit: int, others_hit: int, others: int) -> bool:
    """Whether what `hit` so many connections of one customer is rather theirs than that of their
    provider, or the app, where `others_hit` of the `others` are of other customers. Pure."""
    mostly_theirs = hit >= (hit + others_hit) * LEAST_SHARE
    return mostly_theirs and others_hit * 2 < others


def _beyond_customers(
    troubles: Collection[Trouble],
    totals: Mapping[tuple[str, str], int],
    suspects: Mapping[tuple[str, str], int],
    policy: HealthPolicy,
) -> Sequence[RootCause]:
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
        outside = sizes[app] - totals.get((app, worst), 0)
        wide = others >= outside * policy.root_cause_share
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
