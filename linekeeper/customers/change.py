"""Changing one customer: only what is given changes, and two that are one become one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.credits.decide import CreditError
from linekeeper.credits.tariff import Charge, parse_charge, set_charge
from linekeeper.customers.csv_file import read_customers
from linekeeper.customers.distinct_labels import distinguish_labels
from linekeeper.customers.find import NotFound, find_connection, find_customer
from linekeeper.customers.reachable import ask_reachable
from linekeeper.language import language, languages
from linekeeper.outbox.mail_order import hand_over_mails
from linekeeper.refusal import Refusal
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.lists import update_many
from linekeeper.store.modes import apply_rules, hand_over_rule
from linekeeper.store.tables import (
    Audit,
    Connection,
    ConnectLink,
    Contact,
    Customer,
    CustomerLink,
    Implementation,
    Incident,
    Silence,
)

_HEADINGS = ("name", "contacts", "time zone", "locale", "owner", "critical")

AT_ONCE = 5_000
"""Customers or connections in one statement."""


class BadChange(Refusal):
    """A value can't be understood, or nothing was given."""


@dataclass(frozen=True, slots=True)
class CustomerChange:
    """What the form says; empty: it stays. `contacts` look like `Ann <ann@a.example>; bob@…`."""

    contacts: str = ""
    remove_contacts: str = ""
    time_zone: str = ""
    locale: str = ""
    owner: str = ""
    critical: str = ""
    """`yes`, `no`, or empty."""
    confirm_contacts: bool = False
    """The contacts that the adoption proposed are right."""
    hosting: str = ""
    tier: str = ""
    """The tier of its connections, or of `system` alone (so is `hosting`)."""
    system: str = ""
    same_as: str = ""
    """The customer that this one turned out to be: everything goes over to that one."""


async def change_customer(
    store: Store, wanted: str, change: CustomerChange, *, by: str, now: datetime
) -> tuple[str, list[str]]:
    """Change the customer called `wanted`; returns its name and what changed, a phrase each.

    The same again changes nothing. Raises `NotFound`, or `BadChange` with what to fix; then
    nothing was changed.
    """
    said = _understood(change)
    try:
        gone = _understood(CustomerChange(contacts=change.remove_contacts)).contacts
    except BadChange as error:
        raise BadChange("remove_contacts", error.reason) from None
    async with store.write() as session:
        customer = await find_customer(session, wanted)
        name = customer.name
        changed = [
            f"{column.replace('_', ' ')}: {in_words(column, value)}"
            for column, value in said.values.items()
            if getattr(customer, column) != value
        ]
        for column, value in said.values.items():
            setattr(customer, column, value)
        await session.flush()
        contacts = await _contacts(
            session, customer, said.contacts, gone, confirm=change.confirm_contacts
        )
        if contacts:
            await ask_reachable(store, session, [customer.id], now=now)
        changed += contacts
        changed += await _charge(store, session, customer, change, by=by, now=now)
        if change.same_as.strip():
            try:
                heir = await find_customer(session, change.same_as)
            except NotFound as error:
                raise BadChange("same_as", str(error)) from None
            if heir.id == customer.id:
                raise BadChange("same_as", f"{change.same_as.strip()!r} is this customer itself")
            await merge_customer(session, customer, heir)
            await ask_reachable(store, session, [heir.id], now=now)
            changed.append(f"it is {heir.name} now: everything went over")
        if changed:
            session.add(
                Audit(
                    at=now,
                    by=by,
                    action="customer.changed",
                    subject=customer.id,
                    detail={"changed": [phrase[:200] for phrase in changed[:50]]},
                )
            )
            await session.flush()
        return name, changed


async def _charge(
    store: Store,
    session: AsyncSession,
    customer: Customer,
    change: CustomerChange,
    *,
    by: str,
    now: datetime,
) -> list[str]:
    """What its connections, or one of them, are charged as; the ledger follows."""
    try:
        charge = parse_charge(f"{change.tier} {change.hosting}")
    except CreditError as error:
        raise BadChange(error.field, error.reason) from None
    if charge == Charge():
        if change.system.strip():
            raise BadChange("system", f"say hosting or tier of {change.system.strip()}")
        return []
    if change.system.strip():
        wanted = f"{customer.name} · {change.system.strip()}"
        try:
            connection = await find_connection(session, wanted)
        except NotFound as error:
            raise BadChange("system", str(error)) from None
        return await set_charge(store, session, [connection.id], charge, by=by, now=now)
    changed = []
    for name, value in (("hosting", charge.hosting), ("tier", charge.tier)):
        if value is not None and getattr(customer, name) != value:
            setattr(customer, name, value)
            changed.append(f"{name} of its systems: {value}")
    changed += await charge_customers(store, session, [customer.id], charge, by=by, now=now)
    return changed


async def _contacts(
    session: AsyncSession,
    customer: Customer,
    given: Mapping[str, str],
    gone: Mapping[str, str],
    *,
    confirm: bool,
) -> list[str]:
    """Add or rename `given`, remove `gone` (mail address → name)."""
    rows = await session.scalars(select(Contact).where(col(Contact.customer_id) == customer.id))
    have = {row.email.lower(): row for row in rows}
    if unknown := gone.keys() - have.keys():
        raise BadChange(
            "remove_contacts",
            f"no contact of {customer.name} is {', '.join(sorted(unknown))}",
        )
    changed: list[str] = []
    for email, name in given.items():
        row = have.get(email)
        if row is None:
            session.add(Contact(customer_id=customer.id, email=email, name=name))
            changed.append(f"contact added: {email}")
            continue
        if name and row.name != name:
            row.name = name
            changed.append(f"contact renamed: {email}")
        if not row.confirmed:
            row.confirmed = True
            changed.append(f"contact confirmed: {email}")
    for email, row in have.items():
        if confirm and not row.confirmed and email not in gone:
            row.confirmed = True
            changed.append(f"contact confirmed: {email}")
    await session.flush()
    for email in gone.keys() - given.keys():
        await session.execute(delete(Contact).where(col(Contact.id) == have[email].id))
        changed.append(f"contact removed: {email}")
    return changed


