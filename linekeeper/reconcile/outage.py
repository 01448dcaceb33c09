"""When no receiver of ours could store what it was sent (MISSION B6)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlmodel import col

from linekeeper.incidents.announce import say
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store import Store
from linekeeper.store.tables import Outage, ReceiverHeartbeat
from linekeeper.store.upsert import insert_ignore

AWAY = timedelta(minutes=2)
"""Shorter absences are a restart; senders ask again after 30 s (Makini docs)."""
SENDER_GIVES_UP = timedelta(hours=24)
LOOK_BACK = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Window:
    """A time that has to be read again."""

    since: datetime
    until: datetime

    @property
    def length(self) -> timedelta:
        """How long it was."""
        return self.until - self.since


def absences(spans: Iterable[tuple[datetime, datetime]]) -> list[Window]:
    """The gaps of at least `AWAY` between `spans` in which some receiver could store. Pure.

    A time before the first or after the last span is none: nobody knows of it, or it isn't over.
    """
    windows: list[Window] = []
    reached: datetime | None = None
    for since, until in sorted(spans):
        if reached is not None and since - reached >= AWAY:
            windows.append(Window(reached, since))
        reached = until if reached is None else max(reached, until)
    return windows


async def note_outages(store: Store, *, now: datetime, starting_runs: bool = False) -> list[Window]:
    """Write down absences not known yet and return them.

    With `starting_runs` one longer than senders go on asking starts a run at once; the others are
    covered by the next one on its schedule.
    """
    async with store.read() as session:
        spans = (
            await session.execute(
                select(col(ReceiverHeartbeat.since), col(ReceiverHeartbeat.at)).where(
                    col(ReceiverHeartbeat.at) >= now - LOOK_BACK
                )
            )
        ).all()
        found = absences((since, at) for since, at in spans)
        known = set(await session.scalars(select(col(Outage.since))))
    new = [window for window in found if window.since not in known]
    if not new:
        return []
    async with store.write() as session:
        for window in new:
            row = Outage(since=window.since, until=window.until, found_at=now)
            await insert_ignore(store, session, Outage, [row.model_dump()])
            if starting_runs and window.length > SENDER_GIVES_UP:
                key = f"reconcile:outage:{window.since.isoformat()}"
                run = {
                    "deployment": "reconcile",
                    "idempotency_key": key,
                    "name": f"reconcile · our outage since {window.since:%Y-%m-%d %H:%M} UTC",
                    "parameters": {},
                    "tags": ["outage"],
                }
                await enqueue(store, session, [Message("run", key, run, key)], now=now)
    return new


async def uncovered(store: Store) -> Window | None:
    """One window over all outages not covered yet; None if there is none."""
    async with store.read() as session:
        since, until = (
            await session.execute(
                select(func.min(col(Outage.since)), func.max(col(Outage.until))).where(
                    col(Outage.covered_at).is_(None)
                )
            )
        ).one()
    return None if since is None or until is None else Window(since, until)


async def covered(
    store: Store, window: Window, *, connections: int, left: int, recovered: int, now: datetime
) -> None:
    """`connections` have been read from `window.since` on: note it and say so, once.

    `left` could not be read; their watermarks stand, so whichever run reads them next covers it.
    """
    async with store.write() as session:
        done: Sequence[str] = (
            await session.scalars(
                update(Outage)
                .where(col(Outage.covered_at).is_(None), col(Outage.until) <= window.until)
                .values(
                    covered_at=now,
                    detail={"connections": connections, "recovered": recovered, "left": left},
                )
                .returning(col(Outage.id))
            )
        ).all()
        if not done:
            return
        hours = window.length.total_seconds() / 3600
        long = " (longer than senders go on asking)" if window.length > SENDER_GIVES_UP else ""
        text = (
            f"Our receiver was away from {window.since:%Y-%m-%d %H:%M} to "
            f"{window.until:%Y-%m-%d %H:%M} UTC, {hours:.1f} h{long}. That time has been read "
            f"again at {connections:,} connections: {recovered:,} changes recovered."
        )
        if left:
            text += f" {left:,} could not be read and follow as soon as they can."
        await say(store, session, f"outage:{window.since.isoformat()}", text, now)
