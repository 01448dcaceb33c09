"""Tombstones for what two complete listings lack: marked, agreed, applied, undone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.incidents.findings import open_incident, resolve_incident
from linekeeper.incidents.lifecycle import Opening
from linekeeper.outbox.forward import RecoveredChange, forward_changes
from linekeeper.reconcile.accounting import Counts, count_due, is_any_due
from linekeeper.reconcile.deletes import UNDO, Absence, absence, is_believed, window_since
from linekeeper.reconcile.deletion_queries import (
    agreed_deletions,
    assign,
    count_of,
    forget_absent,
    forget_bodies,
    live_records,
    mark_absent,
    proposed,
    put_tombstones,
    settle,
    some_of,
    take_tombstones,
)
from linekeeper.reconcile.listing import KeySet
from linekeeper.reconcile.marks import confirm_at_of, save_mark, set_confirm_at
from linekeeper.reconcile.partitions import Partition
from linekeeper.reconcile.policy import POLICY
from linekeeper.reconcile.queries import append_changes, lock_feed
from linekeeper.reconcile.target import PollTarget
from linekeeper.runtime import Runtime
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Deletion, Watermark

TOPIC = "deletions"
KIND = "deletions_held"


@dataclass(slots=True)
class Concluded:
    """What a complete listing said about what is gone."""

    counts: Counts = field(default_factory=Counts)
    held_back: int = 0
    """Records that look deleted but are too many to believe it."""
    live: int | None = None
    """Live records, where none of them is deleted by it."""


@dataclass(slots=True)
class _Missing:
    """What a complete listing lacks."""

    first: dict[str, datetime | None] = field(default_factory=dict)
    """The keys, with the source time in the index."""
    again: dict[str, datetime | None] = field(default_factory=dict)
    """Those that another listing lacked a moment ago: two that agree are some time apart."""
    agreed: dict[str, datetime | None] = field(default_factory=dict)
    live: int = 0
    """Live records, listed or not."""
    window_since: datetime | None = None
    """Where the listing is a history window: what is older and absent is unknown, not missing."""

    def by(self, verdict: Absence) -> dict[str, datetime | None]:
        """Those of one verdict."""
        return {"first": self.first, "again": self.again, "agreed": self.agreed}[verdict]

    @property
    def unsure(self) -> bool:
        """Whether another listing has to say whether some are gone."""
        return bool(self.first or self.again)


async def conclude_listing(
    rt: Runtime,
    target: PollTarget,
    entity: str,
    keys: KeySet,
    *,
    started: datetime,
    oldest: datetime | None,
    mark: Watermark | None,
    run_at: datetime,
    shard: str | None,
    apart: timedelta,
    relist_at: datetime | None,
) -> Concluded:
    """Compare the index with the complete listing `keys` that began at `started`.

    `oldest` is the oldest source time listed, `mark` what was known of the entity before. What the
    listing lacks for the first time is marked; what one at least `apart` earlier lacked too is
    deleted, unless that is over the cap: then nothing is, and an incident asks somebody to decide.
    What is out of the reach of a history window is neither, and nothing is while the connection is
    in its first sync. At `relist_at` it is listed again, whatever this one says.
    """
    store, result = rt.store, Concluded()
    now = utcnow()
    proves = not await target.is_in_first_sync(store, now=now)
    missing = await _missing(
        store, (target.id, entity), keys, started, apart if proves else timedelta.max
    )
    known = mark.window_since if mark is not None else None
    _leave_out_unknown(missing, oldest, known, now=now)
    async with store.write() as session:
        await lock_feed(store, session, target.id)
        if proves:
            await mark_absent(
                store, session, target.id, entity, list(missing.first), started=started
            )
        else:
            await forget_absent(store, session, target.id, entity, list(missing.again))
        deletion = None
        if missing.agreed:
            deletion = await _propose(
                rt, session, target, entity, missing, started=started, now=now
            )
        values = {"full_at": started, "window_since": missing.window_since}
        await save_mark(store, session, target.id, entity, **values)
        unsure = started + POLICY.confirm if missing.unsure else None
        again = min(filter(None, (relist_at, unsure)), default=None)
        known_times = [confirm_at_of(mark), relist_at]
        await set_confirm_at(session, (target.id, entity), again, known=known_times)
        await _settle_proposal(store, session, target.id, entity, now=now)
        is_due = deletion is None and await is_any_due(session, target.id, entity)
        if entity in target.app.bodies:
            # A tombstone keeps the record's body for as long as it can be undone.
            await forget_bodies(session, target.id, entity, before=now - UNDO)
    if deletion is None:
        result.live = missing.live
    else:
        result.held_back = deletion.records if deletion.status == "proposed" else 0
        await apply_agreed(store, target.app, target.id, target.makini_key, now=now)
        async with store.read() as session:
            is_due = await is_any_due(session, target.id, entity)
    if is_due:
        async with store.write() as session:
            result.counts = await count_due(
                store, session, target.id, entity, run_at=run_at, shard=shard
            )
    return result


async def apply_agreed(
    store: Store, app: AppConfig, connection_id: str, makini_key: str, *, now: datetime
) -> int:
    """Write the tombstones of every deletion agreed on, also one a crash cut short; how many."""
    total = 0
    for identifier in await agreed_deletions(store, connection_id):
        while True:
            async with store.write() as session:
                last = await lock_feed(store, session, connection_id)
                gone = await some_of(session, identifier, deleted=False)
                if not gone:
                    await settle(session, identifier, "applied")
                    break
                entity, keys = gone[0][0], [key for _, key in gone]
                await put_tombstones(store, session, connection_id, entity, keys, now=now)
                rows = _changes(
                    connection_id, entity, keys, "deleted", due="deleted", last=last, now=now
                )
                await _notify(store, session, app, makini_key, rows)
                total += len(keys)
    return total


async def restore(
    store: Store, app: AppConfig, deletion: Deletion, makini_key: str, *, now: datetime
) -> int:
    """Take the tombstones of `deletion` back; how many."""
    total, partition = 0, (deletion.connection_id, deletion.entity)
    while True:
        async with store.write() as session:
            last = await lock_feed(store, session, deletion.connection_id)
            keys = [key for _, key in await some_of(session, deletion.id, deleted=True)]
            if not keys:
                return total
            await take_tombstones(store, session, *partition, keys)
            rows = _changes(*partition, keys, "inserted", due=None, last=last, now=now)
            await _notify(store, session, app, makini_key, rows)
            total += len(keys)


def cause(connection_id: str, entity: str) -> str:
    """The cause of the incident of deletions held back."""
    return f"deletions:{connection_id}:{entity}"


async def _missing(
    store: Store, partition: Partition, keys: KeySet, started: datetime, apart: timedelta
) -> _Missing:
    missing = _Missing()
    async for records in live_records(store, *partition):
        missing.live += len(records)
        for record in records:
            if record.key in keys:
                continue
            decided = record.deletion_id is not None
            verdict = absence(
                record.absent_since,
                record.seen_at,
                started=started,
                decided=decided,
                apart=apart,
            )
            if verdict is not None:
                missing.by(verdict)[record.key] = record.updated_at
    return missing


def _leave_out_unknown(
    missing: _Missing, oldest: datetime | None, known: datetime | None, *, now: datetime
) -> None:
    """Leave out what a history window hides: older than the oldest listed record is unknown.

    Pure but for `missing`.
    """
    parts = (missing.first, missing.again, missing.agreed)
    times = [time for part in parts for time in part.values() if time is not None]
    since = missing.window_since = window_since(oldest, known, times, now=now)
    if since is None:
        return
    for absent in parts:
        for key, time in list(absent.items()):
            if time is not None and time < since:
                del absent[key]


async def _propose(
    rt: Runtime,
    session: AsyncSession,
    target: PollTarget,
    entity: str,
    missing: _Missing,
    *,
    started: datetime,
    now: datetime,
) -> Deletion:
    """The deletion of what two listings lack: agreed, or held back with an incident."""
    held = await proposed(session, target.id, entity)
    live = missing.live
    believed = is_believed(len(missing.agreed), live, held=held.records if held else 0)
    deletion = held if held is not None and not believed else None
    if deletion is None:
        deletion = Deletion(
            id=new_id(),
            connection_id=target.id,
            entity=entity,
            status="agreed" if believed else "proposed",
            records=0,
            live=live,
            at=now,
        )
        session.add(deletion)
        await session.flush()
    await assign(rt.store, session, deletion, list(missing.agreed), started=started)
    if not believed:
        share = f"{deletion.records} of {live}"
        opening = Opening(
            topic=TOPIC,
            kind=KIND,
            scope="connection",
            cause=cause(target.id, entity),
            app=target.app.name,
            title=f"{target.label} · {entity}: {share} records apparently deleted",
            summary=f"Two complete listings lack {share} records of {entity}: too many to delete "
            "without being asked. Accept or refuse in the form `deletions`.",
            members={target.id: KIND},
            detail={"entity": entity, "records": deletion.records, "live": live},
        )
        await open_incident(rt.store, session, opening, now=now)
    return deletion


async def _settle_proposal(
    store: Store, session: AsyncSession, connection_id: str, entity: str, *, now: datetime
) -> None:
    """Take records that were read again out of what waits for a decision; with none left it is
    void, and its incident over."""
    held = await proposed(session, connection_id, entity)
    if held is None:
        return
    held.records = await count_of(session, held.id)
    if not held.records:
        held.status = "void"
        await resolve_incident(
            store,
            session,
            cause(connection_id, entity),
            f"The records of {entity} are back at the source; nothing was deleted",
            now=now,
        )
    await session.flush()


def _changes(
    connection_id: str,
    entity: str,
    keys: Sequence[str],
    op: str,
    *,
    due: str | None,
    last: int,
    now: datetime,
) -> list[dict[str, Any]]:
    return [
        {
            "id": new_id(),
            "connection_id": connection_id, "seq": seq, "position": None,
            "entity": entity, "key": key, "op": op, "updated_at": None, "at": now,
            "source": "deletion", "recovered": True, "announced_at": now,
            "old_key": None, "due": due,
        }
        for seq, key in enumerate(keys, start=last + 1)
    ]  # fmt: skip


async def _notify(
    store: Store,
    session: AsyncSession,
    app: AppConfig,
    makini_key: str,
    rows: Sequence[dict[str, Any]],
) -> None:
    """Append `rows` to the feed and hand them on."""
    await append_changes(session, rows)
    changes = [
        RecoveredChange(
            id=row["id"],
            connection_id=row["connection_id"],
            makini_key=makini_key,
            entity=row["entity"],
            key=row["key"],
            op=row["op"],
            at=row["at"],
        )
        for row in rows
    ]
    await forward_changes(store, session, app, changes, now=rows[0]["at"])
