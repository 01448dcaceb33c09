"""A connect link without an incident: a new customer, a second system, a login renewed in time."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.links import LINK_LIVES, link_url, make_link
from linekeeper.access.signing import load_signer
from linekeeper.customers.csv_cells import BadCell, one_line
from linekeeper.customers.find import find_connection
from linekeeper.customers.importing import free_slug
from linekeeper.customers.matching import read_customer_names
from linekeeper.makini import ReadOnlyApp
from linekeeper.refusal import Refusal
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.engine import insert_ignore
from linekeeper.store.modes import app_for, app_of
from linekeeper.store.tables import Audit, Connection, ConnectLink, Customer

_ACTION = "make a connect link"


class BadInvitation(Refusal):
    """No link can be made from what was given."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link to pass on; `for_whom` is `Customer · System`."""

    url: str
    for_whom: str
    expires_at: datetime
    link_id: str
    made_at: datetime
    made_by: str
    is_new: bool = True
    """False: the link was made before, and nobody has logged in by it yet."""

    @property
    def made_before(self) -> str:
        """Return a sentence that says since when there is a link that is given again."""
        if self.is_new:
            return ""
        return (
            f"It is the one that {self.made_by} had made on {self.made_at:%Y-%m-%d at %H:%M} UTC: "
            "nobody has logged in by it yet."
        )


async def invite_again(
    rt: Runtime, wanted: str, *, by: str, now: datetime, anew: bool = False
) -> Invitation:
    """A link for the connection called `wanted`. Raises `NotFound`, `ReadOnlyApp`.

    One that was made before and still works is given again, for as long as a new one; `anew`: it
    is another one all the same.
    """
    async with rt.store.read() as session:
        named = await find_connection(session, wanted)
        connection = await session.get_one(Connection, named.id)
    if not app_of(await rt.app(named.app), connection).manages:
        raise ReadOnlyApp(named.app, _ACTION, named.label)
    signer = await load_signer(rt.store)
    async with rt.store.write() as session:
        asked = _LinkSubject(
            app=named.app,
            connection_id=connection.id,
            customer_id=connection.customer_id,
            system=connection.provider or connection.name,
        )
        await session.get_one(Connection, connection.id, with_for_update=True)
        link = None if anew else await _given_again(session, asked, by, now=now)
        made = link or await _made(session, asked, by, now=now)
    url = link_url(signer, rt.settings.resolved_public_url, made.id)
    return _invitation(made, url, named.label, is_new=link is None)


async def invite_new(
    rt: Runtime,
    customer: str,
    system: str,
    *,
    app: str,
    by: str,
    now: datetime,
    anew: bool = False,
) -> Invitation:
    """A link by which `customer` connects `system`; one nobody knows yet is taken into the books.

    One that was made before for a system of that name and still works is given again; `anew` as
    for `invite_again`. Raises `BadInvitation`, `UnknownApp`, `ReadOnlyApp`.
    """
    name, wanted = _line("customer", customer), _line("system", system)
    configured = await rt.app(app)
    signer = await load_signer(rt.store)
    async with rt.store.write() as session:
        owner = await _customer(rt.store, session, name, now=now)
        held = await app_for(session, configured, connection_id=None, customer_id=owner.id)
        if not held.manages:
            raise ReadOnlyApp(app, _ACTION, f"{owner.name} · {wanted}")
        asked = _LinkSubject(app=app, connection_id=None, customer_id=owner.id, system=wanted)
        link = None if anew else await _given_again(session, asked, by, now=now)
        made = link or await _made(session, asked, by, now=now)
    url = link_url(signer, rt.settings.resolved_public_url, made.id)
    return _invitation(made, url, f"{owner.name} · {wanted}", is_new=link is None)


def _line(field: str, given: str) -> str:
    try:
        text = one_line(given)
    except BadCell as error:
        raise BadInvitation(field, str(error)) from None
    if text is None:
        raise BadInvitation(field, "give the customer's name and the system, such as UpKeep")
    return text


class _LinkSubject(TypedDict):
    """What a link is for."""

    app: str
    connection_id: str | None
    customer_id: str | None
    system: str


async def _given_again(
    session: AsyncSession, asked: _LinkSubject, by: str, *, now: datetime
) -> ConnectLink | None:
    """The link without an incident that works for the same; two at once lock what it is for."""
    links = await session.scalars(
        select(ConnectLink)
        .where(
            col(ConnectLink.app) == asked["app"],
            col(ConnectLink.connection_id) == asked["connection_id"],
            col(ConnectLink.customer_id) == asked["customer_id"],
            col(ConnectLink.incident_id).is_(None),
            col(ConnectLink.used_at).is_(None),
            col(ConnectLink.expires_at) > now,
        )
        .order_by(col(ConnectLink.id).desc())
    )
    wanted = asked["system"].casefold()
    for link in links:
        if asked["connection_id"] is not None or link.system.casefold() == wanted:
            link.expires_at = max(link.expires_at, now + LINK_LIVES)
            subject = asked["connection_id"] or asked["customer_id"] or ""
            session.add(_audit(by, "connect.link_given_again", subject, link.id, now))
            return link
    return None


async def _made(
    session: AsyncSession, asked: _LinkSubject, by: str, *, now: datetime
) -> ConnectLink:
    link = await make_link(session, **asked, by=by, now=now)
    subject = asked["connection_id"] or asked["customer_id"] or ""
    session.add(_audit(by, "connect.link_made", subject, link.id, now))
    return link


def _invitation(link: ConnectLink, url: str, for_whom: str, *, is_new: bool) -> Invitation:
    return Invitation(
        url, for_whom, link.expires_at, link.id, link.created_at, link.created_by, is_new
    )


async def _customer(store: Store, session: AsyncSession, name: str, *, now: datetime) -> Customer:
    """The customer of this name, locked; two who name a new one at once make one."""
    known = (await read_customer_names(session)).owner(name)
    if known is None:
        taken = set(await session.scalars(select(col(Customer.slug))))
        made = Customer(name=name, slug=free_slug(name, taken), created_at=now)
        await insert_ignore(store, session, Customer, [made.model_dump()])
        known = (await read_customer_names(session)).owner(name)
    return await session.get_one(Customer, known, with_for_update=True)


def _audit(by: str, action: str, subject: str, link_id: str, now: datetime) -> Audit:
    return Audit(at=now, by=by, action=action, subject=subject, detail={"link": link_id})
