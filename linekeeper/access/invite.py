"""A connect link without an incident: a new customer, a second system, a login renewed in time."""

from dataclasses import dataclass
from datetime import datetime

from slugify import slugify
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.links import link_url, make_link
from linekeeper.access.signing import load_signer
from linekeeper.customers.find import find_connection
from linekeeper.makini import ReadOnlyApp
from linekeeper.refusal import Refusal
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.modes import app_for, app_of
from linekeeper.store.tables import Audit, Connection, Customer

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


async def invite_again(rt: Runtime, wanted: str, *, by: str, now: datetime) -> Invitation:
    """A link for the connection called `wanted`. Raises `NotFound`, `ReadOnlyApp`."""
    async with rt.store.read() as session:
        named = await find_connection(session, wanted)
        connection = await session.get_one(Connection, named.id)
    if not app_of(await rt.app(named.app), connection).manages:
        raise ReadOnlyApp(named.app, _ACTION, named.label)
    signer = await load_signer(rt.store)
    async with rt.store.write() as session:
        link = await make_link(
            session,
            app=named.app,
            connection_id=connection.id,
            customer_id=connection.customer_id,
            system=connection.provider or connection.name,
            by=by,
            now=now,
        )
        session.add(_audit(by, connection.id, link.id, now))
    url = link_url(signer, rt.settings.resolved_public_url, link.id)
    return Invitation(url, named.label, link.expires_at, link.id)


async def invite_new(
    rt: Runtime, customer: str, system: str, *, app: str, by: str, now: datetime
) -> Invitation:
    """A link by which `customer` connects `system`; one nobody knows yet is taken into the books.

    Raises `BadInvitation`, `UnknownApp`, `ReadOnlyApp`.
    """
    name = " ".join(customer.split())
    if not name or not system.strip():
        raise BadInvitation(
            "system" if name else "customer",
            "give the customer's name and the system, such as UpKeep",
        )
    configured = await rt.app(app)
    signer = await load_signer(rt.store)
    async with rt.store.write() as session:
        owner = await _customer(session, name)
        held = await app_for(session, configured, connection_id=None, customer_id=owner.id)
        if not held.manages:
            raise ReadOnlyApp(app, _ACTION, f"{owner.name} · {system.strip()}")
        link = await make_link(
            session,
            app=app,
            connection_id=None,
            customer_id=owner.id,
            system=system.strip(),
            by=by,
            now=now,
        )
        session.add(_audit(by, owner.id, link.id, now))
    url = link_url(signer, rt.settings.resolved_public_url, link.id)
    return Invitation(url, f"{owner.name} · {system.strip()}", link.expires_at, link.id)


async def _customer(session: AsyncSession, name: str) -> Customer:
    known = await session.scalar(
        select(Customer).where(func.lower(col(Customer.name)) == name.lower())
    )
    if known is not None:
        return known
    base = slugify(name, max_length=60) or "customer"
    taken = await session.scalar(select(col(Customer.id)).where(col(Customer.slug) == base))
    identifier = new_id()
    made = Customer(id=identifier, name=name, slug=f"{base}-{identifier[-6:]}" if taken else base)
    session.add(made)
    await session.flush()
    return made


def _audit(by: str, subject: str, link_id: str, now: datetime) -> Audit:
    return Audit(
        at=now, by=by, action="connect.link_made", subject=subject, detail={"link": link_id}
    )
