"""Connections that need a new token for each probe, which is a call more."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.store.modes import is_managed
from linekeeper.store.tables import Connection, Credential
from linekeeper.sweep.pace import SWEEP_MINUTES
from linekeeper.tokens.stored import is_live


async def count_renewed(session: AsyncSession, app: AppConfig, *, now: datetime) -> int:
    """How many connections of `app` have a minted token that ends before the next sweep.

    Makini may mint tokens for five minutes only.
    """
    lasts = is_live(now + timedelta(minutes=SWEEP_MINUTES))
    counted = await session.scalar(
        select(func.count())
        .select_from(Connection)
        .join(Credential, col(Credential.connection_id) == col(Connection.id))
        .where(
            col(Connection.app) == app.name,
            col(Connection.setup) != "disconnected",
            is_managed(app),
            col(Credential.minted),
            ~lasts,
        )
    )
    return counted or 0
