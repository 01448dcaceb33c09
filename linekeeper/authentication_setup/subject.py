"""Whose login is set up: a connection, or a system of an implementation."""

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from linekeeper.authentication_setup.decide import BadSetup, SetupSubject, choose_system
from linekeeper.customers.find import find_connection
from linekeeper.implementation.find import find_implementation
from linekeeper.implementation.hold import holds_of
from linekeeper.makini import ReadOnlyApp
from linekeeper.runtime import Runtime
from linekeeper.store.modes import app_for
from linekeeper.store.tables import (
    AuthenticationSetup,
    Connection,
    Customer,
    Gate,
    Implementation,
    ImplementationSystem,
)

KICKOFF = "kickoff"
"""The gate of every plan by which the technical requirements are confirmed."""


async def find_subject(
    session: AsyncSession, connection: str, implementation: str, system: str
) -> SetupSubject:
    """What a form names. Raises `BadSetup`, `NotFound`, `NoSuchImplementation`."""
    if bool(connection.strip()) == bool(implementation.strip()):
        raise BadSetup("connection", "give one of them, a connection or an implementation")
    if connection.strip():
        named = await find_connection(session, connection)
        if named.setup == "disconnected":
            raise BadSetup(
                "connection",
                f"{named.label} was disconnected; give its implementation, or run "
                "connect for its customer",
            )
        return await load_subject(session, connection_id=named.id, system_id=None)
    identifier = await find_implementation(session, implementation)
    held = await session.get_one(Implementation, identifier)
    if held.status not in ("running", "held"):
        raise BadSetup("implementation", f"{held.title} is {held.status}; give its connection")
    rows = await session.scalars(
        select(ImplementationSystem)
        .where(col(ImplementationSystem.implementation_id) == identifier)
        .order_by(col(ImplementationSystem.number))
    )
    chosen = choose_system(rows.all(), system, held.title)
    return await load_subject(session, connection_id=chosen.connection_id, system_id=chosen.id)


async def load_subject(
    session: AsyncSession, *, connection_id: str | None, system_id: str | None
) -> SetupSubject:
    """A connection, or a system of an implementation, or the two of them, as they are now."""
    system = await session.get(ImplementationSystem, system_id) if system_id else None
    if system is None and connection_id is not None:
        rows = await session.scalars(
            select(ImplementationSystem)
            .where(col(ImplementationSystem.connection_id) == connection_id)
            .order_by(col(ImplementationSystem.id).desc())
        )
        system = rows.first()
    held = await session.get_one(Implementation, system.implementation_id) if system else None
    connection = await session.get_one(Connection, connection_id) if connection_id else None
    customer_id = connection.customer_id if connection else held.customer_id if held else None
    customer = await session.get(Customer, customer_id) if customer_id else None
    if connection is not None:
        app, name = connection.app, connection.provider or connection.name
    else:
        assert held is not None  # a subject is one or the other
        assert system is not None
        app, name = held.app, system.name
    planned = (system.hosting if system else None) or (held.hosting if held else "")
    hosting = {connection.hosting if connection else "", planned}
    whose = customer.name if customer else ""
    return SetupSubject(
        app=app,
        label=f"{whose} · {name}" if whose else name,
        customer_id=customer_id,
        customer=whose,
        system=name,
        connection_id=connection_id,
        system_id=system.id if system else None,
        on_premises="on-premises" in hosting,
        target=system.target if system else None,
        time_zone=customer.time_zone if customer else "UTC",
        holds=holds_of(held.holds) if held else (),
    )


async def must_manage(rt: Runtime, session: AsyncSession, subject: SetupSubject) -> None:
    """Raise `ReadOnlyApp` where no login may be asked for, `UnknownApp` where the app is none."""
    app = await app_for(
        session,
        await rt.app(subject.app),
        connection_id=subject.connection_id,
        customer_id=subject.customer_id,
    )
    if not app.manages:
        raise ReadOnlyApp(subject.app, "make a connect link", subject.label)


async def subject_of(session: AsyncSession, row: AuthenticationSetup) -> SetupSubject:
    """Whose login the set-up `row` is about."""
    return await load_subject(session, connection_id=row.connection_id, system_id=row.system_id)


async def kickoff_of(session: AsyncSession, subject: SetupSubject) -> Gate | None:
    """The gate that confirmed the technical requirements; None while none has."""
    if subject.system_id is None:
        return None
    rows = await session.scalars(
        select(Gate)
        .join(
            ImplementationSystem,
            col(ImplementationSystem.implementation_id) == col(Gate.implementation_id),
        )
        .where(
            col(ImplementationSystem.id) == subject.system_id,
            col(Gate.gate) == KICKOFF,
            col(Gate.status).in_(("done", "skipped")),
        )
    )
    return rows.first()


async def in_turn(session: AsyncSession, subject: SetupSubject) -> None:
    """Let nobody else begin to set up the same login until the transaction ends.

    Two workers may have taken one run.
    """
    if subject.connection_id is not None:
        await session.get(Connection, subject.connection_id, with_for_update={"key_share": True})
    if subject.system_id is not None:
        await session.get(
            ImplementationSystem, subject.system_id, with_for_update={"key_share": True}
        )
