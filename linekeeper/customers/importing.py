"""Customers from a CSV file: what it would do, and doing it, whole or not at all.

Only adds and changes: an empty cell, a contact or a customer the file doesn't have stay as they
are. The same file again changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from slugify import slugify
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import select

from linekeeper.credits.tariff import Charge
from linekeeper.customers.change import charge_customer
from linekeeper.customers.csv_cells import Person
from linekeeper.customers.csv_file import MAX_PROBLEMS, Problem, Row, read_customers
from linekeeper.customers.matching import CustomerName, customer_names
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Contact, Customer
from linekeeper.store.types import from_row

_FIELDS = ("time_zone", "locale", "owner", "critical", "hosting", "tier")


@dataclass(frozen=True, slots=True)
class Known:
    """A customer we have; `contacts` are names by mail address in lower case.

    `proposed` are those of the addresses that no person has confirmed.
    """

    id: str
    name: str
    time_zone: str
    locale: str
    owner: str | None
    critical: bool
    contacts: Mapping[str, str]
    proposed: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()
    hosting: str | None = None
    tier: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What one line does to one customer: `values` to set, `contacts` to add or rename."""

    line: int
    name: str
    customer_id: str | None
    values: Mapping[str, Any]
    contacts: tuple[Person, ...]

    def __str__(self) -> str:
        said = [f"{name.replace('_', ' ')} {_said(value)}" for name, value in self.values.items()]
        said += [f"contact {person.email}" for person in self.contacts]
        return f"{self.name}: {', '.join(said)}" if said else self.name


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What a file does. With `problems` it does nothing at all."""

    create: tuple[Step, ...] = ()
    change: tuple[Step, ...] = ()
    unchanged: int = 0
    problems: tuple[Problem, ...] = ()
    without_contact: tuple[str, ...] = field(default=())
    """Customers of the file nobody could be told at."""


def plan(rows: Sequence[Row], known: Iterable[Known]) -> ImportPlan:
    """What `rows` would create and change; pure.

    A customer is the one with the same name; case, spaces and punctuation don't matter. A name
    that may mean another customer is a problem, until the file says that it is new. A contact that
    the file names is confirmed.
    """
    by_id = {customer.id: customer for customer in known}
    names = customer_names(
        CustomerName(customer.id, customer.name, customer.aliases)
        for _, customer in sorted(by_id.items())
    )
    create, change, lonely, unchanged = [], [], [], 0
    problems = []
    for row in rows:
        have = by_id.get(names.owner(row.name) or "")
        if have is None and not row.new and (alike := names.alike(row.name)):
            problems.append(
                Problem(
                    row.line,
                    "name",
                    f"{row.name!r} may be {' or '.join(map(repr, alike))}, which is known: write "
                    "the name that is known, or yes in the column new if it is another customer",
                )
            )
        if not row.contacts and (have is None or not have.contacts.keys() - have.proposed):
            lonely.append(row.name)
        said = {name: value for name in _FIELDS if (value := getattr(row, name)) is not None}
        if have is None:
            create.append(Step(row.line, row.name, None, said, row.contacts))
            continue
        values = {name: value for name, value in said.items() if getattr(have, name) != value}
        contacts = tuple(
            person
            for person in row.contacts
            if person.email not in have.contacts
            or person.email in have.proposed
            or (person.name and have.contacts[person.email] != person.name)
        )
        if values or contacts:
            change.append(Step(row.line, have.name, have.id, values, contacts))
        else:
            unchanged += 1
    if problems:
        return ImportPlan(problems=tuple(problems[:MAX_PROBLEMS]))
    return ImportPlan(tuple(create), tuple(change), unchanged, (), tuple(lonely))


async def import_customers(
    store: Store, data: bytes, *, by: str, now: datetime, dry_run: bool = False
) -> ImportPlan:
    """Take over the customers of the CSV file `data` in one transaction; returns what it did.

    Nothing is written with `dry_run`, or if anything in the file is wrong (`problems`).
    """
    rows, problems = read_customers(data)
    if problems:
        return ImportPlan(problems=tuple(problems))
    if dry_run:
        async with store.read() as session:
            return plan(rows, await _known(session))
    async with store.write() as session:
        planned = plan(rows, await _known(session))
        if planned.create or planned.change:
            await _apply(session, planned, by=by, now=now)
            await _charge(store, session, planned, by=by, now=now)
    return planned


async def _known(session: AsyncSession) -> list[Known]:
    contacts: dict[str, dict[str, str]] = {}
    proposed: dict[str, set[str]] = {}
    for contact in await session.scalars(select(Contact)):
        if not contact.confirmed:
            proposed.setdefault(contact.customer_id, set()).add(contact.email.lower())
        contacts.setdefault(contact.customer_id, {})[contact.email.lower()] = contact.name
    return [
        from_row(
            Known,
            customer,
            contacts=contacts.get(customer.id, {}),
            proposed=frozenset(proposed.get(customer.id, ())),
            aliases=tuple(customer.aliases),
        )
        for customer in await session.scalars(select(Customer))
    ]


async def _apply(session: AsyncSession, planned: ImportPlan, *, by: str, now: datetime) -> None:
    customers = {customer.id: customer for customer in await session.scalars(select(Customer))}
    contacts = {
        (contact.customer_id, contact.email.lower()): contact
        for contact in await session.scalars(select(Contact))
    }
    taken = {customer.slug for customer in customers.values()}
    added: list[Contact] = []
    for step in (*planned.create, *planned.change):
        if step.customer_id is None:
            customer = Customer(name=step.name, slug=free_slug(step.name, taken), created_at=now)
            session.add(customer)
        else:
            customer = customers[step.customer_id]
        for name, value in step.values.items():
            setattr(customer, name, value)
        for person in step.contacts:
            have = contacts.get((customer.id, person.email))
            if have is None:
                added.append(Contact(customer_id=customer.id, email=person.email, name=person.name))
            else:
                have.name = person.name or have.name
                have.confirmed = True
    await session.flush()  # customers first: their contacts refer to them
    session.add_all(added)
    session.add(
        Audit(
            at=now,
            by=by,
            action="customers imported",
            subject="customers",
            detail={"created": len(planned.create), "changed": len(planned.change)},
        )
    )


async def _charge(
    store: Store, session: AsyncSession, planned: ImportPlan, *, by: str, now: datetime
) -> None:
    """The connections of customers whose hosting or tier the file says are charged by it."""
    for step in planned.change:
        charge = Charge(step.values.get("tier"), step.values.get("hosting"))
        if step.customer_id is not None and charge != Charge():
            await charge_customer(store, session, step.customer_id, charge, by=by, now=now)


def free_slug(name: str, taken: set[str]) -> str:
    """A slug for `name` that is not in `taken`; it is added there."""
    base = slugify(name, max_length=60) or "customer"
    slug, number = base, 1
    while slug in taken:
        number += 1
        slug = f"{base}-{number}"
    taken.add(slug)
    return slug


def _said(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
