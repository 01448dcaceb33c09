"""Whose a login is whose status names nothing, as the list alone may show it. Pure."""

from collections.abc import Collection, Sequence
from datetime import datetime

from linekeeper.access.likeness import LOGGING_IN, KnownConnection, LinkPurpose, in_books
from linekeeper.access.system_names import names_another, same_words
from linekeeper.customers.naming import customer_name
from linekeeper.makini import ListedConnection


def just_connected(
    asked: LinkPurpose,
    listed: Sequence[ListedConnection],
    known: Sequence[KnownConnection],
    platforms: Collection[str],
    came_at: datetime | None,
) -> ListedConnection | None:
    """What the list shows as connected when the login came: the connection asked for, else the one
    other of its customer's. None where several, or none, may be it."""
    if came_at is None:
        return None
    wanted, customer_id, candidates = asked.connection, asked.customer_id, []
    providers = {*platforms, *(entry.provider for entry in listed)}
    providers |= {each.provider for each in known}
    for entry in listed:
        if entry.connected_at is None or abs(entry.connected_at - came_at) > LOGGING_IN:
            continue
        ours = in_books(known, {entry.key, entry.id})
        if wanted is not None and ours is not None and ours.id == wanted.id:
            return entry
        if ours is not None:
            is_theirs = customer_id is not None and ours.customer_id == customer_id
            is_theirs = is_theirs or ours.id in asked.unclaimed
        elif wanted is not None:
            is_theirs = same_words(customer_name(entry), wanted.customer)
        else:
            is_theirs = True
        if is_theirs and (
            wanted is not None or not names_another(asked.system, entry.provider, providers)
        ):
            candidates.append(entry)
    return candidates[0] if len(candidates) == 1 else None
