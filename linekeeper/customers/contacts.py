"""Whom at a customer Linekeeper may write to."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store.tables import Contact


async def recipients(session: AsyncSession, customer_id: str) -> list[str]:
    """The customer's e-mail addresses that a person has confirmed; a mere proposal gets no mail."""
    return list(
        await session.scalars(
            select(col(Contact.email))
            .where(col(Contact.customer_id) == customer_id, col(Contact.confirmed))
            .order_by(col(Contact.id))
        )
    )
