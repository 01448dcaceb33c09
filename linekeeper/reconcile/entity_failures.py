"""Which entities can't be read though their connection can: what is to be an incident. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from linekeeper.incidents.findings import Finding
from linekeeper.incidents.kinds import ALL_ENTITIES
from linekeeper.makini import ErrorKind, ListingFault

FORBIDDEN = "entity_forbidden"
FAILING = "entity_failing"
UNSYNCED = "entity_unsynced"
INCONSISTENT = "entity_inconsistent"
LIMITED = "reads_limited"
UNREADABLE = (FAILING, FORBIDDEN, LIMITED)
"""The kinds that say that an entity can't be read."""
WIDESPREAD = 5
"""So many connections of an app, and half of those that offer the entity, are one incident."""
PASSING_FAILURES = 2
"""What may pass by itself is an incident from the second failure in a row on."""
INCONSISTENT_LISTINGS = 2
"""A listing that lacks records may have met a busy moment; two in a row disagree for good."""

_RESOLVED = (
    "It is read and synced again, or it is no longer asked for: it was taken out of the settings, "
    "or Makini answered 404 for a day, as where a system does not offer it"
)
_PERMISSION = frozenset({ErrorKind.unauthorized, ErrorKind.forbidden})


@dataclass(frozen=True, slots=True)
class EntityState:
    """One entity of one connection, as its watermark has it."""

    connection_id: str
    label: str
    """`Customer · System`."""
    app: str
    entity: str
    failure: str | None
    """The kind of error; None where it can be read."""
    failures: int
    since: datetime | None
    error: str = ""
    listed: int | None = None
    """Different records of the last whole listing."""
    source_total: int | None = None
    """How many the source said it has at that time."""
    inconsistent: int = 0
    """How many whole listings in a row had another number of records than that, or broke off."""
    broken_off: str | None = None
    """Why the last whole listing ended too early (`ListingFault`)."""
    indexed: int | None = None
    """Live records of the index right after the last whole listing."""
    lacking: int = 0
    """How many whole listings in a row left fewer here than the source's total."""
    compared_at: datetime | None = None
    """When that listing began; None before the first one."""
    agreed_at: datetime | None = None
    """When as many records were here as the source said, for the last time."""
    full_at: datetime | None = None
    """When everything was last listed."""
    count_difference: int | None = None
    """By how much the source's total has grown since that other than by what was read."""
    window_since: datetime | None = None
    """The listing holds only what changed since then."""
    unsynced: str | None = None
    """Why Makini's own sync of this entity failed, where it has not ended well since."""
    may_be_read: bool = True
    """Whether the connection's health lets its records be read at all."""

    @property
    def is_failing(self) -> bool:
        """Whether people have to be notified of it."""
        disagrees = max(self.inconsistent, self.lacking) >= INCONSISTENT_LISTINGS
        return self._cannot_be_read or disagrees or self.unsynced is not None

    @property
    def _cannot_be_read(self) -> bool:
        """A first failure that may pass by itself says nothing yet: what was wrong before is."""
        if self.failure is None:
            return False
        return self.failures >= (1 if self.failure in _PERMISSION else PASSING_FAILURES)

    @property
    def problem(self) -> str:
        """What is wrong with it, in a few words."""
        if self.kind == INCONSISTENT and self.broken_off is not None:
            return f"list of {self.entity} ending too early"
        if self.kind == INCONSISTENT and self._is_listed_whole:
            return f"records of {self.entity} without a key of their own"
        return _PROBLEMS[self.kind].format(entity=self.entity)

    @property
    def _is_listed_whole(self) -> bool:
        """Whether as many records come as the source says, if it says a total: some are not kept,
        as they have no key, or share one."""
        return self.source_total is None or self.source_total == self.listed

    @property
    def kind(self) -> str:
        if not self._cannot_be_read:
            return INCONSISTENT if self.unsynced is None else UNSYNCED
        if self.failure == ErrorKind.rate_limited:
            return LIMITED
        return FORBIDDEN if self.failure in _PERMISSION else FAILING


