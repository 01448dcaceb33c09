"""Taking over what Makini lists: unknown connections are adopted, names follow Makini's.

Only our own database is written (DESIGN "Do no harm"). Doing it again changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.distinct_labels import distinguish_labels
from linekeeper.customers.importing import free_slug
from linekeeper.customers.matching import read_customer_names
from linekeeper.customers.naming import (
    customer_name,
    hosting,
    label,
    metadata_digest,
    name_key,
    slug,
    tier,
)
from linekeeper.customers.proposing import propose_contacts
from linekeeper.customers.setup import setup_after
from linekeeper.makini import ListedConnection
from linekeeper.store import Store, new_id
from linekeeper.store.engine import chunked, insert_ignore
from linekeeper.store.modes import apply_rules
from linekeeper.store.relisting import list_whole_again
from linekeeper.store.tables import Connection, Customer, Transition
from linekeeper.store.types import table_of
from linekeeper.sums import add_up

_ANNOUNCED = ("name", "provider", "email", "hosting", "tier", "setup")
_FOLLOWED = (
    *(*_ANNOUNCED, "tariff_by", "tier_by", "makini_id", "tags", "list_status", "disappeared_at"),
    *("metadata_digest", "made_at", "inherited_tags"),
)
"""Columns that follow Makini's list; those of `_ANNOUNCED` are worth a word to people."""
_KNOWN = select(
    col(Connection.id),
    col(Connection.makini_key),
    col(Connection.judged)["lifecycle"].as_string(),
    col(Connection.replaced_by),
    *(col(getattr(Connection, name)) for name in _FOLLOWED),
).where(
    col(Connection.app) == bindparam("of_app"),
    col(Connection.makini_key).in_(bindparam("keys", expanding=True)),
)


@dataclass(slots=True)
class Adoption:
    """What taking over a list does. `new` and `changed` are names people know."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    customers: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    """Questions: new customers that may be one we have."""
    proposed: list[str] = field(default_factory=list)
    """Contacts that people are asked to confirm, as `Customer: address`."""
    known: int = 0
    ids: dict[str, str] = field(default_factory=dict)
    """Our id by Makini's key."""
    new_ids: list[str] = field(default_factory=list)
    relisted: list[str] = field(default_factory=list)
    """Keys that are new, or whose status in the list is not the one they were judged by."""
    replaced: set[str] = field(default_factory=set)
    """The ids of those that have a successor: they are over, though they are still listed."""
    missing: list[str] = field(default_factory=list)
    """Names of known connections that the list lacks; said by a preview only."""
    truncated: str = ""
    """Why the list looks truncated, where nothing was concluded from what is missing."""

    def add(self, other: "Adoption") -> None:
        """Count `other` in."""
        truncated = " ".join(filter(None, (self.truncated, other.truncated)))
        add_up(self, other)
        self.truncated = truncated


