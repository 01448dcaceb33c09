"""Who did what: from Slack, forms, keys and the command line, newest first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.distinct_labels import labels_of
from linekeeper.markdown import table, text, when
from linekeeper.store import Store, is_id
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Audit, Customer, Incident

ISSUED = "token.handed_out"
MARKDOWN_ROWS = 200
_LOOK_UP = 500


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing somebody did."""

    at: datetime
    by: str
    action: str
    subject: str
    """A connection, incident or customer by the name people know; else as it was written down."""
    detail: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Plain data; the time as ISO-8601 UTC."""
        return {
            "at": self.at.isoformat(),
            "by": self.by,
            "action": self.action,
            "subject": self.subject,
            "detail": dict(self.detail),
        }


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """Tokens a key took since a time: too many for a line each."""

    by: str
    tokens: int
    connections: int
    last_at: datetime


async def read_audit(
    store: Store,
    *,
    since: datetime | None = None,
    by: str = "",
    action: str = "",
    tokens: bool = False,
    limit: int = 100,
) -> list[AuditEntry]:
    """The newest `limit` entries since `since`; issued tokens only with `tokens`.

    `by` and `action` are parts of what they name, in upper or lower case.
    """
    statement = select(Audit).order_by(col(Audit.at).desc(), col(Audit.id).desc()).limit(limit)
    if since is not None:
        statement = statement.where(col(Audit.at) >= since)
    if not tokens:
        statement = statement.where(col(Audit.action) != ISSUED)
    for column, part in ((col(Audit.by), by), (col(Audit.action), action)):
        if part:
            statement = statement.where(column.icontains(part, autoescape=True))
    async with store.read() as session:
        rows = list(await session.scalars(statement))
        names = await _names(session, [row.subject for row in rows])
    return [
        AuditEntry(row.at, row.by, row.action, names.get(row.subject, row.subject), row.detail)
        for row in rows
    ]


async def issued_tokens(store: Store, *, since: datetime) -> list[IssuedTokens]:
    """What each key took since `since`, most first."""
    async with store.read() as session:
        rows = await session.execute(
            select(
                col(Audit.by),
                func.count(),
                func.count(col(Audit.subject).distinct()),
                func.max(col(Audit.at)),
            )
            .where(col(Audit.action) == ISSUED, col(Audit.at) >= since)
            .group_by(Audit.by)
            .order_by(func.count().desc(), Audit.by)
        )
        return [IssuedTokens(*row) for row in rows.all()]


async def audit_headline(store: Store, *, now: datetime) -> str:
    """One line about the last day."""
    which = (col(Audit.at) > now - timedelta(days=1), col(Audit.action) != ISSUED)
    async with store.read() as session:
        counts = select(func.count(), func.count(col(Audit.by).distinct())).where(*which)
        entries, people = (await session.execute(counts)).one()
    if not entries:
        return "No audit entry in 24 hours"
    things = "1 audit entry" if entries == 1 else f"{entries:,} audit entries"
    by = "1 person or key" if people == 1 else f"{people:,} people and keys"
    return f"{things} in 24 hours, by {by}"


def audit_markdown(
    headline: str, entries: Sequence[AuditEntry], taken: Sequence[IssuedTokens], *, now: datetime
) -> str:
    """The artifact `audit`; times in UTC."""
    parts = [
        f"# {headline}",
        f"written {now:%Y-%m-%d %H:%M:%S} UTC · the newest {MARKDOWN_ROWS}; "
        "everything: `linekeeper audit`",
        table(
            ["When", "Who", "Action", "Subject", "Details"],
            (
                [
                    when(entry.at),
                    text(entry.by),
                    text(entry.action),
                    text(entry.subject, 100),
                    text(_without_ids(entry.detail), 120),
                ]
                for entry in entries[:MARKDOWN_ROWS]
            ),
        )
        if entries
        else "Nothing was done yet.",
    ]
    if taken:
        parts += [
            "## Tokens issued in the 24 hours before this was written",
            table(
                ["Key", "Tokens", "Connections", "Last"],
                (
                    [
                        text(issued.by),
                        f"{issued.tokens:,}",
                        f"{issued.connections:,}",
                        when(issued.last_at),
                    ]
                    for issued in taken
                ),
            ),
        ]
    return "\n\n".join(parts)


def details_text(detail: Mapping[str, Any]) -> str:
    """`rows 12, bytes 3400`: what an entry holds besides, in one line."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_short(value)}"
        for name, value in detail.items()
        if value not in (None, "", [], {}, False)
    )


def _without_ids(detail: Mapping[str, Any]) -> str:
    """Return what people read of an entry: the command prints the ids as well."""
    read = {name: value for name, value in detail.items() if not is_id(str(value))}
    return details_text(read)


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        shown = ", ".join(str(connection) for connection in value[:3])
        return f"{shown} and {len(value) - 3} more" if len(value) > 3 else shown
    return str(value)


async def _names(session: AsyncSession, subjects: Iterable[str]) -> dict[str, str]:
    """What people call the connections, incidents and customers among `subjects`."""
    ids = sorted({subject for subject in subjects if is_id(subject)})
    names = await labels_of(session, ids)
    for batch in chunked(ids, _LOOK_UP):
        incidents = await session.execute(
            select(col(Incident.id), col(Incident.title)).where(col(Incident.id).in_(batch))
        )
        names |= {row[0]: row[1] for row in incidents}
        customers = await session.execute(
            select(col(Customer.id), col(Customer.name)).where(col(Customer.id).in_(batch))
        )
        names |= {row[0]: row[1] for row in customers}
    return names
