"""What came back from Makini Link: checked, exchanged, matched, stored, told (MISSION C4)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.connect.links import State, link_url, read_state, redirect_uri
from linekeeper.connect.signing import load_signer
from linekeeper.customers.adopt import adopt
from linekeeper.health.conclude import conclude
from linekeeper.health.probe import understand
from linekeeper.health.service import observe
from linekeeper.makini import ConnectionStatus, ListedConnection, MakiniError, TokenPair
from linekeeper.reconnect.match import Asked, Known, Match, match
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.store import Store, new_id
from linekeeper.store.leases import holding
from linekeeper.store.tables import (
    Audit,
    ConnectAttempt,
    Connection,
    ConnectLink,
    Customer,
    Transition,
)
from linekeeper.store.upsert import insert_ignore
from linekeeper.tokens import save_tokens

SOURCE = "reconnect"
_LEASE_SECONDS = 90
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


@dataclass(frozen=True, slots=True)
class _Login:
    """What Makini gave for the code, whose it is, and what else the app lists."""

    pair: TokenPair
    status: ConnectionStatus
    listed: Sequence[ListedConnection]


async def finish(
    rt: Runtime, *, code: str | None, state: str | None, denied: bool, now: datetime
) -> Ending:
    """Take a callback to its end. The link is used up only by success.

    `code` and `state` are as they came; `denied` says that an error came instead of a code.
    """
    admitted = await _admit(rt, state, now)
    if isinstance(admitted, Ending):
        return admitted
    link, read, url = admitted
    if denied or not code:
        await _note(rt, read, "denied")
        return Ending("denied", link.system, connect_url=url)
    # One callback of a link at a time: a second login kills the pair of the first.
    me = f"{rt.owner}:{new_id()}"
    async with holding(rt.store, f"connect:{link.id}", me, seconds=_LEASE_SECONDS, wait=True):
        ending = await _exchange(rt, link, code, url, now)
    await _note(rt, read, ending.how)
    return ending


async def _admit(
    rt: Runtime, state: str | None, now: datetime
) -> Ending | tuple[ConnectLink, State, str]:
    """The link a `state` belongs to, and its address; the state is used up by that."""
    if not state:
        return Ending("no_state")
    signer = await load_signer(rt.store)
    read = read_state(signer, state)
    link = None
    if read is not None:
        async with rt.store.read() as session:
            link = await session.get(ConnectLink, read.link_id)
    if read is None or link is None:
        return Ending("forged")
    if link.used_at is not None:
        return Ending("used", link.system)
    url = link_url(signer, rt.settings.resolved_public_url, link.id)
    if read.expires_at <= now:
        return Ending("too_late", link.system, connect_url=url)
    if not await _first_use(rt, read, now):
        return Ending("used", link.system, connect_url=url)
    return link, read, url


async def _first_use(rt: Runtime, state: State, now: datetime) -> bool:
    async with rt.store.write() as session:
        row = {"nonce": state.nonce, "link_id": state.link_id, "at": now, "outcome": "begun"}
        taken = await session.execute(
            insert_ignore(rt.store, ConnectAttempt, [row]).returning(col(ConnectAttempt.nonce))  # type: ignore[attr-defined]  # an insert has it
        )
        return taken.scalar_one_or_none() is not None


async def _note(rt: Runtime, state: State, outcome: Ended) -> None:
    async with rt.store.write() as session:
        await session.execute(
            update(ConnectAttempt)
            .where(col(ConnectAttempt.nonce) == state.nonce)
            .values(outcome=outcome)
        )


async def _exchange(rt: Runtime, link: ConnectLink, code: str, url: str, now: datetime) -> Ending:
    async with rt.store.read() as session:
        fresh = await session.get_one(ConnectLink, link.id)
    if fresh.used_at is not None:
        return Ending("used", link.system)
    try:
        app = await rt.app(link.app)
        makini = rt.makini(app)
        target = redirect_uri(rt.settings.resolved_public_url)
        pair = await makini.exchange_code(code, target)
        status = await _status(rt, app, pair)
        listed = [one async for page in makini.list_connections() for one in page]
    except (MakiniError, UnknownApp) as error:
        how: Ended = "away" if isinstance(error, MakiniError) and error.retryable else "refused"
        await _audit(rt, link, f"login.{how}", str(error), now)
        return Ending(how, link.system, connect_url=url)
    if status.sync_status == "fail":
        await _audit(rt, link, "login.refused", "the system refuses the new login", now)
        return Ending("refused", link.system, connect_url=url)
    return await _settle(rt, link, _Login(pair, status, listed), url)


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


async def _settle(rt: Runtime, link: ConnectLink, login: _Login, url: str) -> Ending:
    """Store the pair where it belongs, and what follows from it, in one transaction."""
    policy = (await rt.configuration()).policy
    status, now = login.status, utcnow()
    async with rt.store.write() as session:
        known = await _known(session, link.app)
        asked = Asked(
            connection=next((one for one in known if one.id == link.connection_id), None),
            customer_id=link.customer_id,
            system=link.system,
        )
        found = match(asked, status, login.listed, known)
        owner = await _owner(rt.store, session, link, found, _entry(found, status))
        if owner is not None:
            # Also where it isn't what was asked for: the login killed this connection's old pair.
            await save_tokens(rt.store, session, {owner: login.pair}, now=now)
            seen = replace(understand(status, now), source=SOURCE)
            await observe(rt.store, session, [(owner, seen)], policy=policy, now=now)
        if found.kind == "other":
            session.add(_audit_row(link, "login.other_system", _what(status), now))
            await session.flush()
        else:
            assert owner is not None  # every other kind of match has one
            if found.kind == "replaces" and asked.connection is not None:
                await _replace(session, asked.connection, owner, now)
            await _use_up(session, link, owner, now)
        await conclude(rt.store, session, policy=policy, now=now)
    if found.kind == "other":
        return Ending("other_system", link.system, came=_what(status), connect_url=url)
    return Ending("done", link.system or status.provider)


async def _known(session: AsyncSession, app: str) -> list[Known]:
    rows = await session.execute(
        select(
            col(Connection.id),
            col(Connection.makini_key),
            col(Connection.makini_id),
            col(Connection.customer_id),
            col(Customer.name),
            col(Connection.provider),
            col(Connection.email),
            col(Connection.setup),
        )
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(col(Connection.app) == app)
    )
    return [
        Known(row[0], row[1], row[2], row[3], row[4] or "", row[5], row[6], row[7]) for row in rows
    ]


async def _owner(
    store: Store, session: AsyncSession, link: ConnectLink, found: Match, entry: ListedConnection
) -> str | None:
    """The connection the pair belongs to; one that is new is taken into the books."""
    now = utcnow()
    if found.kind == "other":
        return found.known.id if found.known else None
    if found.known is not None and found.kind in ("same", "known"):
        if entry.key == found.known.makini_key:
            await adopt(store, session, link.app, [entry], now=now)  # its setup moves on
        return found.known.id
    identifier = (await adopt(store, session, link.app, [entry], now=now)).ids[entry.key]
    if link.customer_id is not None:
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == identifier)
            .values(customer_id=link.customer_id)
        )
    return identifier


def _entry(found: Match, status: ConnectionStatus) -> ListedConnection:
    """What Makini's list says of it, or would once it lists it."""
    return found.listed or ListedConnection(
        key=status.id,
        id=status.id,
        name=" - ".join(filter(None, (status.company_name, status.provider))),
        email=status.email,
        status="Active",
        provider=status.provider,
    )


