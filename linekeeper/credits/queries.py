"""The credit ledger's rows, read and written."""

from collections.abc import Iterable, Sequence
from typing import cast

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.credits.decide import LedgerEntry, Reason
from linekeeper.store import Store, new_id
from linekeeper.store.engine import chunked
from linekeeper.store.tables import CreditEntry


async def lock_ledger(store: Store, session: AsyncSession) -> None:
    """Let nobody else write entries until the transaction ends; SQLite has one writer anyway.

    Lock an implementation's row before the ledger and rows of connections after it, so that two
    writers never wait in a circle.
    """
    if not store.is_sqlite:
        await session.execute(text("LOCK TABLE credit_entry IN SHARE ROW EXCLUSIVE MODE"))


async def entries_of(session: AsyncSession, subjects: Sequence[str]) -> list[LedgerEntry]:
    """The entries of `subjects`, in the order they were written."""
    entries: list[LedgerEntry] = []
    for chunk in chunked(subjects, 10_000):
        rows = await session.execute(
            select(
                col(CreditEntry.subject),
                col(CreditEntry.delta),
                col(CreditEntry.reason),
                col(CreditEntry.at),
            )
            .where(col(CreditEntry.subject).in_(chunk))
            .order_by(col(CreditEntry.id))
        )
        entries += [LedgerEntry(row[0], row[1], cast("Reason", row[2]), row[3]) for row in rows]
    return entries


async def sums(session: AsyncSession, app: str | None) -> list[LedgerEntry]:
    """The ledger of `app` (None: of all) as one entry for each subject and reason: the same sums,
    far fewer rows."""
    rows = await session.execute(
        select(
            col(CreditEntry.subject),
            func.sum(CreditEntry.delta),
            col(CreditEntry.reason),
            func.max(CreditEntry.at),
        )
        .where(*([] if app is None else [col(CreditEntry.app) == app]))
        .group_by(col(CreditEntry.subject), col(CreditEntry.reason))
    )
    return [LedgerEntry(row[0], int(row[1]), cast("Reason", row[2]), row[3]) for row in rows]


async def post(
    session: AsyncSession,
    entries: Iterable[LedgerEntry],
    *,
    app: str,
    by: str,
    note: str = "",
    connection_id: str | None = None,
    of_connections: bool = False,
    implementation_id: str | None = None,
) -> int:
    """Add `entries` to the ledger; returns how many there were.

    `of_connections`: the subject of each is the id of a connection.
    """
    rows = [
        {
            "id": new_id(),
            "app": app,
            "connection_id": entry.subject if of_connections else connection_id,
            "subject": entry.subject,
            "implementation_id": implementation_id,
            "delta": entry.delta,
            "reason": entry.reason,
            "at": entry.at,
            "by": by,
            "note": note,
        }
        for entry in entries
    ]
    if rows:
        await session.execute(insert(CreditEntry), rows)
    return len(rows)


async def holders(session: AsyncSession, subjects: Sequence[str]) -> frozenset[str]:
    """Those of `subjects` that hold credits, reserved or consumed."""
    held: set[str] = set()
    for chunk in chunked(subjects, 10_000):
        rows = await session.execute(
            select(col(CreditEntry.subject))
            .where(col(CreditEntry.subject).in_(chunk))
            .group_by(col(CreditEntry.subject))
            .having(func.sum(CreditEntry.delta) < 0)
        )
        held |= {row[0] for row in rows if row[0] is not None}
    return frozenset(held)
