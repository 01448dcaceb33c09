"""What came back from Makini Link: whether it is ours to take (MISSION C4).

The `state` is signed, bound to its link, good for one callback, and expires; without it nothing is
exchanged. A link has a few attempts an hour. For an app whose Makini doesn't give the `state` back
(`state_required` off) the customer's browser keeps it, and what is kept counts if it is of one link
only.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import case, func, select, update
from sqlmodel import col

from linekeeper.access.ending import Ended, Ending, after
from linekeeper.access.links import LinkState, link_url, read_state
from linekeeper.access.login import Attempt
from linekeeper.access.pending import kept_login
from linekeeper.access.signing import load_signer
from linekeeper.access.time_limit import ended_soon
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store.engine import ignoring
from linekeeper.store.modes import app_of, chosen_for
from linekeeper.store.tables import ConnectAttempt, Connection, ConnectLink

ATTEMPTS_AN_HOUR = 6
"""How many attempts one link has; whoever comes back without a code has tried nothing."""
RETURNS_AN_HOUR = 20
"""The same, with those who denied their consent: each is a row."""


async def finish(
    rt: Runtime,
    *,
    code: str | None,
    state: str | None,
    remembered: Sequence[str] = (),
    denied: bool,
    now: datetime,
) -> Ending:
    """Take a callback to its end. The link is used up only by success.

    `code` and `state` are as they came, `remembered` are states the browser kept; `denied` says
    that an error came instead of a code.
    """
    opened = await _opened(rt, state or await _only(rt, remembered, now))
    if isinstance(opened, Ending):
        return opened
    read, link, url = opened
    refused = await _refused(rt, read, link, url, now)
    ending = refused or await _attempt(rt, link, read, url, code=code, denied=denied, now=now)
    return replace(
        after(ending, link.expires_at, now if refused else utcnow()), customer_id=link.customer_id
    )


async def _attempt(
    rt: Runtime,
    link: ConnectLink,
    read: LinkState,
    url: str,
    *,
    code: str | None,
    denied: bool,
    now: datetime,
) -> Ending:
    attempt = Attempt(rt, link, url)

    async def attempted() -> Ending:
        ending = await (attempt.deny() if denied or not code else attempt.take(code))
        await _note(rt, read, ending.how)
        return ending

    return await ended_soon(rt, f"callback:{read.nonce}", attempted, link=link, url=url, now=now)


async def _opened(rt: Runtime, state: str | None) -> Ending | tuple[LinkState, ConnectLink, str]:
    """What a `state` says, the link it belongs to, and its address."""
    if not state:
        return Ending("no_state")
    signer = await load_signer(rt.store)
    read = read_state(signer, state)
    if read is not None:
        async with rt.store.read() as session:
            link = await session.get(ConnectLink, read.link_id)
        if link is not None:
            return read, link, link_url(signer, rt.settings.resolved_public_url, link.id)
    return Ending("forged")


async def _refused(
    rt: Runtime, read: LinkState, link: ConnectLink, url: str, now: datetime
) -> Ending | None:
    """Why nothing is tried; None where the state is used up by an attempt.

    An earlier one may have left a login that is kept.
    """
    async with rt.store.read() as session:
        connection = None
        if link.connection_id is not None:
            connection = await session.get(Connection, link.connection_id)
        chosen = await chosen_for(
            session, link.app, connection_id=link.connection_id, customer_id=link.customer_id
        )
    if link.used_at is not None:
        return Ending("used", link.system, used_link=link.id)
    if connection is not None and connection.setup == "disconnected" and link.expires_at <= now:
        return Ending("ended", link.system)
    app = (await rt.configuration()).apps.get(link.app)
    if app is not None and not app_of(app, chosen).manages:
        return Ending("observed", link.system)  # exchanging the code would end the product's tokens
    how = await _begin(rt, read, now) if read.expires_at > now else "too_late"
    if how is None:
        return None
    async with rt.store.read() as session:
        is_kept = await kept_login(session, link) is not None
    return Ending(how, link.system, connect_url=url, is_kept=is_kept)


async def _only(rt: Runtime, remembered: Sequence[str], now: datetime) -> str | None:
    """The state the browser kept, if it is certain which link it came by and the app takes it."""
    if not remembered:
        return None
    signer = await load_signer(rt.store)
    read = [(text, read_state(signer, text)) for text in remembered]
    valid = [(text, state) for text, state in read if state and state.expires_at > now]
    if len({state.link_id for _, state in valid}) != 1:
        return None
    text, state = valid[0]
    async with rt.store.read() as session:
        link = await session.get(ConnectLink, state.link_id)
    app = (await rt.configuration()).apps.get(link.app) if link is not None else None
    return text if app is not None and not app.state_required else None


async def _begin(
    rt: Runtime, state: LinkState, now: datetime
) -> Literal["used", "too_often"] | None:
    """Use `state` up, or say why not. A link has a few attempts an hour, and a row for each.

    Whoever has a link can have any number of states, and each attempt costs a call to Makini: not
    that of somebody who came back without a code.
    """
    async with rt.store.write() as session:
        # Attempts of one link are counted one after the other.
        await session.execute(
            select(col(ConnectLink.id))
            .where(col(ConnectLink.id) == state.link_id)
            .with_for_update(key_share=True)
        )
        recent = await session.execute(
            select(
                func.count(),
                func.sum(case((col(ConnectAttempt.outcome) == "denied", 1), else_=0)),
            ).where(
                col(ConnectAttempt.link_id) == state.link_id,
                col(ConnectAttempt.at) > now - timedelta(hours=1),
            )
        )
        returns, denied = recent.one()
        if returns - (denied or 0) >= ATTEMPTS_AN_HOUR or returns >= RETURNS_AN_HOUR:
            return "too_often"
        row = {"nonce": state.nonce, "link_id": state.link_id, "at": now, "outcome": "begun"}
        taken = await session.execute(
            ignoring(ConnectAttempt, is_sqlite=rt.store.is_sqlite).returning(
                col(ConnectAttempt.nonce)
            ),
            row,
        )
        return "used" if taken.scalar_one_or_none() is None else None


async def _note(rt: Runtime, state: LinkState, outcome: Ended) -> None:
    async with rt.store.write() as session:
        await session.execute(
            update(ConnectAttempt)
            .where(col(ConnectAttempt.nonce) == state.nonce)
            .values(outcome=outcome)
        )