async def _replace(session: AsyncSession, old: Known, new: str, now: datetime) -> None:
    """The old connection ends; its history stays, and says what it became."""
    await session.execute(
        update(Connection)
        .where(col(Connection.id) == old.id)
        .values(setup="disconnected", replaced_by=new)
    )
    await session.execute(
        insert(Transition),
        [
            {
                "id": new_id(),
                "connection_id": old.id,
                "at": now,
                "axis": "setup",
                "before": old.setup,
                "after": "disconnected",
                "source": SOURCE,
                "evidence": {"message": "Makini gave the new login another id", "now": new},
            }
        ],
    )


async def _use_up(session: AsyncSession, link: ConnectLink, owner: str, now: datetime) -> None:
    await session.execute(
        update(ConnectLink)
        .where(col(ConnectLink.id) == link.id)
        .values(used_at=now, used_for=owner)
    )
    session.add(_audit_row(link, "login.renewed", owner, now))
    await session.flush()


async def _audit(rt: Runtime, link: ConnectLink, action: str, text: str, now: datetime) -> None:
    async with rt.store.write() as session:
        session.add(_audit_row(link, action, text, now))


def _audit_row(link: ConnectLink, action: str, text: str, now: datetime) -> Audit:
    return Audit(
        at=now,
        by="customer, by connect link",
        action=action,
        subject=link.connection_id or link.customer_id or link.id,
        detail={"link": link.id, "text": text[:300]},
    )


def _what(status: ConnectionStatus) -> str:
    return " · ".join(filter(None, (status.company_name, status.provider))) or status.id