def goes_on(detail: Mapping[str, Any], finding: Finding) -> bool:
    """Whether an incident with this `detail` goes on in `finding`, of the same connections."""
    if detail.get("limited") and finding.kind not in UNREADABLE:
        return False
    entities = {detail.get("entity"), finding.detail["entity"]}
    return len(entities) == 1 or ALL_ENTITIES in entities


def find_failures(states: Sequence[EntityState]) -> list[Finding]:
    """The incidents there should be about entities, given all `states`.

    One for each entity that fails, one for a connection of which nothing can be read for the same
    reason, and one for the app where an entity fails in the same way at many connections. A call
    limit is the connection's, whichever entities it was met at, and the app's where many meet it.
    """
    offering: dict[tuple[str, str], int] = defaultdict(int)
    alike: dict[tuple[str, str, str], list[EntityState]] = defaultdict(list)
    of_connection: dict[str, list[EntityState]] = defaultdict(list)
    limited: dict[str, dict[str, list[EntityState]]] = defaultdict(lambda: defaultdict(list))
    for state in states:
        offering[state.app, state.entity] += 1
        of_connection[state.connection_id].append(state)
        if state.is_failing and state.kind == LIMITED:
            limited[state.app][state.connection_id].append(state)
        elif state.is_failing:
            alike[state.app, state.entity, state.kind].append(state)
    findings = []
    grouped: set[tuple[str, str]] = set()
    for (app, entity, kind), members in alike.items():
        if len(members) >= WIDESPREAD and 2 * len(members) >= offering[app, entity]:
            findings.append(_of_app(app, entity, kind, members))
            grouped |= {(member.connection_id, entity) for member in members}
    for own in of_connection.values():
        left = [
            state
            for state in own
            if state.is_failing
            and state.kind != LIMITED
            and (state.connection_id, state.entity) not in grouped
        ]
        same = len(left) == len(own) > 1 and len({state.kind for state in left}) == 1
        findings += [_of_connection(left)] if same else [_of_entity(state) for state in left]
    for app, whose in limited.items():
        size = len({state.connection_id for state in states if state.app == app})
        of_app = len(whose) >= WIDESPREAD and 2 * len(whose) >= size
        every = [state for own in whose.values() for state in own]
        limits = [every] if of_app else list(whose.values())
        findings += [_of_limit(met, of_app=of_app) for met in limits]
    return findings


def _of_limit(states: Sequence[EntityState], *, of_app: bool) -> Finding:
    """The call limit that these entities met, of one connection or of the app."""
    first, members = states[0], tuple(dict.fromkeys(state.connection_id for state in states))
    names = ", ".join(sorted({state.entity for state in states}))
    where = f"app {first.app}" if of_app else first.label
    count = f" at {len(members)} connections" if of_app else ""
    return Finding(
        scope="app" if of_app else "connection",
        cause=f"entity:app:{first.app}:limit" if of_app else f"entity:{first.connection_id}:limit",
        kind=LIMITED,
        app=first.app,
        detail={"entity": ALL_ENTITIES, "limited": True},
        title=f"{where}: records unread because of Makini's call limit{count}",
        text=f"{names} can't be read. {first.error}",
        members=members,
        resolved=_RESOLVED,
    )


def _of_entity(state: EntityState) -> Finding:
    return Finding(
        scope="connection",
        cause=f"entity:{state.connection_id}:{state.entity}",
        kind=state.kind,
        app=state.app,
        detail={"entity": state.entity},
        title=f"{state.label}: {state.problem}",
        text=_text(state),
        members=(state.connection_id,),
        resolved=_RESOLVED,
    )


def _of_connection(states: Sequence[EntityState]) -> Finding:
    first = states[0]
    names = ", ".join(state.entity for state in states)
    return Finding(
        scope="connection",
        cause=f"entity:{first.connection_id}:{ALL_ENTITIES}",
        kind=first.kind,
        app=first.app,
        detail={"entity": ALL_ENTITIES},
        title=f"{first.label}: {_PROBLEMS_OF_ALL[first.kind]}",
        text=_of_all(names, states),
        members=(first.connection_id,),
        resolved=_RESOLVED,
    )


