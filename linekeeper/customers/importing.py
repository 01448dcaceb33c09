"""Customers from a CSV file: what it would do, and doing it, whole or not at all.

Only adds and changes: an empty cell, a contact or a customer the file doesn't have stay as they
are. The same file again changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from slugify import slugify
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.credits.tariff import Charge
from linekeeper.customers.change import charge_customers, in_words
from linekeeper.customers.csv_cells import ContactCell
from linekeeper.customers.csv_file import MAX_PROBLEMS, CustomerRow, Problem, read_customers
from linekeeper.customers.matching import CustomerName, customer_names
from linekeeper.customers.reachable import ask_reachable
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Contact, Customer
from linekeeper.store.types import from_row, table_of

TRIES = 3
"""How often it is prepared anew where customers changed meanwhile."""
_FIELDS = ("time_zone", "locale", "owner", "critical", "hosting", "tier")


@dataclass(frozen=True, slots=True)
class KnownCustomer:
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
class ImportStep:
    """What one line does to one customer: `values` to set, `contacts` to add or rename."""

    name: str
    customer_id: str | None
    values: Mapping[str, Any]
    contacts: tuple[ContactCell, ...]

    def __str__(self) -> str:
        said = [
            f"{name.replace('_', ' ')} {in_words(name, value)}"
            for name, value in self.values.items()
        ]
        said += [f"contact {person.email}" for person in self.contacts]
        return f"{self.name}: {', '.join(said)}" if said else self.name


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What a file does. With `problems` it does nothing at all."""

    create: tuple[ImportStep, ...] = ()
    change: tuple[ImportStep, ...] = ()
    unchanged: int = 0
    problems: tuple[Problem, ...] = ()
    without_contact: tuple[str, ...] = field(default=())
    """Customers of the file without anybody to notify."""


def plan(rows: Sequence[CustomerRow], known: Iterable[KnownCustomer]) -> ImportPlan:
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
    lines: dict[str, int] = {}
    for row in rows:
        have = by_id.get(names.owner(row.name) or "")
        if have is not None and (first := lines.setdefault(have.id, row.line)) != row.line:
            what = f"{row.name!r} is {have.name!r}, which is on line {first} already: merge the two"
            problems.append(Problem(row.line, "name", what))
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
            create.append(ImportStep(row.name, None, said, row.contacts))
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
            change.append(ImportStep(have.name, have.id, values, contacts))
        else:
            unchanged += 1
    if problems:
        return ImportPlan(problems=tuple(problems[:MAX_PROBLEMS]))
    return ImportPlan(tuple(create), tuple(change), unchanged, (), tuple(lonely))


async def import_customers(
    store: Store, data: bytes, *, by: str, now: datetime, dry_run: bool = False
) -> ImportPlan:
    """Take over the customers of the CSV file `data` in one transaction; returns what it did.

    Nothing is written with `dry_run`, or if anything in the file is wrong (`problems`). What takes
    long is worked out before that transaction: nobody else can write while it lasts.
    """
    rows, problems = read_customers(data)
    if problems:
        return ImportPlan(problems=tuple(problems))
    tries_left = TRIES
    while True:
        async with store.read() as session:
            there = await _there(session)
        prepared = _prepare(rows, there, now)
        if dry_run or not prepared.changes:
            return prepared.plan
        tries_left -= 1
        async with store.write() as session:
            is_there_now = await _there(session)
            if is_there_now != there:
                if tries_left:
                    continue
                prepared = _prepare(rows, is_there_now, now)  # the others wait, this once
            if prepared.changes:
                await _apply(session, prepared, by=by, now=now)
                await _charge(store, session, prepared.plan, by=by, now=now)
                named = {step.customer_id for step in prepared.plan.change if step.contacts}
                await ask_reachable(store, session, {each for each in named if each}, now=now)
        return prepared.plan


class _There(NamedTuple):
    """What the database has of customers."""

    customers: list[KnownCustomer]
    slugs: dict[str, str]
    contact_ids: dict[tuple[str, str], str]
    """The contacts' ids, by customer and mail address in lower case."""


