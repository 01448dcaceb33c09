"""Makini's connection list as logins need it: one listing serves all that it can, in any process.

A fleet of 10,000 is a hundred calls a listing. So the last one is kept, encrypted, beside the
settings, and one is made at a time: whoever waits for it looks at what it brought.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import orjson
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import delete, or_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import monotonic
from linekeeper.makini import ListedConnection, MakiniClient, MakiniError
from linekeeper.runtime import Runtime
from linekeeper.store import KeyProblem, new_id
from linekeeper.store.engine import insert_or_update
from linekeeper.store.leases import LeaseLost, holding, is_taken
from linekeeper.store.tables import AppSetting

SHARED_FOR = timedelta(seconds=30)
WAIT_SECONDS = 30.0
"""How long a login waits for another's listing to end before it makes one of its own: until it is
verified, a sweep may find the pair refused that it replaced, and ask the customer again."""
_LOOK_AGAIN_SECONDS = 1.0
_LEASE_SECONDS = 60.0
_LISTING = "listing"
_LISTED = TypeAdapter(list[ListedConnection])


@dataclass(frozen=True, slots=True)
class ConnectionListing:
    """What Makini listed, by a listing that was begun at `begun_at` (the database's clock)."""

    begun_at: datetime
    connections: Sequence[ListedConnection]

    def settles(self, makini_id: str, *, since: datetime, now: datetime) -> bool:
        """Whether it shows whose the login is whose pair came before `since`. Pure.

        A login may have made a connection that an earlier listing could not name, so an earlier one
        counts only where it names this very id.
        """
        if self.begun_at >= since:
            return True
        named = any(makini_id in (entry.id, entry.key) for entry in self.connections)
        return bool(makini_id) and named and now - self.begun_at < SHARED_FOR


async def listed_for(
    rt: Runtime, makini: MakiniClient, app: str, makini_id: str, *, since: datetime
) -> Sequence[ListedConnection]:
    """A listing that shows whose the login with `makini_id` is; made only where none does.

    `since` is when its pair was there, by the database's clock. Raises `MakiniError`.
    """
    me = f"{rt.owner}:{new_id()}"
    impatient_at = monotonic() + WAIT_SECONDS
    while (kept := await _kept(rt, app, makini_id, since)) is None:
        is_patient = monotonic() < impatient_at
        if is_patient and await _is_being_made(rt, app):
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            continue
        try:
            async with holding(rt.store, _LISTING, me, subject=app, seconds=_LEASE_SECONDS) as held:
                if held is None and is_patient:
                    continue
                kept = await _kept(rt, app, makini_id, since)
                return kept if kept is not None else await _listed(rt, makini, app, makini_id)
        except LeaseLost:
            return await _listed(rt, makini, app, makini_id)
    return kept


async def _is_being_made(rt: Runtime, app: str) -> bool:
    async with rt.store.read() as session:
        return await is_taken(rt.store, session, _LISTING, app)


def _name(app: str) -> str:
    return f"{_LISTING}:{app}"


async def forget_listings(session: AsyncSession) -> None:
    """Forget what was listed for logins: it holds names."""
    of_before = col(AppSetting.kind).is_(None) & col(AppSetting.name).startswith("listing:")
    await session.execute(
        delete(AppSetting).where(or_(col(AppSetting.kind) == _LISTING, of_before))
    )


async def _kept(
    rt: Runtime, app: str, makini_id: str, since: datetime
) -> Sequence[ListedConnection] | None:
    async with rt.store.read() as session:
        now = await rt.store.clock(session)
        row = await session.get(AppSetting, _name(app))
    if row is None or (row.updated_at < since and now - row.updated_at >= SHARED_FOR):
        return None
    try:
        connections = _LISTED.validate_json(rt.store.cipher.decrypt(row.value))
    except (KeyProblem, ValidationError):
        return None
    listing = ConnectionListing(row.updated_at, connections)
    return connections if listing.settles(makini_id, since=since, now=now) else None


async def _listed(
    rt: Runtime, makini: MakiniClient, app: str, makini_id: str
) -> list[ListedConnection]:
    """A new listing. One that breaks off serves where it names `makini_id`, and is not kept."""
    async with rt.store.read() as session:
        begun_at = await rt.store.clock(session)
    connections: list[ListedConnection] = []
    try:
        async for page in makini.list_connections():
            connections += page.connections
    except MakiniError as error:
        named = any(makini_id in (entry.id, entry.key) for entry in connections)
        if error.fault is None or not (makini_id and named):
            raise
        return connections
    text = orjson.dumps([asdict(connection) for connection in connections]).decode()
    row = {
        "name": _name(app),
        "kind": _LISTING,
        "subject": app,
        "value": rt.store.cipher.encrypt(text),
        "updated_at": begun_at,
    }
    async with rt.store.write() as session:
        await insert_or_update(
            rt.store, session, AppSetting, [row], key=["name"], update=["value", "updated_at"]
        )
    return connections
