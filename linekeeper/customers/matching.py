"""Which customer a name means: its spelling doesn't matter, and where unsure, people are asked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.naming import loose_key, name_key, without_product
from linekeeper.store.tables import Connection, Contact, Customer, Implementation


@dataclass(frozen=True, slots=True)
class CustomerName:
    """A customer we have, and the other names it is known by."""

    id: str
    name: str
    aliases: Sequence[str] = ()


@dataclass(slots=True)
class CustomerNames:
    """The names of the customers that we have; the earliest customer of a name is the one meant."""

    _spelled: dict[str, str] = field(default_factory=dict)
    _by_key: dict[str, str] = field(default_factory=dict)
    _alike: dict[str, list[str]] = field(default_factory=dict)

    def add(self, customer: CustomerName) -> None:
        """Count a customer in, after those that are older."""
        for name in (customer.name, *customer.aliases):
            self._spelled.setdefault(name, customer.id)
            self._by_key.setdefault(name_key(name), customer.id)
        self._alike.setdefault(loose_key(customer.name), []).append(customer.name)

    def owner(self, name: str, product: str = "") -> str | None:
        """The id of the customer called `name`, however it is spelled, or with `product` at its
        end, as Makini's list may call one of its connections."""
        spelled = self._spelled.get(name) or self._by_key.get(name_key(name))
        return spelled or self._by_key.get(without_product(name, product))

    def alike(self, name: str, product: str = "") -> tuple[str, ...]:
        """Customers that `name` may mean as well: only the legal form or an accent differs, but
        for a `product` at its end."""
        keys = dict.fromkeys(map(loose_key, filter(None, (name, without_product(name, product)))))
        return tuple(
            known
            for key in keys
            for known in self._alike.get(key, ())
            if name_key(known) != name_key(name)
        )


def customer_names(customers: Iterable[CustomerName]) -> CustomerNames:
    """The names of `customers`, given in the order of their ids."""
    names = CustomerNames()
    for customer in customers:
        names.add(customer)
    return names


async def read_customer_names(session: AsyncSession) -> CustomerNames:
    rows = await session.execute(
        select(col(Customer.id), col(Customer.name), col(Customer.aliases)).order_by(
            col(Customer.id)
        )
    )
    return customer_names(CustomerName(row[0], row[1], row[2]) for row in rows)


async def same_customers(session: AsyncSession) -> list[str]:
    """Ask of each customer without any system whether it is one that Makini's list names so.

    It may be where only the legal form, an accent or the product differs, or where somebody logs
    in with the address of its contact: then that other one has its systems, and it the contacts.
    """
    is_used = exists().where(col(Connection.customer_id) == col(Customer.id))
    is_planned = exists().where(col(Implementation.customer_id) == col(Customer.id))
    idle = await session.execute(
        select(col(Customer.id), col(Customer.name)).where(~is_used, ~is_planned)
    )
    names: dict[str, str] = {row[0]: row[1] for row in idle}
    if not names:
        return []
    meant: dict[str, set[str]] = {}
    for name in names.values():
        meant.setdefault(loose_key(name), set()).add(name)
    contacts = select(col(Contact.customer_id), col(Contact.email)).where(col(Contact.confirmed))
    for customer_id, email in await session.execute(contacts):
        if customer_id in names:
            meant.setdefault(email.lower(), set()).add(names[customer_id])
    listed = await session.execute(
        select(col(Customer.name), col(Connection.provider), col(Connection.email))
        .join(Connection, col(Connection.customer_id) == col(Customer.id))
        .where(col(Connection.setup) != "disconnected")
        .distinct()
    )
    questions: set[str] = set()
    for name, provider, email in listed:
        names_it = map(loose_key, filter(None, (name, without_product(name, provider))))
        for key in (*names_it, email.strip().lower()):
            questions |= {f"{name} may be {other}" for other in meant.get(key, ())}
    return sorted(questions)
