"""Whose login a customer came back with (MAKINI "Link"). Pure.

The token response names no connection: its status does. Whether a new login keeps the
connection's id is not public, nor whether the list's `key` is the status's `id`. So a login is
recognised by id, else by metadata, else by provider, company and e-mail. The status of an earlier
Makini says none of these: then it is the one of the customer's that the list shows as connected
just now, else what was asked for.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from linekeeper.access.likeness import (
    LOGGING_IN,
    KnownConnection,
    LinkPurpose,
    are_keys_ids,
    as_listed,
    in_books,
    is_alike,
    is_called,
    is_company,
    is_same_system,
    names_nothing,
    same_mail,
)
from linekeeper.access.system_names import names_another, same_words
from linekeeper.access.unnamed import just_connected
from linekeeper.customers.naming import customer_name, metadata_digest
from linekeeper.makini import ConnectionStatus, ListedConnection

Kind = Literal["same", "replaces", "new", "known", "other", "unlisted"]


@dataclass(frozen=True, slots=True)
class Match:
    """`same`: the connection asked for. `replaces`: it, under a new id of Makini's. `new`: a system
    we did not know. `known`: a new-system link led to a connection we know. `other`: not what was
    asked for. `unlisted`: it fits the connection asked for, but not its id, and Makini's list may
    soon show another one that it is; or nothing shows yet which connection it is.

    `known` is the connection in our books that the login belongs to, `listed` its entry in
    Makini's list, `replaced` the connection whose place it takes: where it is `other`, not the one
    asked for.
    """

    kind: Kind
    known: KnownConnection | None = None
    listed: ListedConnection | None = None
    replaced: KnownConnection | None = None
    mail_before: str = ""
    """The e-mail of the connection asked for, where `other` differs in nothing else."""
    is_assumed: bool = False
    """Nothing shows that it is the connection asked for, and the list shows no other one."""


def match(
    asked: LinkPurpose,
    status: ConnectionStatus,
    listed: Sequence[ListedConnection] | None,
    known: Sequence[KnownConnection],
    *,
    platforms: Collection[str] = (),
    may_lag: bool = False,
    came_at: datetime | None = None,
) -> Match:
    """Return whose login it is. `listed` and `known` are of the same app.

    `platforms` is what Makini calls the systems there are, as far as that is known.

    `listed` is None where Makini's list could not be had: then nothing is taken for a successor.
    While it `may_lag` behind the login, which came at `came_at`, one that merely fits is not taken
    for the connection.
    """
    wanted = asked.connection
    if listed is not None and names_nothing(status):
        connected = just_connected(asked, listed, known, platforms, came_at)
        if connected is None:
            return _unnamed(wanted, listed, may_lag=may_lag)
        status = as_listed(status, connected)
    if listed is None:
        entry, ours = None, matched_by_status(wanted, status, known)
    else:
        entry, ours = _recognised(wanted, status, listed, known)
    if wanted is not None:
        if ours is not None and ours.id == wanted.id:
            is_unsure = _is_under_new_id(wanted, status, entry, came_at)
            is_assumed = is_unsure and wanted.makini_id is not None and listed is not None
            kind: Kind = "unlisted" if is_unsure and may_lag else "same"
            return Match(kind, ours, entry, is_assumed=is_assumed and kind == "same")
        is_predecessor = ours is not None and ours.replaced_by == wanted.id  # its old id again
        if is_predecessor or (
            listed is not None
            and _is_successor(wanted, status, entry, ours, listed=listed, known=known)
        ):
            return Match("replaces", ours, entry, wanted)
        is_mail = is_same_system(wanted, status) and not same_mail(wanted.email, status.email)
        replaced = _replaced(status, entry, ours, listed=listed or (), known=known)
        return Match("other", ours, entry, replaced, wanted.email if is_mail else "")
    providers = {entry.provider for entry in listed or ()} | {each.provider for each in known}
    return _new_system(asked, status, entry, ours, {*providers, *platforms})


def _new_system(
    asked: LinkPurpose,
    status: ConnectionStatus,
    entry: ListedConnection | None,
    ours: KnownConnection | None,
    providers: Collection[str],
) -> Match:
    """Whose login by a link for a new system it is."""
    if names_another(asked.system, status.provider, providers):
        return Match("other", ours, entry)
    if ours is None:
        return Match("new", None, entry)
    theirs = asked.customer_id is None or ours.customer_id in (None, asked.customer_id)
    theirs = theirs or ours.id in asked.unclaimed
    theirs = theirs and ours.id not in asked.other_systems
    return Match("known" if theirs else "other", ours, entry)


def _unnamed(
    wanted: KnownConnection | None, listed: Sequence[ListedConnection], *, may_lag: bool
) -> Match:
    """Whose a login is taken for of which neither the status nor the list says anything."""
    if wanted is None:
        return Match("unlisted")
    entry = next((entry for entry in listed if is_called(entry, wanted.makini_key)), None)
    if entry is None and may_lag:
        return Match("unlisted", wanted)
    return Match("same", wanted, entry, is_assumed=True)


def _is_under_new_id(
    wanted: KnownConnection,
    status: ConnectionStatus,
    entry: ListedConnection | None,
    came_at: datetime | None,
) -> bool:
    """Whether the status's id is none that `wanted` is known by, nor one that the list says.

    Where its id was never learned, the list must not say that it was connected before this login.
    """
    if status.id in ("", wanted.makini_id, wanted.makini_key):
        return False
    if entry is not None and is_called(entry, status.id):
        return False
    if wanted.makini_id is not None or entry is None or came_at is None:
        return True
    return entry.connected_at is not None and entry.connected_at < came_at - LOGGING_IN


def _recognised(
    wanted: KnownConnection | None,
    status: ConnectionStatus,
    listed: Sequence[ListedConnection],
    known: Sequence[KnownConnection],
) -> tuple[ListedConnection | None, KnownConnection | None]:
    """Its entry in the list and the connection in our books, as far as there are any; none that
    merely fits where the list would call it by its id, and doesn't show it yet."""
    entry = next((candidate for candidate in listed if is_called(candidate, status.id)), None)
    names = {status.id, *((entry.key, entry.id) if entry else ())}
    ours = in_books(known, names)
    if entry is None and ours is not None:
        entry = next((candidate for candidate in listed if candidate.key == ours.makini_key), None)
    is_left = entry is None and (ours is None or ours.setup == "disconnected")
    if is_left and not are_keys_ids(wanted, listed, known):
        entry = _fitting(wanted, status, listed, known)
        ours = ours if entry is None else in_books(known, {entry.key})
    return entry, ours


