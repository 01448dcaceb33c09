"""What is held of connections: read, brought in line with an observation, written.

The caller's transaction; `linekeeper.health.service` judges.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Update, bindparam, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import uniform
from linekeeper.config import HealthPolicy
from linekeeper.health.evidence import Health, Judged, Observation, Outcome
from linekeeper.health.judge import without_future
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Connection, Customer
from linekeeper.store.types import AsStruct, table_of

JUDGED = AsStruct(Judged)
"""`connection.judged`, for `type_coerce` in statements of many rows."""


class Held(msgspec.Struct, frozen=True):
    """What is held of a connection, as far as an observation may change it or is told by it."""

    judged: Judged
    is_as_stored: bool
    """Whether nothing of `judged` had to be put right as it was read."""
    id: str
    app: str
    customer_id: str | None
    customer: str | None
    provider: str
    name: str
    told_apart_by: str | None
    health: str
    health_since: datetime
    """When the present health began, as the observation dates it."""
    unlisted_since: datetime | None
    sync_status: str | None
    last_sync_at: datetime | None
    last_good_at: datetime | None
    last_checked_at: datetime | None
    last_answered_at: datetime | None
    suspect: bool


_KNOWN = (
    select(
        type_coerce(col(Connection.judged), JUDGED),
        col(Connection.id),
        col(Connection.app),
        col(Connection.customer_id),
        col(Customer.name),
        col(Connection.provider),
        col(Connection.name),
        col(Connection.told_apart_by),
        col(Connection.health),
        col(Connection.health_since),
        col(Connection.unlisted_since),
        col(Connection.sync_status),
        col(Connection.last_sync_at),
        col(Connection.last_good_at),
        col(Connection.last_checked_at),
        col(Connection.last_answered_at),
        col(Connection.suspect),
    )
    .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
    .where(col(Connection.id).in_(bindparam("ids", expanding=True)))
    .order_by(col(Connection.id))
    # Not its key: `conclude` refers to the row from another transaction, which this one waits for.
    .with_for_update(of=Connection, key_share=True)
)


async def load_held(session: AsyncSession, ids: Sequence[str], now: datetime) -> dict[str, Held]:
    """What is held of those of `ids` that are known; locked, in the order of their ids."""
    rows: dict[str, Held] = {}
    for chunk in chunked(ids, 10_000):
        known = await session.execute(_KNOWN, {"ids": chunk})
        for stored, identifier, *about in known:
            judged = without_future(stored, now)
            rows[identifier] = Held(judged, judged is stored, identifier, *about)
    return rows


def after_look(row: Held, judged: Judged, observation: Observation) -> Held:
    """What is held once an observation was judged. Pure."""
    looked = _is_look(observation)
    unsaid = observation.outcome in (Outcome.missed, Outcome.unclear)
    answered = looked and not unsaid and not is_without_word(row, observation)
    good = looked and judged.own is Health.healthy and judged.misses == 0
    return Held(
        judged,
        row.is_as_stored,
        row.id,
        row.app,
        row.customer_id,
        row.customer,
        row.provider,
        row.name,
        row.told_apart_by,
        judged.health.value,
        row.health_since if judged.health.value == row.health else observation.at,
        row.unlisted_since,
        sync_status=observation.sync_status or row.sync_status,
        last_sync_at=observation.sync_updated_at or row.last_sync_at,
        last_good_at=observation.at if good else row.last_good_at,
        last_checked_at=observation.at if looked else row.last_checked_at,
        last_answered_at=observation.at if answered else row.last_answered_at,
        suspect=judged.suspect,
    )


def after_word(row: Held, judged: Judged, observation: Observation) -> Held:
    """The row of one that Makini speaks of: it is there, and was not looked at."""
    return replace(
        row,
        judged=judged,
        suspect=judged.suspect,
        last_sync_at=observation.sync_updated_at or row.last_sync_at,
        last_answered_at=observation.at if row.last_answered_at else None,
    )


def is_without_word(row: Held, observation: Observation) -> bool:
    """Whether only the list could say anything, which lacks it: no token, and none is minted."""
    return observation.tried and row.unlisted_since is not None


def _is_look(observation: Observation) -> bool:
    """Whether the connection itself was looked at; a report of the product is only a hint."""
    if observation.source == "list":
        return observation.decisive or observation.tried
    return observation.outcome is not Outcome.doubted


def next_probe_at(
    row: Held, seen: Observation, policy: HealthPolicy, now: datetime
) -> datetime | None:
    """None, which is at once, for one of which only the list spoke: no call was possible."""
    if row.judged.asked_at is None and seen.outcome is Outcome.listed and not seen.tried:
        return None
    # A little earlier than due, spread out; what Makini says unasked puts no probe off.
    wait = timedelta(minutes=policy.probe_minutes * uniform(0.8, 0.95))
    return (row.judged.asked_at or row.last_checked_at or now) + wait


def _values(row: Held, next_probe_at: datetime | None) -> dict[str, Any]:
    return {
        "row_id": row.id,
        "new_health": row.health,
        "new_health_since": row.health_since,
        "new_judged": row.judged,
        "new_suspect": row.suspect,
        "new_evidence": row.judged.evidence.value if row.judged.evidence else None,
        "new_last_read_at": row.judged.read_at,
        "new_sync_status": row.sync_status,
        "new_last_sync_at": row.last_sync_at,
        "new_last_good_at": row.last_good_at,
        "new_last_checked_at": row.last_checked_at,
        "new_last_answered_at": row.last_answered_at,
        "new_next_probe_at": next_probe_at,
    }


_ALWAYS = ("judged", "last_good_at", "last_checked_at", "last_answered_at", "next_probe_at")
_OTHERS = (
    *("health", "health_since", "suspect", "evidence", "last_read_at"),
    *("sync_status", "last_sync_at"),
)
_others_of = attrgetter(
    *("health", "health_since", "suspect", "judged.evidence", "judged.read_at"),
    *("sync_status", "last_sync_at"),
)
_TABLE = table_of(Connection)


def _write(names: Iterable[str]) -> Update:
    types = {name: JUDGED if name == "judged" else _TABLE.c[name].type for name in names}
    new = {name: bindparam(f"new_{name}", type_=kind) for name, kind in types.items()}
    return update(_TABLE).where(_TABLE.c.id == bindparam("row_id")).values(new)


_WRITE, _WRITE_ALL = _write(_ALWAYS), _write((*_ALWAYS, *_OTHERS))


async def write_held(
    session: AsyncSession,
    before: Mapping[str, Held],
    after: Mapping[str, Held],
    probed_next: Mapping[str, datetime | None],
) -> None:
    """Write what is held from now on of those that are in `probed_next`, when each is probed next.

    Of most a sweep finds nothing new but that they are as they were: a few times are written.
    """
    same: list[dict[str, Any]] = []
    everything: list[dict[str, Any]] = []
    for identifier in sorted(probed_next):
        was, row = before[identifier], after[identifier]
        is_same = was.is_as_stored and _others_of(was) == _others_of(row)
        (same if is_same else everything).append(_values(row, probed_next[identifier]))
    if same:
        await session.execute(_WRITE, same)
    if everything:
        await session.execute(_WRITE_ALL, everything)
