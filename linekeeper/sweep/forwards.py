"""What is handed on to the product, seen by app: what waits, what was given up or is refused."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import bindparam, case, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.outbox.about import app_column, destination_column
from linekeeper.outbox.forward import CHANNEL
from linekeeper.store.tables import ForwardAttempt, Outbox
from linekeeper.store.types import UtcDateTime

REFUSED_TIMES = 3
"""A message refused less often may be a product that restarts."""
LOST_FOR = timedelta(days=1)
"""So long people are told of messages that can't be handed on any more."""
OLDEST = 200
"""So many of the messages that wait say since when the product takes nothing."""


@dataclass(frozen=True, slots=True)
class Forwards:
    """What is handed on for one app."""

    dead: int = 0
    """Given up."""
    dead_error: str = ""
    """Why the last of those were."""
    dead_at: datetime | None = None
    """When the last of them was."""
    lost: int = 0
    """Those that ended lately because what they are about is no longer kept."""
    waiting: int = 0
    oldest_at: datetime | None = None
    """Since when the first waits that is not behind one that is refused."""
    error: str = ""
    """Why they wait."""


async def forwards(
    session: AsyncSession, destinations: Collection[str] | None, *, now: datetime
) -> dict[str, Forwards]:
    """What was given up and what waits, by app; only for `destinations`, where they are given.

    What is for one that the settings don't name any more is kept, in case it returns.
    """
    queues: dict[str, Forwards] = defaultdict(Forwards)
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    statement = _forwarded(is_sqlite, of_all=destinations is None)
    given = {"to": sorted(destinations or ()), "since": now - LOST_FOR}
    rows = await session.execute(statement, given)
    for app, status, count, oldest, error, settled_at in rows:
        if status == "dead":
            seen = {"dead": count, "dead_error": error or "", "dead_at": settled_at}
        elif status == "skipped":
            seen = {"lost": count}
        else:
            seen = {"waiting": count, "oldest_at": oldest, "error": error or ""}
        queues[app] = replace(queues[app], **seen)
    return queues


@cache
def _forwarded(is_sqlite: bool, *, of_all: bool) -> Any:
    """Built once, like what follows."""
    refused = aliased(Outbox)
    held_up = col(Outbox.ordering_key).in_(
        select(col(refused.ordering_key)).where(
            col(refused.channel) == CHANNEL,
            col(refused.status) == "pending",
            col(refused.refusal) == "refused",
        )
    )
    app = app_column(is_sqlite=is_sqlite)
    lately = col(Outbox.settled_at) >= bindparam("since", type_=UtcDateTime)
    was_lost = (col(Outbox.status) == "skipped") & lately
    return (
        select(
            app,
            col(Outbox.status),
            func.count(),
            func.min(case((~held_up, col(Outbox.created_at)))),
            func.max(case((~held_up, col(Outbox.error)))),
            func.max(col(Outbox.settled_at)),
        )
        .where(
            col(Outbox.channel) == CHANNEL,
            col(Outbox.status).in_(["pending", "dead"]) | was_lost,
            _is_for(is_sqlite, of_all=of_all),
        )
        .group_by(app, col(Outbox.status))
    )


async def refused_forwards(
    session: AsyncSession, destinations: Collection[str] | None
) -> dict[str, tuple[int, datetime | None, str, str]]:
    """How many the product refuses time after time, since when, why; its word that it is gone."""
    refused: dict[str, tuple[int, datetime | None, str, str]] = defaultdict(
        lambda: (0, None, "", "")
    )
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    statement = _refusals(is_sqlite, of_all=destinations is None)
    rows = await session.execute(statement, {"to": sorted(destinations or ())})
    for name, count, oldest, why, gone in rows:
        refused[name] = (int(count or 0), oldest, why or "", gone or "")
    return refused


@cache
def _refusals(is_sqlite: bool, *, of_all: bool) -> Any:
    app, error, refusal = app_column(is_sqlite=is_sqlite), col(Outbox.error), col(Outbox.refusal)
    again = (refusal == "refused") & (col(Outbox.attempts) >= REFUSED_TIMES)
    return (
        select(
            app,
            func.sum(case((again, 1), else_=0)),
            func.min(case((again, col(Outbox.created_at)))),
            func.min(case((again, error))),
            func.min(case((refusal == "gone", error))),
        )
        .where(
            col(Outbox.channel) == CHANNEL,
            col(Outbox.status) == "pending",
            refusal.is_not(None),
            _is_for(is_sqlite, of_all=of_all),
        )
        .group_by(app)
    )


async def is_untaken(session: AsyncSession, app: str, forward: Forwards) -> bool:
    """Whether the product took nothing since messages for it were given up."""
    return forward.dead_at is not None and not await _taken_since(session, app, forward.dead_at)


async def _taken_since(session: AsyncSession, app: str, at: datetime) -> bool:
    is_of_app = app_column(is_sqlite=session.get_bind().dialect.name == "sqlite") == app
    taken = await session.scalar(
        select(col(Outbox.id))
        .where(
            col(Outbox.channel) == CHANNEL,
            col(Outbox.status) == "sent",
            col(Outbox.settled_at) > at,
            is_of_app,
        )
        .limit(1)
    )
    return taken is not None


async def untaken_since(session: AsyncSession, app: str) -> datetime | None:
    """Since when the product of `app` takes nothing; None while nothing was tried in vain.

    That is since the first try of a message that still waits, or since the product took one after
    that. A message may wait before it is tried: nothing of ours was there to hand it on, or the
    settings lacked its app.
    """
    is_of_app = app_column(is_sqlite=session.get_bind().dialect.name == "sqlite") == app
    waiting = (
        await session.execute(
            select(col(Outbox.created_at), col(Outbox.payload))
            .where(
                col(Outbox.channel) == CHANNEL,
                col(Outbox.status) == "pending",
                col(Outbox.attempts) > 0,
                is_of_app,
            )
            .order_by(col(Outbox.created_at))
            .limit(OLDEST)
        )
    ).all()
    if not waiting:
        return None
    tried = await session.scalar(
        select(func.min(col(ForwardAttempt.at))).where(
            col(ForwardAttempt.message_id).in_(
                [identity for row in waiting for identity in _posted_as(row.payload)]
            )
        )
    )
    tried = tried or waiting[0].created_at  # its tries are no longer kept, or another's: a replay
    taken: datetime | None = await session.scalar(
        select(func.max(col(Outbox.settled_at))).where(
            col(Outbox.channel) == CHANNEL,
            col(Outbox.status) == "sent",
            col(Outbox.settled_at) > tried,
            is_of_app,
        )
    )
    return taken or tried


def _posted_as(payload: Mapping[str, Any]) -> list[str]:
    """The ids under which the product may have been asked to take a message. Pure."""
    if "change" in payload:
        return [payload["change"]]
    connection = payload.get("connection")
    return [payload["event"] if connection is None else f"{payload['event']}-{connection}"]


def _is_for(is_sqlite: bool, *, of_all: bool) -> Any:
    """Whether it is for one of the destinations `to`."""
    if of_all:
        return true()
    return destination_column(is_sqlite=is_sqlite).in_(bindparam("to", expanding=True))