def matched_by_status(
    wanted: KnownConnection | None, status: ConnectionStatus, known: Sequence[KnownConnection]
) -> KnownConnection | None:
    """The connection in our books: by id, else `wanted`, if it alone fits the status. Pure."""
    ours = in_books(known, {status.id})
    if wanted is None or (ours is not None and ours.setup != "disconnected"):
        return ours
    if wanted.makini_id == wanted.makini_key:
        return ours  # its status gave its key as its id before
    rivals = [
        connection
        for connection in known
        if connection.setup != "disconnected"
        and connection.makini_id in (None, connection.makini_key)
        and connection.id != wanted.id
        and is_alike(connection, status)
    ]
    return wanted if is_alike(wanted, status) and not rivals else ours


def _fitting(
    wanted: KnownConnection | None,
    status: ConnectionStatus,
    listed: Sequence[ListedConnection],
    known: Sequence[KnownConnection],
) -> ListedConnection | None:
    """The one entry that fits the status, of those whose id the list doesn't say.

    One that isn't in our books yet goes before those whose id we don't know either; those go
    before the one asked for under another id. None where several fit alike.
    """
    fitting = [entry for entry in listed if not entry.id and _fits(entry, status)]
    ids = {connection.makini_key: connection.makini_id for connection in known}
    fresh = [entry for entry in fitting if entry.key not in ids]
    unsaid = [
        entry for entry in fitting if entry.key in ids and ids[entry.key] in (None, entry.key)
    ]
    renamed = [entry for entry in fitting if wanted is not None and entry.key == wanted.makini_key]
    candidates = fresh or unsaid or renamed
    if len(candidates) > 1:
        candidates = [entry for entry in candidates if same_mail(entry.email, status.email)]
    return candidates[0] if len(candidates) == 1 else None