async def _there(session: AsyncSession) -> _There:
    customer, contact = table_of(Customer), table_of(Contact)
    contacts: dict[str, dict[str, str]] = {}
    proposed: dict[str, set[str]] = {}
    contact_ids = {}
    for row in await session.execute(select(*contact.c).order_by(contact.c.id)):
        email = row.email.lower()
        contact_ids[row.customer_id, email] = row.id
        if not row.confirmed:
            proposed.setdefault(row.customer_id, set()).add(email)
        contacts.setdefault(row.customer_id, {})[email] = row.name
    rows = (await session.execute(select(*customer.c).order_by(customer.c.id))).all()
    customers = [
        from_row(
            KnownCustomer,
            row,
            contacts=contacts.get(row.id, {}),
            proposed=frozenset(proposed.get(row.id, ())),
            aliases=tuple(row.aliases),
        )
        for row in rows
    ]
    return _There(customers, {row.id: row.slug for row in rows}, contact_ids)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A plan and its rows."""

    plan: ImportPlan
    customers: list[dict[str, Any]]
    contacts: list[dict[str, Any]]
    changes: int
    """How many changes customers get; where there are none, nothing is to be written."""
    named: list[dict[str, Any]]
    """Contacts that are there, with the name they have from now on."""


def _prepare(rows: Sequence[CustomerRow], there: _There, now: datetime) -> _Prepared:
    planned = plan(rows, there.customers)
    names = {customer.id: customer.contacts for customer in there.customers}
    taken = set(there.slugs.values())
    customers, contacts, named = [], [], []
    for step in (*planned.create, *planned.change):
        identifier = step.customer_id
        if identifier is None:
            new = Customer(name=step.name, slug=free_slug(step.name, taken), created_at=now)
            customers.append(new.model_dump() | dict(step.values))
            identifier = new.id
        for person in step.contacts:
            known = there.contact_ids.get((identifier, person.email))
            if known is None:
                contact = Contact(customer_id=identifier, email=person.email, name=person.name)
                contacts.append(contact.model_dump())
            else:
                name = person.name or names[identifier][person.email]
                named.append({"contact_id": known, "called": name})
    return _Prepared(planned, customers, contacts, len(planned.create) + len(planned.change), named)


async def _apply(session: AsyncSession, prepared: _Prepared, *, by: str, now: datetime) -> None:
    customer, contact = table_of(Customer), table_of(Contact)
    connection = await session.connection()
    if prepared.customers:
        await connection.execute(insert(customer), prepared.customers)
    same_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for step in prepared.plan.change:
        if step.values:
            values = {f"new_{name}": value for name, value in step.values.items()}
            row = {"customer_id": step.customer_id, **values}
            same_columns.setdefault(tuple(step.values), []).append(row)
    for columns, changed in same_columns.items():
        values = {name: bindparam(f"new_{name}") for name in columns}
        which = customer.c.id == bindparam("customer_id")
        await connection.execute(update(customer).where(which).values(values), changed)
    if prepared.contacts:
        await connection.execute(insert(contact), prepared.contacts)
    if prepared.named:
        which = contact.c.id == bindparam("contact_id")
        values = {"name": bindparam("called"), "confirmed": True}
        await connection.execute(update(contact).where(which).values(values), prepared.named)
    session.add(
        Audit(
            at=now,
            by=by,
            action="customers imported",
            subject="customers",
            detail={"created": len(prepared.plan.create), "changed": len(prepared.plan.change)},
        )
    )


async def _charge(
    store: Store, session: AsyncSession, planned: ImportPlan, *, by: str, now: datetime
) -> None:
    """The connections of customers whose hosting or tier the file says are charged by it."""
    charged: dict[Charge, list[str]] = {}
    for step in planned.change:
        charge = Charge(step.values.get("tier"), step.values.get("hosting"))
        if step.customer_id is not None and charge != Charge():
            charged.setdefault(charge, []).append(step.customer_id)
    for charge, customers in charged.items():
        await charge_customers(store, session, customers, charge, by=by, now=now)


def free_slug(name: str, taken: set[str]) -> str:
    """A slug for `name` that is not in `taken`; it is added there."""
    base = slugify(name, max_length=60) or "customer"
    slug, number = base, 1
    while slug in taken:
        number += 1
        slug = f"{base}-{number}"
    taken.add(slug)
    return slug
