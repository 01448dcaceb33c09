"""Which connection came, or has just come, in the place of another one of the same system."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.customers.setup import ESTABLISHED, setup_after
from linekeeper.makini import normalise_status
from linekeeper.store.engine import chunked
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Connection, Succession, Transition
from linekeeper.store.types import UtcDateTime

HEIR_WITHIN = timedelta(days=30)
"""How long a connection that Makini no longer lists may still be succeeded, or come back."""


def is_of_same_system(before: type[Connection], after: type[Connection]) -> ColumnElement[bool]:
    """Whether `after` came later for the same customer, system and e-mail, as far as is known."""
    return and_(
        col(before.provider) != "",
        col(before.email) != "",
        col(after.app) == col(before.app),
        col(after.customer_id) == col(before.customer_id),
        func.lower(col(after.provider)) == func.lower(col(before.provider)),
        func.lower(col(after.email)) == func.lower(col(before.email)),
        col(after.created_at) > col(before.created_at),
        col(after.setup).in_(ESTABLISHED),
    )


async def likely_succeeded(session: AsyncSession, connections: Sequence[str]) -> set[str]:
    """Those of `connections` that Makini's list lacks since it shows a new one of their system.

    Another complete list decides whether they are succeeded (`customers.succession`).
    """
    succeeded: set[str] = set()
    for chunk in chunked(connections, 5_000):
        succeeded |= set(await session.scalars(_likely_succeeded(), {"connections": chunk}))
    return succeeded


async def observe_likely_successors(
    session: AsyncSession, app: str, *, fresh: Collection[str] | None = None
) -> None:
    """What may have come in the place of an observed connection is observed until that is known.

    So it is while Makini's list lacks that one. Of those that are `fresh`, from a list that is not
    read to its end, it may.
    """
    before, after = aliased(Connection), aliased(Connection)
    likely = select(col(after.id), col(before.mode), col(before.notify_customers)).where(
        col(before.app) == app,
        col(before.setup) != "disconnected",
        is_of_same_system(before, after),
        or_(col(before.mode) == "observe", col(before.notify_customers).is_(False)),
    )
    if fresh is None:
        likely = likely.where(
            col(after.unlisted_since).is_(None),
            col(after.created_at) >= col(before.unlisted_since),
        )
    rows: list[Any] = []
    for chunk in [None] if fresh is None else chunked(sorted(fresh), 5_000):
        of_chunk = likely if chunk is None else likely.where(col(after.id).in_(chunk))
        rows += (await session.execute(of_chunk)).all()
    observed = {identifier for identifier, mode, _ in rows if mode == "observe"}
    unnotified = {identifier for identifier, _, notifies in rows if notifies is False}
    for ids, values in (
        (observed, {"mode": "observe"}),
        (unnotified, {"notify_customers": False}),
    ):
        for chunk in chunked(sorted(ids), 5_000):
            which = col(Connection.id).in_(chunk)
            await session.execute(update_many(Connection).where(which).values(**values))


async def last_successors(
    session: AsyncSession, connections: Sequence[Connection]
) -> dict[str, Connection]:
    """Return by the ids of those that were replaced what stands in their place now."""
    last: dict[str, Connection] = {}
    replaced = {(each.id, each.replaced_by) for each in connections if each.replaced_by}
    passed: set[tuple[str, str]] = set()
    while replaced := replaced - passed:
        passed |= replaced
        by_id: dict[str, Connection] = {}
        for chunk in chunked(sorted({after for _, after in replaced}), 5_000):
            statement = select(Connection).where(col(Connection.id).in_(chunk))
            by_id |= {each.id: each for each in await session.scalars(statement)}
        steps = [(before, by_id[after]) for before, after in replaced if after in by_id]
        last |= dict(steps)
        replaced = {
            (before, after.replaced_by)
            for before, after in steps
            if after.replaced_by and after.setup == "disconnected"
        }
    return last


class Heir(NamedTuple):
    """Ids of a connection that the list lost, and of one that came since for the same system."""

    before: str
    after: str
    is_only: bool
    """Whether `after` stands for one system. So it does for several that came one after the other,
    each once the list had lost the one before it; not for those that were listed side by side."""


async def heirs(session: AsyncSession, app: str, *, now: datetime) -> list[Heir]:
    """Whoever may have succeeded those that the list lost; of one heir the last one lost first."""
    given = {"of_app": app, "since": now - HEIR_WITHIN}
    came: dict[str, list[Any]] = {}
    for row in await session.execute(_successors(), given):
        came.setdefault(row.heir, []).append(row)
    heirs_found: list[Heir] = []
    for heir, gone in came.items():
        gone.sort(key=lambda row: row.created_at, reverse=True)
        in_turn = all(
            before.unlisted_since is not None and before.unlisted_since <= after.created_at
            for after, before in pairwise(gone)
        )
        heirs_found += [Heir(row.gone, heir, in_turn) for row in gone]
    return heirs_found


async def returned(
    session: AsyncSession, app: str, replaced: Collection[str], *, now: datetime
) -> set[tuple[str, str]]:
    """The ids of connections in whose place one of `replaced` stands again, with that one's.

    Either the list lost what came in its place. Or the list had lost it, what stood there before
    came back, and now it is listed again: the younger one of the two is the customer's last login.
    """
    known: list[Connection] = []
    for chunk in chunked(sorted(replaced), 5_000):
        known += await session.scalars(select(Connection).where(col(Connection.id).in_(chunk)))
    last = await last_successors(session, known)
    pairs = [
        (last[each.id], each)
        for each in known
        if each.id in last and listed_setup(each) in ESTABLISHED
    ]
    lost: set[str] = set()
    for chunk in chunked(sorted({each.id for pair in pairs for each in pair}), 5_000):
        given = {"of_app": app, "since": now - HEIR_WITHIN, "connections": chunk}
        lost |= set(await session.scalars(_lost(), given))
    return {
        (holder.id, each.id)
        for holder, each in pairs
        if holder.id in lost or (each.id in lost and each.created_at > holder.created_at)
    }


def listed_setup(connection: Connection) -> str:
    """How far a connection that was over has come, by what Makini's list says of it."""
    return setup_after(
        "disconnected", normalise_status(connection.list_status or ""), connected=False
    )