def _fits(listed: ListedConnection, status: ConnectionStatus) -> bool:
    if not same_words(listed.provider, status.provider):
        return False
    same_company = is_company(status, customer_name(listed), listed.name)
    return same_company and (bool(listed.metadata) or same_mail(listed.email, status.email))


def _is_successor(
    wanted: KnownConnection,
    status: ConnectionStatus,
    entry: ListedConnection | None,
    ours: KnownConnection | None,
    *,
    listed: Sequence[ListedConnection],
    known: Sequence[KnownConnection],
) -> bool:
    """Whether the login is the wanted system's, under an id it didn't have before."""
    held = next((entry for entry in listed if is_called(entry, wanted.makini_key)), None)
    if ours is not None and (held is not None or _were_side_by_side(wanted, ours)):
        return False  # a second system, not a new id
    is_unsaid = held is not None and entry is None and not held.id
    if is_unsaid and not are_keys_ids(wanted, listed, known):
        return False  # several fit, and this one may be any of them
    if not same_words(wanted.provider, status.provider):
        return False
    if entry is not None and _is_marked_alike(wanted, entry, listed, known):
        return True
    if entry is not None and entry.metadata:
        return same_words(customer_name(entry), wanted.customer)
    return is_alike(wanted, status) or _is_called_alike(wanted, status, entry, known)


def _replaced(
    status: ConnectionStatus,
    entry: ListedConnection | None,
    ours: KnownConnection | None,
    *,
    listed: Sequence[ListedConnection],
    known: Sequence[KnownConnection],
) -> KnownConnection | None:
    """The one connection, gone from the list, whose place the login takes, though another was
    asked for: the list has its new one, which we didn't know."""
    if entry is None or ours is not None:
        return None
    gone = [
        each
        for each in known
        if each.setup not in ("pending", "disconnected")
        and not any(is_called(shown, each.makini_key) for shown in listed)
        and _is_successor(each, status, entry, None, listed=listed, known=known)
    ]
    return gone[0] if len(gone) == 1 else None


def _were_side_by_side(wanted: KnownConnection, ours: KnownConnection) -> bool:
    """Whether both were in our books before the list lacked `wanted`: that this list does says
    nothing, as it may be cut."""
    if ours.setup in ("pending", "disconnected") or ours.taken_in_at is None:
        return False
    return wanted.unlisted_since is None or ours.taken_in_at < wanted.unlisted_since


def _is_called_alike(
    wanted: KnownConnection,
    status: ConnectionStatus,
    entry: ListedConnection | None,
    known: Sequence[KnownConnection],
) -> bool:
    """Whether Makini calls the new one as the one before; its company is nobody else's."""
    if entry is None or not same_words(entry.name, wanted.name):
        return False
    others = [each for each in known if each.id != wanted.id]
    is_of_another = any(is_company(status, each.customer, each.name) for each in others)
    return same_mail(wanted.email, status.email) and not is_of_another


def _is_marked_alike(
    wanted: KnownConnection,
    entry: ListedConnection,
    listed: Sequence[ListedConnection],
    known: Sequence[KnownConnection],
) -> bool:
    """Whether the two have the same metadata, and nobody else has it."""
    mark = wanted.metadata
    if mark is None or metadata_digest(entry.metadata) != mark:
        return False
    keys = {wanted.makini_key, entry.key}
    marked = {each.makini_key for each in known if each.metadata == mark}
    marked |= {each.key for each in listed if metadata_digest(each.metadata) == mark}
    return marked <= keys