async def adopt(
    store: Store,
    session: AsyncSession,
    app: str,
    listed: Iterable[ListedConnection],
    *,
    now: datetime,
    dry_run: bool = False,
    of_customer: str | None = None,
) -> Adoption:
    """Bring customers and connections in line with `listed`, in the caller's transaction.

    A key listed twice counts once, as it was listed last. With `dry_run` nothing is written. What
    is new belongs to `of_customer`, where that is known; else to whom Makini's list names.
    """
    by_key = {entry.key: entry for entry in listed}
    connections: dict[str, dict[str, Any]] = {}
    ids: dict[str, str] = {}
    judged_by: dict[str, str | None] = {}
    replaced: set[str] = set()
    for portion in _portions(list(by_key)):
        existing = await session.execute(_KNOWN, {"of_app": app, "keys": portion})
        for identifier, key, lifecycle, replaced_by, *values in existing:
            ids[key], judged_by[key] = identifier, lifecycle
            if replaced_by is not None:
                replaced.add(identifier)
            connections[key] = dict(zip(_FOLLOWED, values, strict=True))
    result = Adoption(known=len(connections), ids=ids, replaced=replaced)
    fresh = [listed for key, listed in by_key.items() if key not in connections]
    if of_customer is not None:
        owners = {customer_name(entry): of_customer for entry in fresh}
    else:
        owners = await _customers(store, session, fresh, result, now=now, dry_run=dry_run)
    charges = await _charges(session, owners.values())
    rows = [_row(app, entry, owners, charges, now) for entry in fresh]
    result.new = [
        label(customer_name(entry), entry.provider, entry.name or entry.key, None)
        for entry in fresh
    ]
    result.relisted = [
        key for key, listed in by_key.items() if judged_by.get(key) != listed.lifecycle
    ]
    changes = []
    for key, held in connections.items():
        wanted = _followed(by_key[key], held, is_over=ids[key] in replaced)
        if held == wanted:
            continue
        changes.append((ids[key], held, wanted))
        if any(held[name] != wanted[name] for name in _ANNOUNCED):
            result.changed.append(wanted["name"])
    if dry_run:
        return result
    if rows:
        await session.execute(insert(Connection), rows)
        result.proposed = await propose_contacts(store, session, rows)
    result.ids |= {row["makini_key"]: row["id"] for row in rows}
    result.new_ids = [row["id"] for row in rows]
    await _change(session, changes, now)
    renamed = [row_id for row_id, held, wanted in changes if _is_renamed(held, wanted)]
    if rows or renamed:
        owned = {row["customer_id"] for row in rows} | await _owners(session, renamed)
        await distinguish_labels(session, [owner for owner in owned if owner is not None])
    retagged = [row_id for row_id, held, wanted in changes if held["tags"] != wanted["tags"]]
    await apply_rules(session, [*retagged, *(row["id"] for row in rows)])
    return result


async def _customers(
    store: Store,
    session: AsyncSession,
    fresh: Sequence[ListedConnection],
    result: Adoption,
    *,
    now: datetime,
    dry_run: bool,
) -> dict[str, str]:
    """The ids of the customers of `fresh` by the name given; those we don't know are made.

    Spellings of one name are one customer. Where a new name may mean a customer we have, it is
    made, and people are asked.
    """
    products = {customer_name(listed): listed.provider for listed in fresh}
    names = sorted(products)
    if not names:
        return {}
    known = await read_customer_names(session)
    missing = {
        name_key(name): name
        for name in reversed(names)
        if known.owner(name, products[name]) is None
    }
    result.customers = sorted(missing.values())
    result.alike = [
        f"{name} may be {' or '.join(alike)}"
        for name in result.customers
        if (alike := known.alike(name, products[name]))
    ]
    if missing and not dry_run:
        taken = set(await session.scalars(select(col(Customer.slug))))
        rows = [
            {
                "id": new_id(),
                "name": name,
                "slug": free_slug(name, taken),
                "time_zone": "UTC",
                "locale": "en",
                "critical": False,
                "aliases": [],
                "created_at": now,
            }
            for name in result.customers
        ]
        await insert_ignore(store, session, Customer, rows)
        known = await read_customer_names(session)
    owners = {name: known.owner(name, products[name]) for name in names}
    return {name: owner for name, owner in owners.items() if owner is not None}


async def _charges(
    session: AsyncSession, customers: Iterable[str]
) -> dict[str, tuple[str | None, str | None]]:
    """Hosting and tier that a person said of all systems of a customer, by its id."""
    charges: dict[str, tuple[str | None, str | None]] = {}
    for portion in _portions(sorted(set(customers))):
        rows = await session.execute(
            select(col(Customer.id), col(Customer.hosting), col(Customer.tier)).where(
                col(Customer.id).in_(portion)
            )
        )
        charges |= {row[0]: (row[1], row[2]) for row in rows}
    return charges


