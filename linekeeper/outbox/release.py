"""Letting go of what is claimed, whatever came of it: only of what the claim still holds."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Protocol

from sqlalchemy import ColumnElement, bindparam, literal_column, update
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.store import Store

_KEY = "ordering_key"  # as a column it has another name


class Claimable(Protocol):
    """A table of work, as far as letting go of its rows needs it (`queue.Work`)."""

    @property
    def table(self) -> Any:
        """The table."""

    @property
    def waiting(self) -> ColumnElement[bool]:
        """Rows that are not settled yet."""


async def release_claim(
    session: AsyncSession,
    work: Claimable,
    token: str,
    until: Mapping[str, datetime],
    *,
    planned: Collection[str] = (),
    ordering_keys: Mapping[str, str] | None = None,
) -> None:
    """Let go of claimed rows that nobody tried: as if they had not been claimed, due at `until`.

    Those `planned` are written for then, as if they had been from the start; with `ordering_keys`
    each goes on in the order given there.
    """
    for is_planned in (False, True):
        rows = [
            {"row_id": row, "until": at} | ({"key": ordering_keys[row]} if ordering_keys else {})
            for row, at in until.items()
            if (row in planned) is is_planned
        ]
        names = ["next_attempt_at"] + (["due_at"] if is_planned else [])
        names += ["retry_at"] if "retry_at" in work.table.c else []  # somebody attends to them
        columns = dict.fromkeys(names, "until") | ({_KEY: "key"} if ordering_keys else {})
        await change_claimed(session, work, token, columns, rows, is_untried=True)


async def release_all(store: Store, work: Claimable, token: str) -> None:
    """Let go of all that a claim holds, known to its owner or not: untried, due at once."""
    columns = work.table.c
    async with store.write() as session:
        now = await store.clock(session)
        held = (work.waiting, columns.claimed_by == token, columns.next_attempt_at > now)
        untried = {"attempts": columns.attempts - 1, "next_attempt_at": now}
        freed = {"claimed_by": None, "claim_owner": None, **untried}
        await session.execute(update(work.table).where(*held).values(**freed))


async def change_claimed(
    session: AsyncSession,
    work: Claimable,
    token: str,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    *,
    is_untried: bool = False,
) -> None:
    """Change rows that the claim still holds, each to its own values, and let go of them.

    What `is_untried` doesn't count as an attempt.
    """
    if rows:
        statement = _changing(work.table, tuple(columns.items()), is_untried)
        held = [{**row, "token": token} for row in rows]
        await session.execute(statement, held)


@cache
def _changing(table: Any, columns: Sequence[tuple[str, str]], is_untried: bool) -> Any:
    """The statement of `change_claimed`: built once for each set of columns."""
    values: dict[str, Any] = {
        name: bindparam(given, type_=table.c[name].type) for name, given in columns
    }
    if is_untried:
        values["attempts"] = table.c.attempts - 1
    return (
        update(table)
        .where(
            table.c.id == bindparam("row_id"),
            table.c.claimed_by == bindparam("token"),
            table.c.status == literal_column("'pending'"),
        )
        .values(claimed_by=None, claim_owner=None, **values)
    )
