"""Where in our books a login belongs; what is new is taken in, what it replaces ends."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from slugify import slugify
from sqlalchemy import exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.likeness import KnownConnection, LinkPurpose
from linekeeper.access.match import Match, match
from linekeeper.clock import utcnow
from linekeeper.customers.adopt import adopt
from linekeeper.customers.change import merge_customer
from linekeeper.customers.distinct_labels import distinguish_labels
from linekeeper.customers.naming import label
from linekeeper.customers.own_names import own_names
from linekeeper.customers.succession import succeed, take_back
from linekeeper.makini import ConnectionStatus, ListedConnection, MakiniError, TokenPair
from linekeeper.store import Store
from linekeeper.store.modes import apply_rules
from linekeeper.store.tables import (
    Audit,
    Connection,
    ConnectLink,
    Contact,
    Customer,
    CustomerLink,
    Implementation,
    ImplementationSystem,
)
from linekeeper.tokens.stored import destroy_tokens

SOURCE = "reconnect"


@dataclass(frozen=True, slots=True)
class Login:
    """What Makini gave for the code, whose it is, and what else the app lists.

    `listed` is None where the list stayed `away`: the pair is good all the same.
    """

    pair: TokenPair
    status: ConnectionStatus
    listed: Sequence[ListedConnection] | None
    away: MakiniError | None = None
    may_lag: bool = False
    """Whether the list may not show yet what the login made; the pair is kept until it does."""
    came_at: datetime | None = None
    platforms: Collection[str] = ()
    """What Makini calls the systems there are, where that was asked for."""


async def resolve_owner(
    store: Store, session: AsyncSession, link: ConnectLink, login: Login
) -> tuple[Match, str | None]:
    """Whose login it is, and the connection it belongs to, in the caller's transaction.

    None where it is another system, one we don't know, or where that isn't known yet. A connection
    it takes the place of ends.
    """
    matched = await whose(session, link, login)
    if matched.kind == "unlisted":
        return matched, None
    owner = await _owner(store, session, link, matched, login.status)
    unsaid = matched.listed is None or not matched.listed.id
    if owner is not None and unsaid and login.status.id:
        await remember_id(session, owner, login.status.id)
    if matched.replaced is not None and owner is not None:
        await succeed(
            store,
            session,
            matched.replaced.id,
            owner,
            source=SOURCE,
            message="Makini gave the new login another id",
            now=utcnow(),
        )
        await destroy_tokens(session, matched.replaced.id)
    return matched, owner


async def whose(session: AsyncSession, link: ConnectLink, login: Login) -> Match:
    """Whose login it is. It changes nothing."""
    known = await known_connections(session, link.app)
    asked = LinkPurpose(
        connection=next(
            (connection for connection in known if connection.id == link.connection_id), None
        ),
        customer_id=link.customer_id,
        system=link.system,
        other_systems=await _other_systems(session, link),
        unclaimed=await _unclaimed(session, link),
    )
    return match(
        asked,
        login.status,
        login.listed,
        known,
        platforms=login.platforms,
        may_lag=login.may_lag,
        came_at=login.came_at,
    )


def is_theirs(link: ConnectLink, match: Match) -> bool:
    """Whether the login that came is known to be of the link's customer. Pure.

    One of the company and system that was asked for is, unless it is in our books as another's.
    """
    theirs = match.known or match.replaced
    if theirs is None or theirs.customer_id is None:
        return bool(match.mail_before)
    return theirs.customer_id == link.customer_id


async def what(session: AsyncSession, link: ConnectLink, login: Login, match: Match) -> str:
    """What people know it by: its system as Makini's list or our books name it.

    Where the customer has several of that product, by what they call it.
    """
    if match.known is not None and match.known.customer_id == link.customer_id:
        alike = await own_names(session, link.customer_id, like=match.known.id)
        if len(alike) > 1 and match.known.id in alike:
            return alike[match.known.id]
    status = login.status
    name = match.listed.name if match.listed else match.known.name if match.known else ""
    return label(status.company_name or None, status.provider, name, None) or status.id


async def _other_systems(session: AsyncSession, link: ConnectLink) -> set[str]:
    """The connections of the link's customer that are other systems of an implementation."""
    if link.connection_id is not None or link.customer_id is None:
        return set()
    rows = await session.execute(
        select(col(ImplementationSystem.connection_id), col(ImplementationSystem.name))
        .join(Implementation, col(Implementation.id) == col(ImplementationSystem.implementation_id))
        .where(
            col(Implementation.customer_id) == link.customer_id,
            col(Implementation.status) != "abandoned",
            col(ImplementationSystem.connection_id).is_not(None),
        )
    )
    systems = [(str(connection), slugify(name)) for connection, name in rows]
    same = {connection for connection, name in systems if name == slugify(link.system)}
    return {connection for connection, _ in systems} - same


