"""When no receiver of ours could store what it was sent (MISSION B6)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlmodel import col

from linekeeper.config.alerts import Quiet
from linekeeper.incidents.announce import say
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.reconcile.accounting import count_again
from linekeeper.reconcile.causes import Window
from linekeeper.reconcile.reachability import find_absences
from linekeeper.store import Store
from linekeeper.store.engine import insert_ignore
from linekeeper.store.tables import Outage
from linekeeper.text import counted, duration

SENDER_GIVES_UP = timedelta(hours=24)
LOOK_BACK = timedelta(days=30)


_KNOWN = select(col(Outage.since))


async def note_outages(store: Store, *, now: datetime, starting_runs: bool = False) -> list[Window]:
    """Write down outages not known yet and return them.

    What had been counted as missed before the outage was known, and changed in it, is no more held
    against the sender. With `starting_runs` an outage longer than senders go on asking starts a run
    at once; the others are covered by the next one on its schedule.
    """
    async with store.read() as session:
        absences = await find_absences(session, now, since=now - LOOK_BACK)
        known = set(await session.scalars(_KNOWN))
    new = [outage for outage in absences if outage.window.since not in known]
    if not new:
        return []
    windows = [outage.window for outage in new]
    await count_again(store, windows)  # first: who dies in it leaves them to the next, as unknown
    async with store.write() as session:
        for cause, window in new:
            row = Outage(since=window.since, until=window.until, found_at=now, cause=cause)
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
    await count_again(store, windows)  # what a poll counted meanwhile
    return windows


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
    store: Store,
    window: Window,
    *,
    connections: int,
    left: int,
    recovered: int,
    now: datetime,
    quiet: Quiet | None = None,
) -> None:
    """`connections` have been read from `window.since` on: note it and say so, once.

    `left` could not be read; their watermarks stand, so whichever run reads them next covers it.
    """
    async with store.write() as session:
        causes: Sequence[str] = (
            await session.scalars(
                update(Outage)
                .where(col(Outage.covered_at).is_(None), col(Outage.until) <= window.until)
                .values(
                    covered_at=now,
                    detail={"connections": connections, "recovered": recovered, "left": left},
                )
                .returning(col(Outage.cause))
            )
        ).all()
        if not causes:
            return
        long = " (longer than senders go on asking)" if window.length > SENDER_GIVES_UP else ""
        what = "Our receiver was away"
        if set(causes) == {"unreachable"}:
            what = "Nothing from outside reached our receiver (no canary, no webhook)"
        elif set(causes) == {"standstill"}:
            what = "Linekeeper did not run (no receiver, no sweep)"
        text = (
            f"{what} from {window.since:%Y-%m-%d %H:%M} to "
            f"{window.until:%Y-%m-%d %H:%M} UTC, {duration(window.length)}{long}. That time has "
            f"been read again at {counted(connections, 'connection')}: "
            f"{counted(recovered, 'change')} backfilled."
        )
        if left:
            text += f" {left:,} could not be read and follow as soon as they can."
        await say(store, session, f"outage:{window.since.isoformat()}", text, now, quiet=quiet)
