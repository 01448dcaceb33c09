"""Mails that no incident asks for wait while their systems rest, as incidents ask nobody then.

Any mail waits while the settings of its app can't be read: it may be set to write to nobody.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import select, union
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.incidents.windows import is_paused, resting_until
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store import Store
from linekeeper.store.configuration import configured_apps
from linekeeper.store.tables import Connection, ConnectLink


async def resting_mails(
    store: Store, rows: Sequence[OutboxRow], apps: Collection[str]
) -> Collection[str]:
    """The ids of those of `rows` all of whose systems are in a maintenance window, or in a pause,
    and of those to customers of an app that is set, but not among `apps`, which can be read.

    A mail about a system that is not connected yet waits in a pause alone.
    """
    async with store.read() as session:
        customers = await _of_apps(session, await configured_apps(session) - {*apps})
    unread = {row.id for row in rows if row.payload.get("customer_id") in customers}
    return unread | await _resting(store, rows)


async def _of_apps(session: AsyncSession, apps: Collection[str]) -> Collection[str | None]:
    if not apps:
        return ()
    tables = (Connection, ConnectLink)
    theirs = (select(col(of.customer_id)).where(col(of.app).in_(apps)) for of in tables)
    return {*await session.scalars(union(*theirs))} - {None}


async def _resting(store: Store, rows: Sequence[OutboxRow]) -> set[str]:
    ending = {row.id: row.payload["connections"] for row in rows if row.payload["do"] == "ending"}
    setup = {row.id: row.payload["link_id"] for row in rows if row.payload["do"] == "setup"}
    if not (ending or setup):
        return set()
    now = utcnow()
    async with store.read() as session:
        if await is_paused(session, now):
            return {*ending, *setup}
        links = await session.execute(
            select(col(ConnectLink.id), col(ConnectLink.connection_id)).where(
                col(ConnectLink.id).in_(setup.values()), col(ConnectLink.connection_id).is_not(None)
            )
        )
        of_link = {row[0]: row[1] for row in links}
        systems = ending | {row: [of_link[link]] for row, link in setup.items() if link in of_link}
        every = sorted({each for theirs in systems.values() for each in theirs})
        resting = await resting_until(session, every, now)
    return {row for row, theirs in systems.items() if theirs and resting.keys() >= {*theirs}}