def _of_all(names: str, states: Sequence[EntityState]) -> str:
    first = states[0]
    if first.kind == INCONSISTENT:
        return "\n".join(f"{state.entity}: t{_disagreement(state)[1:]}" for state in states)
    if first.kind == UNSYNCED:
        return f"Makini's sync of each of {names} failed. It says: {first.unsynced}."
    return f"None of {names} can be read. {first.error}"


def _of_app(app: str, entity: str, kind: str, members: Sequence[EntityState]) -> Finding:
    return Finding(
        scope="app",
        cause=f"entity:app:{app}:{entity}",
        kind=kind,
        app=app,
        detail={"entity": entity},
        title=f"app {app}: {members[0].problem} at {len(members)} connections",
        text=_of_many(members),
        members=tuple(member.connection_id for member in members),
        resolved=_RESOLVED,
    )


def _of_many(members: Sequence[EntityState]) -> str:
    first, count = members[0], len(members)
    if first.kind == INCONSISTENT:
        return f"At {count} connections, of which {first.label} is one. {_disagreement(first)}"
    why = first.unsynced if first.kind == UNSYNCED else first.error
    return f"{count} connections fail in the same way. {why}"


def _disagreement(state: EntityState) -> str:
    listed = state.listed or 0
    if state.broken_off:
        return f"{listing_breaks_off(state)} It is listed again every day."
    total = state.source_total if state.source_total is not None else listed
    if state.source_total is None:
        said = f"The source lists {listed:,} records"
    else:
        said = f"The source says that it has {total:,} records and lists {listed:,}"
    if listed < total:
        return (
            f"{said}, read in both orders. What it lists is in the index; nothing is deleted "
            "here as long as the two disagree."
        )
    if listed > total:
        return f"{said}. All that it lists is in the index, so its total is what is wrong."
    return (
        f"{said}, but some have no key to be kept by, or share one: {state.indexed or 0:,} are "
        "here. Nothing is deleted here as long as records are listed without a key, because each "
        "of them may be one that is missing."
    )


def listing_breaks_off(state: EntityState) -> str:
    """How the list of an entity ends too early, and what follows from that. Pure."""
    total = "" if state.source_total is None else f" of {state.source_total:,}"
    fault = _FAULTS[ListingFault(state.broken_off or "")]
    return (
        f"The source lists {state.listed or 0:,}{total} records, then {fault}. What it lists is in "
        "the index, and what changes is read as before; nothing is deleted here."
    )


_FAULTS: Mapping[ListingFault, str] = {
    ListingFault.repeated_page: "it gives a page again that it had given before",
    ListingFault.repeated_cursor: "it names a next page that it had named before",
    ListingFault.empty_page: "it leaves pages empty behind which, it says, others follow",
    ListingFault.refused_page: "it refuses the next page",
    ListingFault.unanswered_page: "it doesn't answer when asked for the next page",
    ListingFault.endless: "it never comes to an end",
}


def _text(state: EntityState) -> str:
    if state.kind == INCONSISTENT:
        return _disagreement(state)
    if state.kind == UNSYNCED:
        return (
            f"Makini says: {state.unsynced}. What is read of it here may be as old as its last "
            "good sync. The other entities and the login are not affected by it."
        )
    return f"{state.error} The other entities and the login are not affected by it."


_PROBLEMS: Mapping[str, str] = {
    FORBIDDEN: "no permission for {entity}",
    FAILING: "{entity} unreadable",
    UNSYNCED: "failed sync of {entity} at Makini",
    INCONSISTENT: "another number of {entity} than their total",
}

_PROBLEMS_OF_ALL: Mapping[str, str] = {
    FORBIDDEN: "no permission for any entity",
    FAILING: "no entity readable",
    UNSYNCED: "failed sync of every entity at Makini",
    INCONSISTENT: "another number of records of every entity than its total",
}
