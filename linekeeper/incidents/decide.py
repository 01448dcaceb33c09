"""Which incidents there should be, given who is in trouble. Pure, total, repeatable.

`decide` compares what is with what is open and returns the steps between: deciding twice in the
same state gives nothing to do, so a crash or a second process can neither lose an incident nor
open one twice. One root cause is one incident (`causes`); it starts as the incident of the first
connection and grows, so that people see one message that is edited.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from linekeeper.config import HealthPolicy
from linekeeper.incidents.causes import Customers, RootCause, Scope, Trouble, find_causes

DISCONNECTED = "disconnected"
"""The kind of a connection that disappeared at Makini; no health, and it follows from none."""
_WIDTH: dict[str, int] = {"connection": 0, "customer": 1, "provider": 2, "app": 3}
_WIDEST_FIRST: Sequence[Scope] = ("app", "provider", "customer")
_NOBODY: Mapping[tuple[str, str], int] = {}
_NO_CUSTOMERS: Customers = {}


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
    customer_id: str | None = None
    customers: frozenset[str | None] = frozenset()
    """Whose connections ever were in a wider incident in which there are one customer's now."""


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
    customer_id: str | None = None
    """Whose trouble it is, in the scope of a customer."""
    customers: frozenset[str | None] = frozenset()

    @property
    def cause(self) -> str:
        """Unique among open incidents (table `incident`)."""
        if self.scope == "connection":
            return f"connection:{next(iter(self.members))}:health"
        return _name(self, self.scope)


def _name(of: "Draft | Trouble | RootCause", scope: Scope) -> str:
    """What the incident of a wider cause is called that `of` belongs to, or is."""
    whose = {"app": "", "provider": f":{of.provider}", "customer": f":{of.customer_id}"}[scope]
    return f"{scope}:{of.app}{whose}:{of.kind}"


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
    customers: Customers = _NO_CUSTOMERS,
) -> IncidentDecision:
    """Return which incidents to open, change, merge and resolve.

    `past` holds, by connection, the resolved incident it was in last; `totals` the number of
    connections that are set up, by (app, provider); `suspects` those of them that don't answer
    but are not in trouble yet, so that an outage is one incident from its first connection on;
    `customers` how the connections stand of those customers who have several in trouble.
    """
    least = min(policy.root_cause_members, policy.root_cause_together)
    causes: Sequence[RootCause] = ()
    if len(troubles) + sum(suspects.values()) >= least:
        causes = find_causes(troubles, totals, suspects, policy, customers)
    incidents = {
        each.id: Draft(
            each.id,
            each.scope,
            each.kind,
            each.app,
            each.provider,
            customer_id=each.customer_id,
            customers=each.customers,
        )
        for each in opened
    }
    before = {incident.id: incident for incident in opened}
    in_trouble = {trouble.connection_id: trouble for trouble in troubles}
    wider = _Wider(incidents.values(), causes, policy)
    placed: set[str] = set()
    for incident in opened:
        for connection_id in incident.members:
            trouble = in_trouble.get(connection_id)
            if trouble is None or not _belongs(incident, trouble):
                continue
            wider.join(incidents[incident.id], trouble)
            placed.add(connection_id)
    new: list[Draft] = []
    for trouble in sorted(in_trouble.values(), key=lambda item: item.connection_id):
        if trouble.connection_id in placed:
            continue
        last = past.get(trouble.connection_id)
        since = now - timedelta(minutes=policy.reopen_minutes)
        if last is not None and last.resolved_at < since:
            last = None
        home = wider.of(trouble) or _reopened(trouble, last, incidents, wider)
        if home is None:
            home = Draft(None, "connection", trouble.kind, trouble.app, trouble.provider)
            new.append(home)
        elif home.id is not None and home.id not in incidents:
            incidents[home.id] = home
            wider.add(home)
        wider.join(home, trouble)
    everything = [*incidents.values(), *new]
    _group(everything, causes, before)
    for wanted in everything:
        if wanted.members and wanted.scope == "connection":
            wanted.kind = next(iter(wanted.members.values()))
    _take_in(everything, opened)
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
    if incident.scope == "customer" and trouble.customer_id != incident.customer_id:
        return False
    return incident.scope == "connection" or trouble.kind == incident.kind


class _Wider:
    """The incidents of more than a connection, by what they are called.

    One takes a connection newly in trouble if its cause reaches so far, or if its last member fell
    not long ago: what falls alone hours after the others has a cause of its own.
    """

    def __init__(
        self, incidents: Iterable[Draft], causes: Sequence[RootCause], policy: HealthPolicy
    ) -> None:
        self._recently = timedelta(minutes=policy.reopen_minutes)
        self._reached = {(cause.scope, member) for cause in causes for member in cause.members}
        self._by_name: dict[str, Draft] = {}
        self._last_fell: dict[str, datetime] = {}
        for incident in incidents:
            self.add(incident)

    def add(self, incident: Draft) -> None:
        if incident.scope != "connection":
            self._by_name[incident.cause] = incident

    def join(self, incident: Draft, trouble: Trouble) -> None:
        """Make the connection of `trouble` a member of `incident`, whatever its scope."""
        incident.members[trouble.connection_id] = trouble.kind
        if incident.scope != "connection" and (since := trouble.since) is not None:
            name = incident.cause
            self._last_fell[name] = max(since, self._last_fell.get(name, since))

    def of(self, trouble: Trouble) -> Draft | None:
        """The widest that a connection newly in trouble belongs to, if there is one."""
        for scope in _WIDEST_FIRST:
            name = _name(trouble, scope)
            last_fell = self._last_fell.get(name)
            if name in self._by_name and (
                trouble.since is None
                or last_fell is None
                or trouble.since - last_fell <= self._recently
                or (scope, trouble.connection_id) in self._reached
            ):
                return self._by_name[name]
        return None

    def has(self, cause: str) -> bool:
        """Whether one with this cause has members."""
        return cause in self._by_name and bool(self._by_name[cause].members)


