"""What people decide about deletions: accept or refuse those held back, undo those applied."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.find import NotFound, find_connection
from linekeeper.customers.naming import label
from linekeeper.incidents.findings import resolve_incident
from linekeeper.reconcile.deletes import UNDO, may_undo
from linekeeper.reconcile.deleting import apply_agreed, cause, restore
from linekeeper.reconcile.unmatched import resolve_if_settled
from linekeeper.runtime import Runtime
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Audit, Connection, Customer, Deletion
from linekeeper.store.types import is_id
from linekeeper.text import counted

Decision = Literal["accept", "refuse", "undo"]

_FROM = {
    "accept": ("proposed", "unmatched", "agreed"),
    "refuse": ("proposed", "unmatched"),
    "undo": ("applied",),
}
_DONE = {"accept": "accepted", "refuse": "refused", "undo": "undone"}


class NoDeletion(Exception):
    """Nothing answers to that name in a state to be decided; the message says what does."""


@dataclass(frozen=True, slots=True)
class DeletionOutcome:
    """What became of one deletion."""

    label: str
    entity: str
    records: int
    decision: Decision

    @property
    def sentence(self) -> str:
        """Return it in one line."""
        what = {
            "accept": "deleted here",
            "refuse": "kept, and not proposed again until the source lists them",
            "undo": "restored",
        }[self.decision]
        return f"{self.label} · {self.entity}: {counted(self.records, 'record')} {what}"


async def decide_deletions(
    rt: Runtime, wanted: str, decision: Decision, *, by: str, now: datetime
) -> list[DeletionOutcome]:
    """Accept, refuse or undo the deletion `wanted`: its id, or a connection with what waits there.

    Raises `NoDeletion` where nothing is to be decided, also when 30 days are over. Repeating it
    after a crash completes it.
    """
    deletions = await _find(rt, wanted.strip(), decision, now)
    done = []
    for deletion, connection, name in deletions:
        app = await rt.app(connection.app)
        if decision == "accept":
            await _mark(rt, deletion, decision, "agreed", by=by, now=now)
            records = await apply_agreed(
                rt.store, app, connection.id, connection.makini_key, now=now
            )
        elif decision == "undo":
            records = await restore(rt.store, app, deletion, connection.makini_key, now=now)
            await _mark(rt, deletion, decision, "undone", by=by, now=now)
        else:
            records = deletion.records
            await _mark(rt, deletion, decision, "refused", by=by, now=now)
        done.append(DeletionOutcome(name, deletion.entity, records, decision))
    return done


async def _mark(
    rt: Runtime, deletion: Deletion, decision: Decision, status: str, *, by: str, now: datetime
) -> None:
    async with rt.store.write() as session:
        moved = await session.execute(
            update_many(Deletion)
            .where(col(Deletion.id) == deletion.id, col(Deletion.status) == deletion.status)
            .values(status=status, decided_by=by, decided_at=now)
            .returning(col(Deletion.id))
        )
        if moved.scalar_one_or_none() is None:
            raise NoDeletion("somebody else has just decided about it")
        session.add(
            Audit(
                at=now,
                by=by,
                action=f"deletion.{_DONE[decision]}",
                subject=deletion.id,
                detail={"entity": deletion.entity, "records": deletion.records},
            )
        )
        await session.flush()
        if decision != "undo":
            await resolve_incident(
                rt.store,
                session,
                cause(deletion.connection_id, deletion.entity),
                f"{_DONE[decision].capitalize()} by {by}",
                now=now,
            )
            await resolve_if_settled(
                rt.store, session, deletion.connection_id, deletion.entity, now=now
            )


async def _find(
    rt: Runtime, wanted: str, decision: Decision, now: datetime
) -> Sequence[tuple[Deletion, Connection, str]]:
    async with rt.store.read() as session:
        by_id = await session.get(Deletion, wanted) if is_id(wanted) else None
        if by_id is not None:
            ids = [by_id.id]
        else:
            ids = await _of_connection(session, wanted, decision)
        rows = (
            await session.execute(
                select(Deletion, Connection, col(Customer.name))
                .join(Connection, col(Connection.id) == col(Deletion.connection_id))
                .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
                .where(col(Deletion.id).in_(ids))
                .order_by(col(Deletion.id))
            )
        ).all()
    if not rows:
        raise NoDeletion(f"{wanted}: nothing there can be {_DONE[decision]}")
    for deletion, _, _ in rows:
        if deletion.status not in _FROM[decision]:
            raise NoDeletion(f"this deletion is {deletion.status}: it can't be {_DONE[decision]}")
        if decision == "undo" and not may_undo(deletion.decided_at or deletion.at, now=now):
            raise NoDeletion(f"it is longer ago than {UNDO.days} days: it can't be undone")
    return [
        (
            deletion,
            connection,
            label(customer, connection.provider, connection.name, connection.told_apart_by),
        )
        for deletion, connection, customer in rows
    ]


async def _of_connection(session: AsyncSession, wanted: str, decision: Decision) -> list[str]:
    """What can be decided at the connection called `wanted`; of what was applied, the last."""
    try:
        named = await find_connection(session, wanted)
    except NotFound as error:
        raise NoDeletion(f"no deletion has that id, and {error}") from None
    deletions = list(
        await session.scalars(
            select(col(Deletion.id))
            .where(
                col(Deletion.connection_id) == named.id,
                col(Deletion.status).in_(_FROM[decision]),
            )
            .order_by(col(Deletion.at).desc())
        )
    )
    return deletions[:1] if decision == "undo" else deletions
