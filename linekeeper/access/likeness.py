"""What tells that a login, a listed entry and a known connection are one system. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from linekeeper.access.system_names import same_words, words_of
from linekeeper.customers.naming import customer_name
from linekeeper.makini import ConnectionStatus, ListedConnection
from linekeeper.text import SEPARATOR

LOGGING_IN = timedelta(minutes=5)
"""Makini may connect so long before the login's answer is here, by a clock of its own."""


@dataclass(frozen=True, slots=True)
class KnownConnection:
    """A connection in our books, as far as matching goes."""

    id: str
    makini_key: str
    makini_id: str | None
    customer_id: str | None
    customer: str
    provider: str
    email: str
    setup: str
    replaced_by: str | None = None
    metadata: str | None = None
    """The digest of its `user_metadata` (`linekeeper.customers.naming`)."""
    name: str = ""
    taken_in_at: datetime | None = None
    unlisted_since: datetime | None = None
    """Since when Makini's list lacks it; None while it doesn't, as far as sweeps have seen."""


@dataclass(frozen=True, slots=True)
class LinkPurpose:
    """What the link was made for: a connection, or a new system of a customer."""

    connection: KnownConnection | None
    customer_id: str | None
    system: str
    """As people call it: Makini's name of its provider may be within it, or none at all."""
    other_systems: Collection[str] = ()
    """Connections that are another system than `system`, as its implementation has it."""
    unclaimed: Collection[str] = ()
    """Connections that may be what this very login made, whatever their customer is called."""


def is_called(listed: ListedConnection, name: str) -> bool:
    return bool(name) and name in (listed.id, listed.key)


def in_books(known: Sequence[KnownConnection], names: set[str]) -> KnownConnection | None:
    """The connection in our books with one of these names; rather one that hasn't ended."""
    matches = [
        connection
        for connection in known
        if {connection.makini_key, connection.makini_id} & (names - {""})
    ]
    return min(matches, key=lambda connection: connection.setup == "disconnected", default=None)


def names_nothing(status: ConnectionStatus) -> bool:
    """Whether the status says of no connection that it is its own, as an earlier Makini's does."""
    return not (status.id or status.company_name or status.provider or status.email)


def as_listed(status: ConnectionStatus, entry: ListedConnection) -> ConnectionStatus:
    """The status of a connection that names nothing, with what the list says of that one."""
    return replace(
        status,
        id=entry.id or entry.key,
        company_name=customer_name(entry) or entry.name,
        provider=entry.provider,
        email=entry.email,
    )


def are_keys_ids(
    wanted: KnownConnection | None,
    listed: Sequence[ListedConnection],
    known: Sequence[KnownConnection],
) -> bool:
    """Whether this Makini's list calls connections what their status calls them.

    The status of the one that is wanted says so, or that of two others, and none says otherwise:
    that of the one that is wanted not even where the list has lost it.
    """
    if wanted is not None and wanted.makini_id not in (None, wanted.makini_key):
        return False
    keys = {entry.key for entry in listed if not entry.id}
    with_id = [each for each in known if each.makini_key in keys and each.makini_id is not None]
    if not all(each.makini_id == each.makini_key for each in with_id):
        return False
    return len(with_id) > 1 or (wanted is not None and wanted in with_id)


def is_alike(known: KnownConnection, status: ConnectionStatus) -> bool:
    return is_same_system(known, status) and same_mail(known.email, status.email)


def is_same_system(known: KnownConnection, status: ConnectionStatus) -> bool:
    same_company = is_company(status, known.customer, known.name)
    return same_words(known.provider, status.provider) and same_company


def is_company(status: ConnectionStatus, customer: str, name: str) -> bool:
    """Whether the status names the customer, or what Makini calls the connection.

    The customer is called as the operator or the metadata call it. Makini's status knows neither:
    what it says is the connection's name, or the company's, which is the first part of that, or
    all of it but the provider.
    """
    first = SEPARATOR.split(name.strip())[0]
    if any(same_words(each, status.company_name) for each in (customer, name, first)):
        return True
    rest = words_of(name) - words_of(status.provider)
    return bool(rest) and rest == words_of(status.company_name)


def same_mail(mail: str, other: str) -> bool:
    return mail.casefold() == other.casefold()
