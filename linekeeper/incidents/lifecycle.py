"""The only code that writes incidents and their members; each change is a legal transition.

`perform` moves an incident along `LEGAL`; everything else here writes what belongs to it without
changing its state. All of it happens in the caller's transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Any, Literal

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.outbox.events import IncidentFacts
from linekeeper.store import Store, new_id
from linekeeper.store.engine import chunked, insert_ignore
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Incident, IncidentConnection, IncidentEntry
from linekeeper.store.types import UtcDateTime, table_of

What = Literal["opened", "reopened", "changed", "acknowledged", "resolved", "merged"]


@dataclass(frozen=True, slots=True)
class IncidentChange:
    """One change people are notified of. `text` is its line in the timeline; empty: no line."""

    incident_id: str
    what: What
    text: str = ""
    joined: str = ""
    """The names of connections that joined an incident that was open, as far as they are said."""
    is_counted: bool = False
    """It says who is affected: one reply in the thread counts them."""

    @property
    def begins(self) -> bool:
        """Whether a trouble begins, for the first time or again."""
        return self.what in ("opened", "reopened")


Status = Literal["open", "acknowledged", "resolved"]
Action = Literal["change", "acknowledge", "resolve", "reopen"]
LEGAL: Mapping[Action, tuple[frozenset[Status], Status | None]] = {
    "change": (frozenset({"open", "acknowledged"}), None),
    "acknowledge": (frozenset({"open"}), "acknowledged"),
    "resolve": (frozenset({"open", "acknowledged"}), "resolved"),
    "reopen": (frozenset({"resolved"}), "open"),
}
"""What may be done in which states, and the state after it; None keeps the state."""
_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Opening:
    """An incident to open, with the connections it is about and what each of them has."""

    topic: str
    kind: str
    scope: str
    cause: str
    """Unique among open incidents."""
    app: str
    title: str
    provider: str = ""
    customer_id: str | None = None
    summary: str = ""
    figure: float | None = None
    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    run_id: str | None = None
    """The run it is about."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    """Connection id → kind."""


async def find_open(session: AsyncSession, cause: str) -> str | None:
    """The id of the open incident of `cause`."""
    identifier: str | None = await session.scalar(_OPEN_OF, {"cause": cause})
    return identifier


_INCIDENT, _MEMBER = table_of(Incident), table_of(IncidentConnection)
_OPEN_NEW = insert(_INCIDENT)
_OPEN_OF = select(_INCIDENT.c.id).where(
    _INCIDENT.c.cause == bindparam("cause"), _INCIDENT.c.resolved_at.is_(None)
)


async def open_new(
    store: Store, session: AsyncSession, opening: Opening, *, now: datetime
) -> str | None:
    """Open an incident; its id, or None where one of the same cause is open already."""
    if await find_open(session, opening.cause) is not None:
        return None
    identifier = new_id()
    same = {each.name: getattr(opening, each.name) for each in fields(Opening)}
    members = same.pop("members")
    incident = Incident(
        **same | {"id": identifier, "detail": dict(opening.detail), "opened_at": now}
    )
    await session.flush()  # its members may be the caller's, and not written yet
    await session.execute(_OPEN_NEW, incident.model_dump())
    await join(store, session, identifier, opening.topic, members, now=now)
    return identifier


async def perform(
    session: AsyncSession, incident_id: str, action: Action, *, now: datetime, **columns: Any
) -> bool:
    """Do `action` to an incident and set `columns`; False where its state doesn't allow it.

    Reopening begins another round and forgets the acknowledgement: people are notified, and it is
    escalated, as the first time.
    """
    given = {f"new_{name}": value for name, value in columns.items()}
    if action != "change":
        given["now"] = now
    done = await session.scalar(
        _performing(action, tuple(sorted(columns))), {"incident_id": incident_id, **given}
    )
    if done is not None and action == "resolve":
        await leave(session, incident_id, now=now)
    return done is not None


@cache
def _performing(action: Action, columns: Sequence[str]) -> Any:
    """The statement of `perform`: built once for each set of columns."""
    before, after = LEGAL[action]
    table = _INCIDENT
    values: dict[str, Any] = {
        name: bindparam(f"new_{name}", type_=table.c[name].type) for name in columns
    }
    if after is not None:
        values["status"] = after
    at = bindparam("now", type_=UtcDateTime)
    if action == "acknowledge":
        values["acknowledged_at"] = at
    elif action == "resolve":
        values["resolved_at"] = at
    elif action == "reopen":
        values |= {
            "reopened_at": at,
            "round": table.c.round + 1,
            "resolved_at": None,
            "acknowledged_at": None,
            "acknowledged_by": None,
        }
    return (
        update(table)
        .where(table.c.id == bindparam("incident_id"), table.c.status.in_(sorted(before)))
        .values(**values)
        .returning(table.c.id)
    )


async def join(
    store: Store,
    session: AsyncSession,
    incident_id: str,
    topic: str,
    members: Mapping[str, str],
    *,
    now: datetime,
    reported: Mapping[str, str | None] | None = None,
) -> None:
    """Make connections members of an incident; who is one already stays as it is.

    `members` is connection id → kind; `reported` what runs were red for before, of each.
    """
    rows = [
        {
            "id": new_id(),
            "incident_id": incident_id,
            "connection_id": connection_id,
            "topic": topic,
            "kind": kind,
            "joined_at": now,
            "reported_kind": (reported or {}).get(connection_id),
        }
        for connection_id, kind in members.items()
    ]
    for chunk in chunked(rows, 1_000):
        await insert_ignore(store, session, IncidentConnection, chunk)


async def leave(
    session: AsyncSession,
    incident_id: str,
    members: Sequence[str] | None = None,
    *,
    now: datetime,
) -> None:
    """End the membership of `members` (connection ids), or of everybody."""
    which = {"of": incident_id, "now": now}
    if members is None:
        await session.execute(_ALL_LEAVE, which)
        return
    for part in chunked(members, _AT_ONCE):
        await session.execute(_LEAVE, {**which, "members": part})


_ALL_LEAVE = (
    update(_MEMBER)
    .where(_MEMBER.c.incident_id == bindparam("of"), _MEMBER.c.left_at.is_(None))
    .values(left_at=bindparam("now", type_=UtcDateTime))
)
_LEAVE = _ALL_LEAVE.where(_MEMBER.c.connection_id.in_(bindparam("members", expanding=True)))


async def change_kinds(session: AsyncSession, incident_id: str, kinds: Mapping[str, str]) -> None:
    """Give members of an incident other kinds: connection id → kind."""
    by_kind: dict[str, list[str]] = {}
    for connection_id, kind in kinds.items():
        by_kind.setdefault(kind, []).append(connection_id)
    for kind, members in by_kind.items():
        await _change_members(session, incident_id, members, kind=kind)


async def mark_reminded(
    session: AsyncSession, incident_id: str, members: Sequence[str], number: int
) -> None:
    """Remember the last reminder that `members` (connection ids) of an incident were due."""
    await _change_members(session, incident_id, members, reminded=number)


async def _change_members(
    session: AsyncSession, incident_id: str, members: Sequence[str], **columns: Any
) -> None:
    """Set `columns` of those that are members of an incident now."""
    for chunk in chunked(members, _AT_ONCE):
        await session.execute(
            update_many(IncidentConnection)
            .where(
                col(IncidentConnection.incident_id) == incident_id,
                col(IncidentConnection.connection_id).in_(chunk),
                col(IncidentConnection.left_at).is_(None),
            )
            .values(**columns)
        )


async def annotate(session: AsyncSession, incident: Incident, **columns: str | None) -> bool:
    """Set what the incident's message shows (`run_id`, `connect_url`); whether that changed it."""
    if all(getattr(incident, name) == value for name, value in columns.items()):
        return False
    await session.execute(
        update_many(Incident).where(col(Incident.id) == incident.id).values(**columns)
    )
    return True


