"""Whose login a customer came back with (MAKINI "Link"). Pure.

The token response names no connection: its status does. Whether a new login keeps the
connection's id is not public, so what is new is recognised by metadata, else by provider,
company and e-mail.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from slugify import slugify

from linekeeper.customers.naming import customer_name
from linekeeper.makini import ConnectionStatus, ListedConnection


@dataclass(frozen=True, slots=True)
class Known:
    """A connection in our books, as far as matching goes."""

    id: str
    makini_key: str
    makini_id: str | None
    customer_id: str | None
    customer: str
    provider: str
    email: str
    setup: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the link was made for: a connection, or a new system of a customer."""

    connection: Known | None
    customer_id: str | None
    system: str


@dataclass(frozen=True, slots=True)
class Match:
    """`same`: the connection asked for. `replaces`: it, under a new id of Makini's. `new`: a system
    we did not know. `known`: a new-system link led to a connection we know. `other`: not what was
    asked for.

    `known` is the connection in our books that the login belongs to, `listed` its entry in
    Makini's list.
    """

    kind: Literal["same", "replaces", "new", "known", "other"]
    known: Known | None = None
    listed: ListedConnection | None = None


def match(
    asked: Asked,
    status: ConnectionStatus,
    listed: Sequence[ListedConnection],
    known: Sequence[Known],
) -> Match:
    """Return whose login it is. `listed` and `known` are of the same app."""
    entry = next((one for one in listed if status.id in (one.id, one.key)), None)
    keys = {status.id, *((entry.key, entry.id) if entry else ())}
    ours = next((one for one in known if one.makini_key in keys or one.makini_id in keys), None)
    wanted = asked.connection
    if wanted is not None:
        if ours is not None and ours.id == wanted.id:
            return Match("same", ours, entry)
        if _is_successor(wanted, status, entry, ours, listed):
            return Match("replaces", ours, entry)
        return Match("other", ours, entry)
    if asked.system and not _same_words(asked.system, status.provider):
        return Match("other", ours, entry)
    if ours is None:
        return Match("new", None, entry)
    theirs = asked.customer_id is None or ours.customer_id in (None, asked.customer_id)
    return Match("known" if theirs else "other", ours, entry)


def _is_successor(
    wanted: Known,
    status: ConnectionStatus,
    entry: ListedConnection | None,
    ours: Known | None,
    listed: Sequence[ListedConnection],
) -> bool:
    """Whether the login is the wanted system's, under an id it didn't have before."""
    still_there = any(wanted.makini_key in (one.key, one.id) for one in listed)
    if still_there and ours is not None:
        return False  # two connections side by side: a second system, not a new id
    if not _same_words(wanted.provider, status.provider):
        return False
    if entry is not None and entry.metadata:
        return _same_words(customer_name(entry), wanted.customer)
    same_company = _same_words(status.company_name, wanted.customer)
    return same_company and status.email.casefold() == wanted.email.casefold()


def _same_words(one: str, other: str) -> bool:
    """`UpKeep` and `upkeep`, `SAP ECC` and `sap-ecc`: Makini writes both."""
    return bool(one) and slugify(one) == slugify(other)