@cache
def _likely_succeeded() -> Any:
    """Built once: it is asked for every mail."""
    before, after = aliased(Connection), aliased(Connection)
    return (
        select(col(before.id))
        .join(after, is_of_same_system(before, after))
        .where(
            col(before.id).in_(bindparam("connections", expanding=True)),
            col(before.setup) != "disconnected",
            col(after.unlisted_since).is_(None),
            col(after.created_at) >= col(before.unlisted_since),
        )
    )


@cache
def _successors() -> Any:
    """Built once: every sweep asks it."""
    gone, heir = aliased(Connection), aliased(Connection)
    return (
        select(
            col(gone.id).label("gone"),
            col(heir.id).label("heir"),
            col(gone.created_at),
            col(gone.unlisted_since),
        )
        .join(heir, is_of_same_system(gone, heir))
        .where(
            col(gone.app) == bindparam("of_app"),
            col(gone.setup) == "disconnected",
            col(gone.replaced_by).is_(None),
            ~select(col(Succession.entity))
            .where(col(Succession.connection_id) == col(heir.id))
            .exists(),
            _left_by_list(gone),
        )
    )


@cache
def _lost() -> Any:
    """Built once: which of some connections ended because the list lost them."""
    gone = aliased(Connection)
    return select(col(gone.id)).where(
        col(gone.app) == bindparam("of_app"),
        col(gone.id).in_(bindparam("connections", expanding=True)),
        col(gone.setup) == "disconnected",
        _left_by_list(gone),
    )


def _left_by_list(gone: type[Connection]) -> Any:
    """Whether its last step to `disconnected` was Makini's list, not long ago: nobody ended it."""
    return (
        select(
            case(
                (
                    (col(Transition.source) == "list")
                    & (col(Transition.at) > bindparam("since", type_=UtcDateTime)),
                    True,
                ),
                else_=False,
            )
        )
        .where(
            col(Transition.connection_id) == col(gone.id),
            col(Transition.axis) == "setup",
            col(Transition.after) == "disconnected",
        )
        .order_by(col(Transition.at).desc(), col(Transition.id).desc())
        .limit(1)
        .scalar_subquery()
    )
