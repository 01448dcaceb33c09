"""A connection by whatever people know of it: name, `Customer · System`, tag, key or id."""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.matching import read_customer_names
from linekeeper.customers.naming import NAMES_KEPT, label
from linekeeper.nearest import nearest
from linekeeper.store.tables import Connection, Contact, Customer


class NotFound(Exception):
    """Nothing, or more than one thing, answers to that name; the message offers what does."""


@dataclass(frozen=True, slots=True)
class Named:
    """A connection with what people call it."""

    id: str
    makini_key: str
    app: str
    label: str
    short: str
    """Its label, without what tells several of one product apart."""
    name: str
    slug: str
    tags: tuple[str, ...]
    setup: str


class ConnectionNames:
    """Connections by whatever people may call them; made once, however many names are asked for."""

    def __init__(self, everything: Sequence[Named]) -> None:
        self.everything = everything
        self._exact = [
            _by_text(everything, lambda each: [each.id]),
            _by_text(everything, lambda each: [each.makini_key]),
        ]
        self._folded = [
            _by_text(everything, lambda each: [fold(each.label)]),
            _by_text(everything, lambda each: [fold(each.short)]),
            _by_text(everything, lambda each: [fold(each.name), fold(each.slug)]),
            _by_text(everything, lambda each: map(fold, each.tags)),
            _by_text(everything, lambda each: [fold(each.makini_key)]),
        ]

    def called(self, wanted: str) -> Named | None:
        """The one that `wanted` names, if one does. Raises `NotFound` where it names several."""
        wanted = wanted.strip()
        for by_text in self._exact:
            if len(matching := by_text.get(wanted, [])) == 1:
                return matching[0]
        folded = fold(wanted)
        for by_text in self._folded:
            matching = by_text.get(folded, [])
            current = [each for each in matching if each.setup != "disconnected"] or matching
            if len(current) == 1:
                return current[0]
            if current:
                several = f"{wanted!r} names {len(current)} connections"
                raise NotFound(f"{several}: {_to_choose(current)}")
        return None

    def no_match(self, wanted: str) -> str:
        """What to say of a name that nobody has: those that come near it.

        That takes seconds in a large fleet, so a server asks it in a thread.
        """
        if not self.everything:
            return (
                f"no connection matches {wanted!r}: none is known yet. Run the deployment adopt "
                "(or wait for the next health-sweep)"
            )
        names = {text: each.label for each in self.everything for text in (each.label, each.name)}
        return f"no connection matches {wanted!r}. The nearest: {nearest(wanted, names)}"


def _by_text(
    everything: Sequence[Named], texts: Callable[[Named], Iterable[str]]
) -> dict[str, list[Named]]:
    by_text: dict[str, list[Named]] = {}
    for each in everything:
        for text in dict.fromkeys(texts(each)):
            by_text.setdefault(text, []).append(each)
    return by_text


async def find_connection(session: AsyncSession, wanted: str) -> Named:
    """The one connection `wanted` names. Raises `NotFound` with the nearest names.

    An id or a Makini key counts first, then `Customer · System`, the name, the slug, a tag; upper
    and lower case and the kind of dash or dot between the parts don't matter.
    """
    names = await connection_names(session)
    matching = names.called(wanted)
    if matching is None:
        raise NotFound(await asyncio.to_thread(names.no_match, wanted.strip()))
    return matching


async def connection_names(session: AsyncSession) -> ConnectionNames:
    return await asyncio.to_thread(ConnectionNames, await named_connections(session))


def _to_choose(several: Sequence[Named]) -> str:
    """What tells `several` apart: their names; else Makini's key, or our id where apps share it."""
    if len({fold(each.label) for each in several}) == len(several):
        return f"enter one of {'; '.join(each.label for each in several[:8])}"
    if len({each.makini_key for each in several}) == len(several):
        choices = ", ".join(f"{each.label} (key {each.makini_key})" for each in several[:8])
        return f"give the key: {choices}"
    choices = ", ".join(f"{each.label} (app {each.app}, id {each.id})" for each in several[:8])
    return f"give the id: {choices}"


async def find_customer(session: AsyncSession, wanted: str) -> Customer:
    """The customer called `wanted` (name, slug or id). Raises `NotFound` with the nearest names.

    A name as it is written counts before one that differs in case or in what stands between its
    parts; where that leaves several, none is guessed.
    """
    everybody = list(await session.scalars(select(Customer).order_by(col(Customer.name))))
    folded = fold(wanted)
    exact = [customer for customer in everybody if wanted.strip() in (customer.id, customer.name)]
    alike = [
        customer for customer in everybody if folded in (fold(customer.name), fold(customer.slug))
    ]
    if len(matches := exact or alike) == 1:
        return matches[0]
    if matches:
        ids = "; ".join(f"{customer.name} (id {customer.id})" for customer in matches[:8])
        raise NotFound(f"{wanted.strip()!r} names {len(matches)} customers: give the id: {ids}")
    if owner := (await read_customer_names(session)).owner(wanted.strip()):
        return next(customer for customer in everybody if customer.id == owner)
    names = {customer.name: customer.name for customer in everybody}
    offers = await asyncio.to_thread(nearest, wanted, names)
    hint = f"The nearest: {offers}" if offers else "None is known yet"
    raise NotFound(f"no customer is called {wanted.strip()!r}. {hint}")


async def named_connections(session: AsyncSession) -> list[Named]:
    rows = await session.execute(
        select(
            col(Connection.id),
            col(Connection.makini_key),
            col(Connection.app),
            col(Connection.name),
            col(Connection.provider),
            col(Connection.slug),
            col(Connection.tags),
            col(Connection.setup),
            col(Customer.name),
            col(Connection.told_apart_by),
        ).outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
    )
    return [
        Named(
            id=row[0],
            makini_key=row[1],
            app=row[2],
            label=label(row[8], row[4], row[3], row[9]),
            short=label(row[8], row[4], row[3], None),
            name=row[3],
            slug=row[5],
            tags=tuple(row[6]),
            setup=row[7],
        )
        for row in rows
    ]


@lru_cache(maxsize=4 * NAMES_KEPT)
def fold(text: str) -> str:
    """`text` as names are compared: without case, and whatever stands between its parts."""
    return re.sub(r"\s*[·\-–—|/:]\s*|\s+", " ", text.casefold()).strip()


async def recipients(session: AsyncSession, customer_id: str) -> list[str]:
    """The customer's e-mail addresses that a person has confirmed; a mere proposal gets no mail."""
    return list(
        await session.scalars(
            select(col(Contact.email))
            .where(col(Contact.customer_id) == customer_id, col(Contact.confirmed))
            .order_by(col(Contact.id))
        )
    )
