"""Reading a customer's page, and taking what the customer ticks and comments on it."""

from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.links import link_url
from linekeeper.access.pending import kept_logins
from linekeeper.access.signing import Signer
from linekeeper.clock import zone_of
from linekeeper.customer_page.content import CustomerPage, StepFacts, SystemFacts, make_page
from linekeeper.customer_page.words import Words, words_of
from linekeeper.customers.own_names import OwnSystem, distinct_names
from linekeeper.implementation.answer import MAX_TEXT, answer_by_customer
from linekeeper.implementation.plan import PlannedGate
from linekeeper.implementation.queries import UNDERWAY, load_many
from linekeeper.implementation.standing import Standing
from linekeeper.preflight.network import Network
from linekeeper.store import Store, is_id
from linekeeper.store.tables import Connection, ConnectLink, Customer, CustomerLink, Implementation
from linekeeper.store.types import from_row

Outcome = Literal["saved", "settled", "empty", "long"]


async def read_page(
    session: AsyncSession,
    customer: Customer,
    signer: Signer,
    public_url: str,
    network: Network,
    *,
    now: datetime,
) -> tuple[CustomerPage, Words]:
    """The page of `customer` as things are now, and the words of its language."""
    words = words_of(customer.locale)
    page = make_page(
        customer.name,
        await _systems(session, customer.id, signer, public_url, now),
        await _steps(session, customer.id),
        words,
        addresses=network.addresses,
        zone=zone_of(customer.time_zone),
        now=now,
    )
    return page, words


async def take_answer(
    store: Store, link: CustomerLink, customer: Customer, *, step: str, ticked: bool,
    comment: str, now: datetime
) -> Outcome:  # fmt: skip
    """Take a tick or a comment of the customer's; a tick settles the step."""
    comment = comment.strip()
    if len(comment) > MAX_TEXT:
        return "long"
    if not ticked and not comment:
        return "empty"
    if not is_id(step):
        return "settled"
    taken = await answer_by_customer(
        store, step, customer_id=customer.id, done=ticked, comment=comment, now=now
    )
    if not taken:
        return "settled"
    async with store.write() as session:
        row = await session.get(CustomerLink, link.id)
        if row is not None:
            row.answered_at = now
    return "saved"


async def _systems(
    session: AsyncSession, customer_id: str, signer: Signer, public_url: str, now: datetime
) -> list[SystemFacts]:
    connections = (
        await session.scalars(
            select(Connection)
            .where(
                col(Connection.customer_id) == customer_id,
                col(Connection.setup) != "disconnected",
            )
            .order_by(col(Connection.provider), col(Connection.id))
        )
    ).all()
    links = (
        await session.scalars(
            select(ConnectLink)
            .where(
                col(ConnectLink.customer_id) == customer_id,
                col(ConnectLink.used_at).is_(None),
                col(ConnectLink.expires_at) > now,
            )
            .order_by(col(ConnectLink.id))
        )
    ).all()
    urls = {link.connection_id: link_url(signer, public_url, link.id) for link in links}
    lost = "reauthorization_required"
    kept = await kept_logins(session, [connection.id for connection in connections])
    names = distinct_names(OwnSystem(each.id, each.provider, each.name) for each in connections)
    systems = [
        SystemFacts(
            name=names[connection.id],
            setup=connection.setup,
            health=connection.health,
            since=connection.health_since,
            login_url=urls.get(connection.id)
            if connection.health == lost or connection.setup in ("pending", "authorizing")
            else None,
            login_kept=connection.id in kept,
        )
        for connection in connections
    ]
    systems += [
        SystemFacts(
            name=link.system,
            setup="pending",
            health="unknown",
            since=link.created_at,
            login_url=link_url(signer, public_url, link.id),
        )
        for link in links
        if link.connection_id is None and link.system
    ]
    return systems


async def _steps(session: AsyncSession, customer_id: str) -> list[StepFacts]:
    """The customer's steps of implementations under way, in the order of their plans."""
    implementations = await session.scalars(
        select(Implementation)
        .where(
            col(Implementation.customer_id) == customer_id,
            col(Implementation.status).in_(UNDERWAY),
        )
        .order_by(col(Implementation.id))
    )
    return [
        _step(standing, gate)
        for standing in await load_many(session, implementations.all())
        for gate in standing.plan.gates
        if standing.gates[gate.id].owner == "customer"
    ]


def _step(standing: Standing, gate: PlannedGate) -> StepFacts:
    system = standing.system(gate.system)
    return from_row(
        StepFacts,
        standing.gates[gate.id],
        kind=gate.kind,
        system=system.name if system is not None else None,
        targets=tuple(
            # What comes through a tunnel is not opened for Makini's public addresses.
            (each.name, each.target)
            for each in (standing.systems if system is None else [system])
            if each.target
            and not each.vpn
            and (each.hosting or standing.implementation.hosting) != "cloud"
        ),
        proves_itself=gate.check is not None,
    )