async def mark_reported(
    session: AsyncSession,
    incident_ids: Iterable[str],
    memberships: Mapping[str, Sequence[str]],
    *,
    now: datetime,
) -> None:
    """Remember that a run was red for incidents, and for memberships: kind → their ids."""
    ids = sorted(set(incident_ids))
    for chunk in chunked(ids, _AT_ONCE):
        await session.execute(_REPORT, {"ids": chunk, "now": now})
    for kind, members in sorted(memberships.items()):
        for chunk in chunked(members, _AT_ONCE):
            await session.execute(_REPORT_MEMBERS, {"ids": chunk, "kind_then": kind})


async def mark_known(session: AsyncSession, incident_id: str, *, now: datetime) -> None:
    """Remember that a person knows of an incident, as it is now: no run need be red for it.

    Who joins it later, and what becomes worse, is news.
    """
    await session.execute(_REPORT, {"ids": [incident_id], "now": now})
    await session.execute(_KNOW_MEMBERS, {"known_id": incident_id})


_IDS: Any = bindparam("ids", expanding=True)
_REPORT = (
    update(_INCIDENT)
    .where(_INCIDENT.c.id.in_(_IDS))
    .values(reported_at=bindparam("now", type_=UtcDateTime))
)
_REPORT_MEMBERS = (
    update(_MEMBER)
    .where(_MEMBER.c.id.in_(_IDS))
    .values(reported_kind=bindparam("kind_then", type_=_MEMBER.c.reported_kind.type))
)
_KNOW_MEMBERS = (
    update(_MEMBER)
    .where(_MEMBER.c.incident_id == bindparam("known_id"), _MEMBER.c.left_at.is_(None))
    .values(reported_kind=_MEMBER.c.kind)
)


_NEXT_REVISION = (
    update_many(Incident)
    .where(col(Incident.id).in_(bindparam("ids", expanding=True)))
    .values(revision=col(Incident.revision) + 1)
    .returning(
        col(Incident.id),
        col(Incident.kind),
        col(Incident.scope),
        col(Incident.app),
        col(Incident.provider),
        col(Incident.title),
        col(Incident.status),
        col(Incident.revision),
    )
)
"""Built once: building it takes longer than running it."""


async def next_revisions(
    session: AsyncSession, incident_ids: Sequence[str]
) -> dict[str, IncidentFacts]:
    """Count every incident's revision up by one."""
    facts: dict[str, IncidentFacts] = {}
    for chunk in chunked(incident_ids, 5_000):
        rows = await session.execute(_NEXT_REVISION, {"ids": chunk})
        facts |= {row.id: IncidentFacts(**row._mapping) for row in rows}
    return facts


async def add_entries(session: AsyncSession, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write timeline entries: `incident_id`, `at`, `kind`, `text` each."""
    if entries:
        rows = [{"id": new_id(), **entry} for entry in entries]
        await session.execute(_ADD_ENTRIES, rows)


_ADD_ENTRIES = insert(table_of(IncidentEntry))
