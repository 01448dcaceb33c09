"""Giving back all that a claim holds, where its owner does not know what that is."""

from typing import Any, Protocol

from sqlalchemy import ColumnElement, update

from linekeeper.store import Store


class Claimable(Protocol):
    """A table of work, as far as letting go of its rows needs it (`queue.Work`)."""

    @property
    def table(self) -> Any:
        """The table."""

    @property
    def waiting(self) -> ColumnElement[bool]:
        """Rows that are not settled yet."""


async def release_all(store: Store, work: Claimable, token: str) -> None:
    """Let go of all that a claim holds, known to its owner or not: untried, due at once."""
    columns = work.table.c
    async with store.write() as session:
        now = await store.clock(session)
        held = (work.waiting, columns.claimed_by == token, columns.next_attempt_at > now)
        untried = {"attempts": columns.attempts - 1, "next_attempt_at": now}
        freed = {"claimed_by": None, "claim_owner": None, **untried}
        await session.execute(update(work.table).where(*held).values(**freed))