@dataclass(frozen=True, slots=True)
class _Understood:
    values: Mapping[str, Any]
    contacts: Mapping[str, str]


def _understood(change: CustomerChange) -> _Understood:
    """The form's texts, by the rules of the import."""
    cells = (
        "customer",
        change.contacts,
        change.time_zone,
        change.locale,
        change.owner,
        change.critical,
    )
    quoted = ",".join('"' + " ".join(cell.split()).replace('"', '""') + '"' for cell in cells)
    rows, problems = read_customers(f"{','.join(_HEADINGS)}\n{quoted}\n".encode())
    if problems:
        first, *others = problems
        rest = "".join(f"; {problem.column}: {problem.text}" for problem in others)
        raise BadChange(first.column.replace(" ", "_"), f"{first.text}{rest}")
    [row] = rows
    given = {
        "time_zone": row.time_zone,
        "locale": row.locale,
        "owner": row.owner,
        "critical": row.critical,
    }
    return _Understood(
        {name: value for name, value in given.items() if value is not None},
        {person.email: person.name for person in row.contacts},
    )


def in_words(field: str, value: object) -> str:
    """A value of a customer's `field` as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if field == "locale" and language(str(value)) is None:
        there = ", ".join(languages())
        return f"{value} (written to in English: there are texts in {there} only)"
    return str(value)


async def charge_customers(
    store: Store,
    session: AsyncSession,
    customers: Sequence[str],
    charge: Charge,
    *,
    by: str,
    now: datetime,
) -> list[str]:
    """All connections of `customers` (ids) are charged as `charge`; returns what changed."""
    changed = []
    for chunk in chunked(customers, AT_ONCE):
        theirs = select(col(Connection.id)).where(
            col(Connection.customer_id).in_(chunk), col(Connection.setup) != "disconnected"
        )
        for connections in chunked(list(await session.scalars(theirs)), AT_ONCE):
            changed += await set_charge(store, session, connections, charge, by=by, now=now)
    return changed


async def merge_customer(session: AsyncSession, customer: Customer, heir: Customer) -> None:
    """`heir` takes over what belongs to `customer`, its name too, in the caller's transaction.

    The next connection that Makini lists under either name is the heir's, whoever opens a page of
    either sees the heir's, and who was asked in a mail to the one isn't asked again.
    """
    for owned in (Connection, ConnectLink, CustomerLink):
        await session.execute(
            update_many(owned)
            .where(col(owned.customer_id) == customer.id)
            .values(customer_id=heir.id)
        )
    await session.execute(
        update(Silence)
        .where(col(Silence.scope) == "customer", col(Silence.subject) == customer.id)
        .values(subject=heir.id, label=heir.name)
    )
    await hand_over_mails(session, customer.id, heir.id)
    await hand_over_rule(session, "customer", customer.id, heir.id)
    owned_now = select(col(Connection.id)).where(col(Connection.customer_id) == heir.id)
    await apply_rules(session, list(await session.scalars(owned_now)))
    for implementation in await session.scalars(
        select(Implementation).where(col(Implementation.customer_id) == customer.id)
    ):
        implementation.customer_id = heir.id
        key = implementation.key.replace(customer.id, heir.id)
        taken = select(col(Implementation.id)).where(col(Implementation.key) == key)
        if await session.scalar(taken) is None:  # else: both have one of these systems
            implementation.key = key
    await _hand_over_incidents(session, customer.id, heir.id)
    await session.flush()
    contacts = (
        await session.scalars(
            select(Contact).where(col(Contact.customer_id).in_((customer.id, heir.id)))
        )
    ).all()
    own = {contact.email.lower(): contact for contact in contacts if contact.customer_id == heir.id}
    for contact in contacts:
        if contact.customer_id == heir.id:
            continue
        if (known := own.get(contact.email.lower())) is None:
            contact.customer_id = heir.id
        else:
            known.confirmed = known.confirmed or contact.confirmed
            known.name = known.name or contact.name
            await session.delete(contact)
    heir.aliases = [*heir.aliases, customer.name, *customer.aliases]
    heir.hosting, heir.tier = heir.hosting or customer.hosting, heir.tier or customer.tier
    heir.critical, heir.owner = heir.critical or customer.critical, heir.owner or customer.owner
    if heir.time_zone == "UTC":  # as of one that nobody has said it of
        heir.time_zone = customer.time_zone
    if heir.locale == "en":
        heir.locale = customer.locale
    await session.flush()
    await session.execute(delete(Customer).where(col(Customer.id) == customer.id))
    await distinguish_labels(session, [heir.id])


async def _hand_over_incidents(session: AsyncSession, customer_id: str, heir_id: str) -> None:
    """The open incidents that are a customer's go on as the heir's, but where that has its own."""
    incidents = await session.scalars(
        select(Incident).where(
            col(Incident.customer_id) == customer_id, col(Incident.resolved_at).is_(None)
        )
    )
    for incident in incidents:
        cause = incident.cause.replace(customer_id, heir_id)
        taken = select(col(Incident.id)).where(
            col(Incident.cause) == cause, col(Incident.resolved_at).is_(None)
        )
        if await session.scalar(taken) is None:
            incident.cause, incident.customer_id = cause, heir_id