async def _unclaimed(session: AsyncSession, link: ConnectLink) -> set[str]:
    """The connections that a sweep took in since the link was made, and that are nobody's yet.

    Their customers were taken in with them, by the name that Makini's list has, and were asked for
    nothing: it may have seen this very login begin.
    """
    if link.connection_id is not None or link.customer_id is None:
        return set()
    owner = col(Connection.customer_id)
    rows = await session.scalars(
        select(col(Connection.id))
        .join(Customer, col(Customer.id) == owner)
        .where(
            col(Connection.app) == link.app,
            col(Connection.created_at) >= link.created_at,
            col(Customer.created_at) >= link.created_at,
            ~exists().where(col(ConnectLink.customer_id) == owner),
            ~exists().where(col(ConnectLink.used_for) == col(Connection.id)),
            ~exists().where(col(Implementation.customer_id) == owner),
        )
    )
    return set(rows)


async def known_connections(session: AsyncSession, app: str) -> list[KnownConnection]:
    """Every connection of `app` in our books, as far as matching goes."""
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
            col(Connection.replaced_by),
            col(Connection.metadata_digest),
            col(Connection.name),
            col(Connection.created_at),
            col(Connection.unlisted_since),
        )
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(col(Connection.app) == app)
    )
    known = []
    for identifier, key, makini_id, customer_id, customer, *others in rows:
        known.append(
            KnownConnection(identifier, key, makini_id, customer_id, customer or "", *others)
        )
    return known


async def _owner(
    store: Store,
    session: AsyncSession,
    link: ConnectLink,
    matched: Match,
    status: ConnectionStatus,
) -> str | None:
    """The connection the pair belongs to; one that is new is taken into the books."""
    now = utcnow()
    if matched.known is not None and matched.kind != "other":
        await take_back(session, matched.known.id)
    if matched.kind == "other" and matched.replaced is None:
        return matched.known.id if matched.known else None
    if matched.known is not None and matched.kind in ("same", "known"):
        listed = matched.listed
        if listed is not None and listed.key == matched.known.makini_key:
            await adopt(store, session, link.app, [listed], now=now)  # its setup moves on
        if matched.kind == "known" and link.customer_id != matched.known.customer_id:
            await _hand_over(session, matched.known.id, link.customer_id)
            await _merge_untouched(session, matched.known, link.customer_id)
        return matched.known.id
    entry, theirs = _entry(matched, status), link.customer_id
    if matched.kind == "other" and matched.replaced is not None:
        theirs = matched.replaced.customer_id
    adopted = await adopt(store, session, link.app, [entry], now=now, of_customer=theirs)
    identifier = adopted.ids[entry.key]
    await _hand_over(session, identifier, theirs)
    return identifier


async def _hand_over(session: AsyncSession, identifier: str, customer_id: str | None) -> None:
    """Make it the connection of the customer who logged in, with the rules for that one."""
    if customer_id is not None:
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == identifier)
            .values(customer_id=customer_id)
        )
        await distinguish_labels(session, [customer_id])
        await apply_rules(session, [identifier])


async def _merge_untouched(
    session: AsyncSession, connection: KnownConnection, heir_id: str | None
) -> None:
    """The customer that a sweep took in with `connection` is the one who logged in.

    It stays where it owns anything else, or where a person has seen to it.
    """
    if connection.customer_id is None or heir_id is None:
        return
    customer = await session.get_one(Customer, connection.customer_id)
    seen_to = (customer.owner, customer.critical, customer.hosting, customer.tier, customer.aliases)
    if any(seen_to):
        return
    of_it = customer.id
    is_kept = await session.scalar(
        select(
            exists().where(col(Connection.customer_id) == of_it)
            | exists().where(col(CustomerLink.customer_id) == of_it)
            | exists().where(col(Contact.customer_id) == of_it, col(Contact.confirmed))
            | exists().where(col(Audit.subject) == of_it)
            | ~exists().where(
                col(Connection.id) == connection.id,
                col(Connection.created_at) == customer.created_at,
            )
        )
    )
    if not is_kept:
        await merge_customer(session, customer, await session.get_one(Customer, heir_id))


async def remember_id(session: AsyncSession, owner: str, makini_id: str) -> None:
    """What the status calls it: the list doesn't say, and the next login is recognised by it."""
    await session.execute(
        update(Connection).where(col(Connection.id) == owner).values(makini_id=makini_id)
    )


def _entry(matched: Match, status: ConnectionStatus) -> ListedConnection:
    """What Makini's list says of it, or would once it lists it."""
    return matched.listed or ListedConnection(
        key=status.id,
        id=status.id,
        name=" - ".join(filter(None, (status.company_name, status.provider))),
        email=status.email,
        status="Active",
        provider=status.provider,
    )