def _row(
    app: str,
    listed: ListedConnection,
    owners: dict[str, str],
    charges: Mapping[str, tuple[str | None, str | None]],
    now: datetime,
) -> dict[str, Any]:
    owner = customer_name(listed)
    hosted, charged = charges.get(owners.get(owner, ""), (None, None))
    return {
        "id": new_id(),
        "app": app,
        "makini_key": listed.key,
        "makini_id": listed.id or None,
        "customer_id": owners.get(owner),
        "name": listed.name or listed.key,
        "slug": slug(owner, listed.provider, listed.name, listed.key, app),
        "provider": listed.provider,
        "email": listed.email,
        "hosting": hosted or hosting(listed.metadata) or "cloud",
        "tier": charged or tier(listed.metadata),
        "tariff_by": "customer" if hosted else None,
        "tier_by": "customer" if charged else None,
        "tags": list(listed.tags or ()),
        "list_status": listed.status,
        "metadata_digest": metadata_digest(listed.metadata),
        "setup": setup_after(
            "pending", listed.lifecycle, connected=listed.connected_at is not None
        ),
        "health": "unknown",
        "health_since": now,
        "suspect": True,
        "judged": {},
        "created_at": now,
        "made_at": _made_at(listed, None),
    }


def _made_at(listed: ListedConnection, known: datetime | None) -> datetime | None:
    """When it was made: a later login may move the time since which it is connected."""
    if listed.created_at is not None:
        return listed.created_at
    said = [at for at in (listed.connected_at, known) if at is not None]
    return min(said, default=None)


def _followed(
    listed: ListedConnection, held: Mapping[str, Any], *, is_over: bool
) -> dict[str, Any]:
    inherited = [tag for tag in held["inherited_tags"] or () if tag not in (listed.tags or ())]
    return {
        "makini_id": listed.id or held["makini_id"],  # a status may have named it
        "name": listed.name or held["name"],
        "provider": listed.provider or held["provider"],
        "email": listed.email or held["email"],
        "tags": held["tags"] if listed.tags is None else [*listed.tags, *inherited],
        "inherited_tags": inherited or None,
        "list_status": listed.status,
        "hosting": held["hosting"]
        if held["tariff_by"]
        else hosting(listed.metadata) or held["hosting"],
        "tier": held["tier"] if held["tier_by"] else tier(listed.metadata) or held["tier"],
        "tariff_by": held["tariff_by"],
        "tier_by": held["tier_by"],
        "setup": held["setup"]
        if is_over
        else setup_after(
            held["setup"], listed.lifecycle, connected=listed.connected_at is not None
        ),
        "disappeared_at": None,  # it is listed
        "metadata_digest": metadata_digest(listed.metadata),
        "made_at": _made_at(listed, held["made_at"]),
    }


def _is_renamed(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether it may have to be told apart from others, or no longer."""
    return any(held[name] != wanted[name] for name in ("name", "provider", "setup"))


async def _owners(session: AsyncSession, connections: Sequence[str]) -> set[str | None]:
    owners: set[str | None] = set()
    for portion in _portions(list(connections)):
        of_them = select(col(Connection.customer_id)).where(col(Connection.id).in_(portion))
        owners |= set(await session.scalars(of_them))
    return owners


async def _change(
    session: AsyncSession,
    changes: Sequence[tuple[str, dict[str, Any], dict[str, Any]]],
    now: datetime,
) -> None:
    if not changes:
        return
    table = table_of(Connection)
    await (await session.connection()).execute(
        update(table)
        .where(table.c.id == bindparam("row_id"))
        .values({name: bindparam(f"new_{name}", type_=table.c[name].type) for name in _FOLLOWED}),
        [
            {"row_id": identifier} | {f"new_{name}": wanted[name] for name in _FOLLOWED}
            for identifier, _, wanted in changes
        ],
    )
    moved = [
        Transition(
            connection_id=identifier,
            at=now,
            axis="setup",
            before=held["setup"],
            after=wanted["setup"],
            source="list",
        )
        for identifier, held, wanted in changes
        if held["setup"] != wanted["setup"]
    ]
    session.add_all(moved)
    await session.flush()
    # What went while it was over, or came with its first sync, is in no list of changes.
    anew = [each.connection_id for each in moved if each.before in ("disconnected", "syncing")]
    await list_whole_again(session, anew, now=now)


def _portions(values: list[str], size: int = 10_000) -> Iterable[list[str]]:
    yield from chunked(values, size)
