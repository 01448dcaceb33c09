"""Whether what is known of a lost login is recent; who is about to be written to is asked first.

A sweep asks each connection in trouble every few minutes. After a time in which none ran (nothing
of Linekeeper did, or Prefect was away) a login that was lost before may work again, and its
customer isn't to be told that it doesn't.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, select
from sqlmodel import col

from linekeeper.makini import MakiniError
from linekeeper.reconnect.case import KIND
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.store.engine import chunked
from linekeeper.store.tables import AppState, Connection
from linekeeper.sweep.batch import probe_batch

RECENT = timedelta(minutes=30)
"""What was seen within this time is how it is: several sweeps."""
AT_ONCE = 100
SECONDS = 30.0
"""How long a look may take; what hasn't answered by then is asked again the next time."""

_KNOWN = (
    select(
        col(Connection.id),
        col(Connection.app),
        col(Connection.health),
        col(Connection.last_answered_at),
        col(AppState.last_list_at),
    )
    .outerjoin(AppState, col(AppState.app) == col(Connection.app))
    .where(col(Connection.id).in_(bindparam("connections", expanding=True)))
)


async def not_known_to_be_lost(
    rt: Runtime, connections: Collection[str], *, now: datetime
) -> set[str]:
    """Those of `connections` whose login works after all, or may: they are asked where that is old.

    One that can't be asked, as it has no token, is as Makini's list says where that is recent.
    """
    before = await _known(rt, connections)
    old = {identifier: row for identifier, row in before.items() if _is_old(row, now)}
    for app in sorted({row.app for row in old.values()}):
        mine = sorted(identifier for identifier, row in old.items() if row.app == app)
        with suppress(TimeoutError, MakiniError, UnknownApp):
            async with asyncio.timeout(SECONDS):
                asked = mine[:AT_ONCE]
                await probe_batch(rt, await rt.app(app), asked, started=now, last_try=True)
    after = await _known(rt, old)
    return {
        identifier
        for identifier, row in after.items()
        if row.health != KIND
        or (row.last_answered_at == old[identifier].last_answered_at and not _is_listed(row, now))
    }


def _is_old(row: Any, now: datetime) -> bool:
    return row.last_answered_at is not None and row.last_answered_at < now - RECENT


def _is_listed(row: Any, now: datetime) -> bool:
    return row.last_list_at is not None and row.last_list_at >= now - RECENT


async def _known(rt: Runtime, connections: Collection[str]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    async with rt.store.read() as session:
        for chunk in chunked(sorted(connections), 5_000):
            found = await session.execute(_KNOWN, {"connections": chunk})
            rows |= {row.id: row for row in found}
    return rows
