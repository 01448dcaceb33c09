"""Which customer a name means: its spelling doesn't matter, and where unsure, people are asked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.naming import loose_key, name_key
from linekeeper.store.tables import Customer


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

    def owner(self, name: str) -> str | None:
        """The id of the customer called `name`, however it is spelled."""
        return self._spelled.get(name) or self._by_key.get(name_key(name))

    def alike(self, name: str) -> tuple[str, ...]:
        """Customers that `name` may mean as well: only the legal form or an accent differs."""
        return tuple(
            known
            for known in self._alike.get(loose_key(name), ())
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
