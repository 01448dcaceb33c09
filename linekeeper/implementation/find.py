"""An implementation, or one of its gates, by what people call it."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.implementation.advance import NoSuchImplementation
from linekeeper.implementation.scope import PlanError
from linekeeper.implementation.standing import Standing
from linekeeper.nearest import nearest
from linekeeper.store.tables import Customer, Gate, Implementation

SHOWN = 8


async def find_implementation(session: AsyncSession, wanted: str) -> str:
    """The id of the implementation `wanted` names: its id, slug, title, or its customer's name.

    Raises `NoSuchImplementation` with those that are near.
    """
    rows = (
        await session.execute(
            select(
                col(Implementation.id),
                col(Implementation.slug),
                col(Implementation.title),
                col(Implementation.status),
                col(Customer.name),
            ).join(Customer, col(Customer.id) == col(Implementation.customer_id))
        )
    ).all()
    folded = _fold(wanted)
    exact = [row for row in rows if wanted.strip() == row[0] or folded in map(_fold, row[1:3])]
    named = exact or [row for row in rows if _fold(row[4]) == folded]
    current = [row for row in named if row[3] in ("running", "held")] or named
    if len(current) == 1:
        return str(current[0][0])
    if current:
        several = "; ".join(sorted(row[2] for row in current)[:SHOWN])
        raise NoSuchImplementation(f"{wanted!r} names several implementations: {several}")
    if not rows:
        raise NoSuchImplementation("there is no implementation yet: start one first")
    offered = nearest(wanted, {row[2]: row[2] for row in rows})
    raise NoSuchImplementation(f"no implementation matches {wanted!r}. The nearest: {offered}")


def find_gate(standing: Standing, wanted: str) -> Gate:
    """The gate `wanted` names, by its id in the plan or its title. Raises `PlanError`."""
    folded = _fold(wanted)
    if not folded:
        raise PlanError("gate", f"say which: {_offered(standing)}")
    rows = list(standing.gates.values())
    matching = [row for row in rows if folded in (_fold(row.gate), _fold(row.title))]
    if not matching:
        matching = [row for row in rows if folded in _fold(row.title)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise PlanError("gate", f"{wanted!r} may be {'; '.join(row.title for row in matching)}")
    raise PlanError("gate", f"{wanted!r} is none of {_offered(standing)}")


def _offered(standing: Standing) -> str:
    ordered = [standing.gates[gate.id].title for gate in standing.plan.gates]
    return "; ".join(ordered[:20])


def _fold(text: str) -> str:
    return " ".join(text.replace("·", " ").replace("-", " ").casefold().split())
