"""What leaves the house: written with its cause, delivered at least once, in order per lane.

A row is claimed (a lease with an end), delivered outside any transaction, then settled. A
deliverer that dies leaves a claim that runs out; the next one repeats, in a form in which a
repeat is harmless (DESIGN "Tell").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal, get_args

from sqlalchemy import Executable, Update, and_, bindparam, exists, or_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from linekeeper.chunks import chunked
from linekeeper.store.engine import Store
from linekeeper.store.tables import Outbox
from linekeeper.store.types import UtcDateTime, new_id
from linekeeper.store.upsert import insert_ignore

Outcome = Literal["sent", "suppressed", "superseded", "skipped"]
"""How a row ends; beside `dead`, which may be replayed."""
ENDED: tuple[Outcome, ...] = get_args(Outcome)
CLAIM_SECONDS = 120
"""How long a deliverer may take for what it claimed."""


@dataclass(frozen=True, slots=True)
class Message:
    """A row to write: `dedupe_key` makes it once, `lane` keeps it in order."""

    channel: str
    dedupe_key: str
    payload: dict[str, Any] = field(default_factory=dict)
    lane: str = ""
    """Defaults to the dedupe key: in order with nothing."""
    not_before: datetime | None = None


async def enqueue(
    store: Store, session: AsyncSession, messages: Sequence[Message], *, now: datetime
) -> None:
    """Write `messages` in the caller's transaction; a dedupe key already there is left alone."""
    rows = [
        {
            "id": (identifier := new_id()),
            "seq": identifier,
            "channel": message.channel,
            "dedupe_key": message.dedupe_key,
            "lane": message.lane or message.dedupe_key,
            "payload": _payload(store, message),
            "status": "pending",
            "attempts": 0,
            "created_at": now,
            "next_attempt_at": message.not_before or now,
        }
        for message in messages
    ]
    if rows:
        await insert_ignore(store, session, Outbox, rows)


def _payload(store: Store, message: Message) -> Mapping[str, Any]:
    """An entry of the Event Feed that a flow run causes carries it as a related resource."""
    if message.channel != "event" or store.run_id is None:
        return message.payload
    run = {
        "prefect.resource.id": f"prefect.flow-run.{store.run_id}",
        "prefect.resource.role": "flow-run",
    }
    return {**message.payload, "related": [*message.payload.get("related", ()), run]}


async def claim(
    store: Store,
    channel: str,
    owner: str,
    *,
    limit: int,
    now: datetime,
    lanes: Sequence[str] | None = None,
) -> list[Outbox]:
    """Up to `limit` rows of `channel` that are due, one a lane, claimed for `CLAIM_SECONDS`.

    `lanes` narrows it to those. `attempts` of a returned row counts this attempt already, so a row
    with more than one may have been delivered before.
    """
    until = now + timedelta(seconds=CLAIM_SECONDS)
    values: dict[str, Any] = {
        "of_channel": channel, "whose": owner, "most": limit, "now": now, "until": until
    }  # fmt: skip
    if lanes is not None:
        values["lanes"] = list(lanes)
    async with store.write() as session:
        statement = _claim(is_sqlite=store.is_sqlite, narrowed=lanes is not None)
        rows = (await session.execute(statement, values)).scalars()
        return sorted(rows, key=lambda row: row.seq)


@cache
def _claim(*, is_sqlite: bool, narrowed: bool) -> Executable:
    """Built once: it is asked every second or so for every channel."""
    earlier = aliased(Outbox)
    now = bindparam("now", type_=UtcDateTime)
    due = (
        select(Outbox.id)
        .where(
            col(Outbox.channel) == bindparam("of_channel"),
            col(Outbox.status) == "pending",
            col(Outbox.next_attempt_at) <= now,
            or_(col(Outbox.claimed_until).is_(None), col(Outbox.claimed_until) <= now),
            ~exists().where(
                and_(
                    col(earlier.lane) == col(Outbox.lane),
                    col(earlier.status) == "pending",
                    col(earlier.seq) < col(Outbox.seq),
                )
            ),
        )
        .order_by(col(Outbox.seq))
        .limit(bindparam("most"))
    )
    if narrowed:
        due = due.where(col(Outbox.lane).in_(bindparam("lanes", expanding=True)))
    if not is_sqlite:
        due = due.with_for_update(skip_locked=True)
    return (
        update(Outbox)
        .where(col(Outbox.id).in_(due))
        .values(
            claimed_by=bindparam("whose"),
            claimed_until=bindparam("until", type_=UtcDateTime),
            attempts=col(Outbox.attempts) + 1,
        )
        .returning(Outbox)
        .execution_options(synchronize_session=False)
    )


async def behind(store: Store, row: Outbox) -> list[str]:
    """The ids of the rows that wait behind `row` in its lane now."""
    async with store.read() as session:
        return list(
            await session.scalars(
                select(Outbox.id).where(
                    col(Outbox.lane) == row.lane,
                    col(Outbox.status) == "pending",
                    col(Outbox.seq) > row.seq,
                )
            )
        )


async def settle(
    store: Store,
    rows: Sequence[Outbox],
    owner: str,
    *,
    now: datetime,
    became: Outcome = "sent",
    covered: Sequence[str] = (),
) -> None:
    """End `rows`, unless somebody else claimed them since; what they `covered` is superseded."""
    async with store.write() as session:
        await _finish(session, _END, rows, owner, became=became, now=now, reason=None)
        for some in chunked(covered, 10_000):
            await session.execute(_END_COVERED, {"ids": some, "now": now})


async def dead_letter(store: Store, row: Outbox, owner: str, error: str, *, now: datetime) -> None:
    """Give `row` up: it will not be tried again and shows as `dead`."""
    async with store.write() as session:
        await _finish(session, _END, [row], owner, became="dead", now=now, reason=error[:500])


async def postpone(
    store: Store, rows: Sequence[Outbox], owner: str, error: str, *, until: datetime
) -> None:
    """Try `rows` again at `until`."""
    async with store.write() as session:
        await _finish(session, _POSTPONE, rows, owner, until=until, reason=error[:500])


_PENDING = update(Outbox).where(
    col(Outbox.id).in_(bindparam("ids", expanding=True)), col(Outbox.status) == "pending"
)
_END_COVERED = (
    _PENDING.where(col(Outbox.claimed_by).is_(None))
    .values(status="superseded", settled_at=bindparam("now", type_=UtcDateTime), error=None)
    .execution_options(synchronize_session=False)
)
_OURS = _PENDING.where(col(Outbox.claimed_by) == bindparam("owner")).values(
    claimed_by=None, claimed_until=None, error=bindparam("reason")
)
_END = _OURS.values(
    status=bindparam("became"), settled_at=bindparam("now", type_=UtcDateTime)
).execution_options(synchronize_session=False)
_POSTPONE = _OURS.values(next_attempt_at=bindparam("until", type_=UtcDateTime)).execution_options(
    synchronize_session=False
)


async def _finish(
    session: AsyncSession, how: Update, rows: Sequence[Outbox], owner: str, **values: Any
) -> None:
    for chunk in chunked(rows, 10_000):
        ids = [row.id for row in chunk]
        await session.execute(how, {"ids": ids, "owner": owner, **values})


def retry_at(attempts: int, *, now: datetime, after: float | None = None) -> datetime:
    """When to try again after `attempts`: 2 s doubling to 10 min, or `after` seconds if longer."""
    wait = min(2.0 ** min(attempts, 10), 600.0)
    return now + timedelta(seconds=max(wait, after or 0.0))
