"""A kept login whose link, or connection, was logged in to once more before Makini spoke of it.

The later login killed its pair, if both are of one connection. If somebody had logged in to another
one by the link, the pair that was kept is the only one of that connection that lives.
"""

from datetime import datetime, timedelta

from msgspec.structs import replace
from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.ending import Ending, how_it_ended, why_not
from linekeeper.access.owner import SOURCE, Login, resolve_owner, what, whose
from linekeeper.access.pending import (
    SUPERSEDED,
    Pending,
    count_refusal,
    end_refused,
    forget_pending,
)
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Health
from linekeeper.health.held import load_held
from linekeeper.health.probe import understand
from linekeeper.health.service import observe
from linekeeper.makini import TokenPair
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.tables import Audit, ConnectLink, PendingLogin
from linekeeper.tokens.stored import (
    StoredPair,
    UnreadableToken,
    load_pair,
    own,
    replace_pair,
    save_tokens,
)

REFUSAL_MAY_PASS = timedelta(hours=1)
"""How long a superseded pair that Makini refuses is asked about: what is forgotten is lost."""
REFUSED_FOR_GOOD = timedelta(days=1)
"""How long one that nothing superseded is refused: nobody is reminded meanwhile."""


async def is_superseded(session: AsyncSession, pending_id: str) -> bool:
    """Whether what its link asks for was logged in to since, by that link or another one."""
    query = select(exists().where(col(PendingLogin.id) == pending_id, SUPERSEDED))
    return bool(await session.scalar(query))


async def settle_superseded(
    rt: Runtime, session: AsyncSession, link: ConnectLink, login: Login, kept: Pending, *, by: str
) -> Ending | None:
    """Store the pair if it is another connection's that we know, or of one that takes its place;
    nothing else follows from it.

    None where the pair is no older than that of the later login: a clock was wrong, or that one,
    which came first, ended last.
    """
    match = await whose(session, link, login)
    owner = match.known or match.replaced
    how = how_it_ended(match, owner.id if owner is not None else None, login)
    if how in ("away", "unlisted"):
        return Ending(how, link.system, is_kept=True)
    if owner is not None and owner.id in (link.connection_id, link.used_for):
        if not await _is_newer_stored(rt.store, session, owner.id, login.pair):
            return None
    elif owner is not None and owner.setup != "disconnected":
        theirs: str | None = owner.id
        if match.replaced is not None:
            _, theirs = await resolve_owner(rt.store, session, link, login)
        assert theirs is not None  # whatever takes a place is taken into the books
        await store_login(rt, session, theirs, login, kept)
        came = await what(session, link, login, match)
        text = why_not("other_system", login, match, came)
        detail = {"link": link.id, "text": text[:300]}
        subject = link.connection_id or link.customer_id or link.id
        action = "login.other_system"
        session.add(Audit(at=utcnow(), by=by, action=action, subject=subject, detail=detail))
    await forget_pending(session, kept.id)
    return Ending("used", link.system, used_link=link.id)


async def forget_refused(store: Store, kept: Pending, *, now: datetime) -> None:
    """Count that Makini has refused a pair; forget one that it has refused for long enough.

    Where no later login superseded it, its customer is asked to log in again.
    """
    async with store.write() as session:
        refused_for = await count_refusal(session, kept.id)
        if refused_for < REFUSAL_MAY_PASS:
            return
        if await is_superseded(session, kept.id):
            await forget_pending(session, kept.id)
        elif refused_for >= REFUSED_FOR_GOOD:
            await end_refused(store, session, kept.id, now=now)


async def store_login(
    rt: Runtime, session: AsyncSession, owner: str, login: Login, kept: Pending | None
) -> bool:
    """Store the pair of a login as its connection's, and what its status says of that.

    Returns whether the login counts as lost all the same; the next sweep decides.
    """
    now, policy = utcnow(), (await rt.configuration()).policy
    if kept is not None and kept.is_known:
        await _save_kept(rt.store, session, owner, login.pair, now=now)
    else:
        await save_tokens(rt.store, session, {owner: login.pair}, now=now)
    await own(session, owner)
    login_at = kept.received_at if kept is not None else now
    seen = replace(understand(login.status, now), source=SOURCE, login_at=login_at)
    await observe(rt.store, session, [(owner, seen)], policy=policy, now=now)
    held = await load_held(session, [owner], now)
    return held[owner].judged.own is Health.reauthorization_required


async def _save_kept(
    store: Store, session: AsyncSession, connection_id: str, pair: TokenPair, *, now: datetime
) -> None:
    """Store a pair that has waited, unless the one that is stored is newer."""
    try:
        stored = await load_pair(store, session, connection_id)
    except UnreadableToken:
        await save_tokens(store, session, {connection_id: pair}, now=now)
        return
    if stored is None or not _is_newer(stored, pair):
        await replace_pair(store, session, connection_id, pair, instead_of=stored, now=now)


async def _is_newer_stored(
    store: Store, session: AsyncSession, connection_id: str, pair: TokenPair
) -> bool:
    try:
        stored = await load_pair(store, session, connection_id)
    except UnreadableToken:
        return False
    return stored is not None and _is_newer(stored, pair)


def _is_newer(stored: StoredPair, pair: TokenPair) -> bool:
    """Whether `stored` ends later, by Makini's own clock. Pure.

    One that was minted, or that Makini refuses to renew, doesn't count.
    """
    ends_at = stored.token.expires_at
    if ends_at is None or pair.expires_at is None:
        return False
    return not stored.token.minted and stored.refused_at is None and ends_at > pair.expires_at
