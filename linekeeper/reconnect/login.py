"""A login, by code or by token pair: whose it is, whether it works, stored, told (MISSION C4)."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.connect.links import redirect_uri
from linekeeper.health.conclude import conclude
from linekeeper.health.probe import understand
from linekeeper.health.service import observe
from linekeeper.makini import ConnectionStatus, MakiniError, TokenPair
from linekeeper.notices.announce import announce
from linekeeper.notices.changes import IncidentChange
from linekeeper.reconnect.place import SOURCE, Login, place, what
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.store import Store
from linekeeper.store.tables import Audit, ConnectLink
from linekeeper.tokens import save_tokens

_STATUS_TRIES = 3

Ended = Literal[
    "done",
    "no_state",
    "forged",
    "too_late",
    "used",
    "denied",
    "other_system",
    "refused",
    "away",
]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a callback ended, in facts the page is written from; no secret is in it."""

    how: Ended
    system: str = ""
    """What was asked for."""
    came: str = ""
    """What was logged in to, where it is something else."""
    connect_url: str | None = None
    """The link, where it still works."""


async def redeem_code(
    rt: Runtime, link: ConnectLink, code: str, *, url: str | None, now: datetime
) -> Ending:
    """Exchange `code` and store what it gives; `url` is the link, for another try."""
    if await _is_used(rt, link):
        return Ending("used", link.system)
    try:
        app = await rt.app(link.app)
        pair = await rt.makini(app).exchange_code(
            code, redirect_uri(rt.settings.resolved_public_url)
        )
    except (MakiniError, UnknownApp) as error:
        return await _refused(rt, link, error, url, now)
    return await redeem_pair(rt, link, pair, url=url, now=now)


async def redeem_pair(
    rt: Runtime, link: ConnectLink, pair: TokenPair, *, url: str | None, now: datetime
) -> Ending:
    """Learn whose `pair` it is, prove that it works, and store it."""
    try:
        app = await rt.app(link.app)
        status = await _status(rt, app, pair)
        listed = [one async for page in rt.makini(app).list_connections() for one in page]
    except (MakiniError, UnknownApp) as error:
        return await _refused(rt, link, error, url, now)
    if status.sync_status == "fail":
        await _tell(rt, link, "login.refused", "the system refuses the new login", now)
        return Ending("refused", link.system, connect_url=url)
    return await _settle(rt, link, Login(pair, status, listed), url)


async def _is_used(rt: Runtime, link: ConnectLink) -> bool:
    async with rt.store.read() as session:
        return (await session.get_one(ConnectLink, link.id)).used_at is not None


async def _refused(
    rt: Runtime, link: ConnectLink, error: Exception, url: str | None, now: datetime
) -> Ending:
    how: Ended = "away" if isinstance(error, MakiniError) and error.retryable else "refused"
    await _tell(rt, link, f"login.{how}", str(error), now)
    return Ending(how, link.system, connect_url=url)


async def _status(rt: Runtime, app: AppConfig, pair: TokenPair) -> ConnectionStatus:
    """Whose token it is. Asked again where Makini stumbles: the code is spent already."""
    for attempt in range(_STATUS_TRIES):
        try:
            return await rt.makini(app).status(pair.access_token, connection="(new login)")
        except MakiniError as error:
            if not error.retryable or attempt == _STATUS_TRIES - 1:
                raise
            await asyncio.sleep(0.5 * (attempt + 1))
    raise AssertionError("unreachable")


async def _settle(rt: Runtime, link: ConnectLink, login: Login, url: str | None) -> Ending:
    """Store the pair where it belongs, and what follows from it, in one transaction."""
    policy = (await rt.configuration()).policy
    status, now = login.status, utcnow()
    async with rt.store.write() as session:
        found, owner = await place(rt.store, session, link, login)
        if owner is not None:
            # Also where it isn't what was asked for: the login killed this connection's old pair.
            await save_tokens(rt.store, session, {owner: login.pair}, now=now)
            seen = replace(understand(status, now), source=SOURCE)
            await observe(rt.store, session, [(owner, seen)], policy=policy, now=now)
        if found.kind == "other":
            session.add(_audit_row(link, "login.other_system", what(status), now))
            text = f"it was another system, {what(status)}"
            await _announce(rt.store, session, link, text, now)
        else:
            assert owner is not None  # every other kind of match has one
            await _use_up(session, link, owner, now)
        await conclude(rt.store, session, policy=policy, now=now)
    if found.kind == "other":
        return Ending("other_system", link.system, came=what(status), connect_url=url)
    return Ending("done", link.system or status.provider)


async def _use_up(session: AsyncSession, link: ConnectLink, owner: str, now: datetime) -> None:
    await session.execute(
        update(ConnectLink)
        .where(col(ConnectLink.id) == link.id)
        .values(used_at=now, used_for=owner)
    )
    session.add(_audit_row(link, "login.renewed", owner, now))
    await session.flush()


async def _tell(rt: Runtime, link: ConnectLink, action: str, text: str, now: datetime) -> None:
    """Into the audit, and to operators: somebody tried, and it did not work."""
    async with rt.store.write() as session:
        session.add(_audit_row(link, action, text, now))
        await _announce(rt.store, session, link, text, now)


async def _announce(
    store: Store, session: AsyncSession, link: ConnectLink, text: str, now: datetime
) -> None:
    if link.incident_id is None:
        return
    said = f"{link.system or 'The system'}: somebody tried to log in, and it did not work: {text}."
    change = IncidentChange(link.incident_id, "changed", said[:500])
    await announce(store, session, [change], now=now)


def _audit_row(link: ConnectLink, action: str, text: str, now: datetime) -> Audit:
    return Audit(
        at=now,
        by="customer, by connect link",
        action=action,
        subject=link.connection_id or link.customer_id or link.id,
        detail={"link": link.id, "text": text[:300]},
    )