def _reopened(
    trouble: Trouble, last: Past | None, incidents: Mapping[str, Draft], wider: _Wider
) -> Draft | None:
    """The incident that a connection newly in trouble was in before, if it goes on."""
    if last is None or last.incident_id in incidents or last.kind != trouble.kind:
        return None  # another trouble is another message
    before = Draft(
        last.incident_id,
        last.scope,
        trouble.kind,
        trouble.app,
        trouble.provider,
        {trouble.connection_id: trouble.kind},
        reopen=True,
        customer_id=trouble.customer_id if last.scope == "customer" else None,
    )
    # What is open of its cause is another one, of others.
    return None if wider.has(before.cause) else before


def _group(
    everything: list[Draft], causes: Sequence[RootCause], before: Mapping[str, Open]
) -> None:
    """Merge incidents with one root cause into the oldest of them, whose message is kept."""
    numbers = {
        member: number for number, wanted in enumerate(everything) for member in wanted.members
    }
    wider = {
        wanted.cause: number
        for number, wanted in enumerate(everything)
        if wanted.members and wanted.scope != "connection"
    }
    for cause in causes:
        concerned = {numbers[member] for member in cause.members}
        if (name := _name(cause, cause.scope)) in wider:
            concerned.add(wider[name])
        group = {
            number: wanted
            for number in sorted(concerned)
            if (wanted := everything[number]).app == cause.app
            and _may_be_of(wanted, cause)
            and set(wanted.members.values()) == {cause.kind}
        }
        keeper = _merge(list(group.values()), cause, before)
        if keeper is not None:
            kept = next(number for number, wanted in group.items() if wanted is keeper)
            numbers |= dict.fromkeys(keeper.members, kept)
            wider[name] = kept


def _take_in(everything: Iterable[Draft], opened: Iterable[Open]) -> None:
    """One whose members are all in another that is alike, as their customer became that one, is a
    part of that: nothing of it is resolved."""
    home = {member: wanted for wanted in everything for member in wanted.members}
    for incident in opened:
        wanted = home.get(next(iter(incident.members), ""))
        if (
            wanted is not None
            and wanted.id != incident.id
            and incident.id not in wanted.merged
            and (wanted.scope, wanted.kind) == (incident.scope, incident.kind)
            and incident.members.keys() <= wanted.members.keys()
        ):
            wanted.merged.append(incident.id)


def _may_be_of(wanted: Draft, cause: RootCause) -> bool:
    """Whether an incident may be a part of that of `cause`, or is that one."""
    is_part = wanted.members.keys() <= cause.members
    if cause.scope == "customer":
        is_whole = wanted.scope == "customer" and wanted.customer_id == cause.customer_id
        is_theirs = wanted.scope == "connection" or wanted.customers == {cause.customer_id}
        return is_whole or (is_part and is_theirs)
    is_whole = wanted.scope == cause.scope
    if cause.scope == "app":
        return is_part or is_whole
    if wanted.scope == "customer":
        return is_part
    return wanted.scope != "app" and wanted.provider == cause.provider and (is_part or is_whole)


def _merge(group: list[Draft], cause: RootCause, before: Mapping[str, Open]) -> Draft | None:
    """Make one of the `group`; returns it, where there was anything to do."""
    scope, kind = cause.scope, cause.kind
    if not group or (len(group) == 1 and _WIDTH[group[0].scope] >= _WIDTH[scope]):
        return None

    def preference(incident: Draft) -> tuple[bool, int, bool, str, bool, str]:
        name = incident.id or ""
        known = before.get(name)
        opened = known.opened_at.isoformat() if known else ""
        width = -_WIDTH[incident.scope]
        return incident.scope != scope, width, known is None, opened, not incident.reopen, name

    keeper = min(group, key=preference)
    for wanted in group:
        if wanted is keeper:
            continue
        keeper.members.update(wanted.members)
        wanted.members.clear()
        if wanted.id is not None and not wanted.reopen:
            keeper.merged.append(wanted.id)
    keeper.scope, keeper.kind = scope, kind
    keeper.provider, keeper.customer_id = cause.provider, cause.customer_id
    return keeper


def _same(wanted: Draft, before: Mapping[str, Open]) -> bool:
    known = before.get(wanted.id or "")
    return (
        known is not None
        and not wanted.merged
        and (known.scope, known.kind) == (wanted.scope, wanted.kind)
        and dict(known.members) == wanted.members
    )
