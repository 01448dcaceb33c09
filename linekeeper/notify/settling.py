"""What else becomes of outbox rows: said elsewhere, overtaken, untouched, held, said together."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import bindparam, select, update
from sqlmodel import col

from linekeeper.notify.text import shown
from linekeeper.outbox.queue import Outcome
from linekeeper.store.engine import Store
from linekeeper.store.tables import Outbox
from linekeeper.store.types import UtcDateTime

BURST = 10
"""More diary entries than this that wait behind each other are said as one."""
_BURST_LIMIT = 3_000
_MOST = 1_000


_SETTLE = (
    update(Outbox)
    .where(
        col(Outbox.id) == bindparam("row_id"),
        col(Outbox.claimed_by) == bindparam("owner"),
        col(Outbox.status) == "pending",
    )
    .values(
        status=bindparam("became"),
        settled_at=bindparam("now", type_=UtcDateTime),
        claimed_by=None,
        claimed_until=None,
        error=bindparam("note"),
    )
    .execution_options(synchronize_session=False)
)
_OVERTAKE = (
    update(Outbox)
    .where(
        col(Outbox.dedupe_key).in_(bindparam("keys", expanding=True)),
        col(Outbox.status) == "pending",
        col(Outbox.claimed_by).is_(None),
    )
    .values(status="superseded", settled_at=bindparam("now", type_=UtcDateTime), error=None)
    .execution_options(synchronize_session=False)
)


async def settle_unsent(
    store: Store, rows: Sequence[Outbox], owner: str, said: Mapping[str, str], *, now: datetime
) -> None:
    """Skip `rows`, as no Slack is configured, keeping what they would have said (by row id)."""
    await _settle(store, {row.id: said[row.id] for row in rows}, owner, "skipped", now=now)


async def settle_withheld(
    store: Store, rows: Sequence[Outbox], owner: str, why: Mapping[str, str], *, now: datetime
) -> None:
    """Settle `rows` that the policy suppresses (`why`, by row id): the first notice tells all."""
    await _settle(store, {row.id: why[row.id] for row in rows}, owner, "suppressed", now=now)


async def _settle(
    store: Store, notes: Mapping[str, str], owner: str, became: Outcome, *, now: datetime
) -> None:
    common = {"owner": owner, "now": now, "became": became}
    async with store.write() as session:
        for identifier, note in notes.items():
            await session.execute(_SETTLE, {**common, "row_id": identifier, "note": note[:500]})


async def settle_overtaken(store: Store, keys: Sequence[str], *, now: datetime) -> None:
    """Settle rows not yet claimed whose news a later rendering has shown already."""
    async with store.write() as session:
        await session.execute(_OVERTAKE, {"keys": list(keys), "now": now})


async def release_claim(store: Store, rows: Sequence[Outbox], owner: str) -> None:
    """End our claim on `rows` as if it had never been: nothing was tried."""
    async with store.write() as session:
        await session.execute(
            update(Outbox)
            .where(
                col(Outbox.id).in_([row.id for row in rows]),
                col(Outbox.claimed_by) == owner,
                col(Outbox.status) == "pending",
            )
            .values(claimed_by=None, claimed_until=None, attempts=col(Outbox.attempts) - 1)
            .execution_options(synchronize_session=False)
        )


async def hold_channel(store: Store, error: str, *, until: datetime) -> None:
    """Nothing of channel `slack` is due before `until`; each row says why."""
    async with store.write() as session:
        await session.execute(
            update(Outbox)
            .where(
                col(Outbox.channel) == "slack",
                col(Outbox.status) == "pending",
                col(Outbox.claimed_by).is_(None),
                col(Outbox.next_attempt_at) < until,
            )
            .values(next_attempt_at=until, error=error[:500])
            .execution_options(synchronize_session=False)
        )


async def gather_burst(store: Store, row: Outbox, *, now: datetime) -> Outbox:
    """The diary entry `row`, together with those behind it in its lane if they are a burst.

    What it gathers is in its payload and settled in one transaction, before anything is said.
    """
    waiting = (
        select(Outbox)
        .where(
            col(Outbox.lane) == row.lane,
            col(Outbox.status) == "pending",
            col(Outbox.claimed_by).is_(None),
            col(Outbox.seq) > row.seq,
        )
        .order_by(col(Outbox.seq))
        .limit(_MOST)
    )
    async with store.read() as session:
        if len((await session.scalars(waiting)).all()) <= BURST:
            return row
    async with store.write() as session:
        behind = (await session.scalars(waiting)).all()
        diary = [one for one in behind if one.payload.get("do") == "diary"]
        if len(diary) <= BURST:
            return row
        texts = [str(one.payload.get("text", "")) for one in (row, *diary)]
        payload = {**row.payload, "text": shown("\n".join(texts), _BURST_LIMIT, keep_lines=True)}
        ours = await session.scalar(
            update(Outbox)
            .where(col(Outbox.id) == row.id, col(Outbox.claimed_by) == row.claimed_by)
            .values(payload=payload)
            .returning(col(Outbox.id))
            .execution_options(synchronize_session=False)
        )
        if ours is None:
            return row
        await session.execute(
            update(Outbox)
            .where(col(Outbox.id).in_([one.id for one in diary]))
            .values(status="superseded", settled_at=now, error=f"said with {row.dedupe_key}")
            .execution_options(synchronize_session=False)
        )
    row.payload = payload
    return row
