"""The call budget of each Makini app: one bucket in our database for all processes."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.makini.budget import LONGEST_PAUSE, Bucket, Paused, grant, new_bucket, penalise
from linekeeper.store import Store
from linekeeper.store.tables import AppState
from linekeeper.store.upsert import insert_ignore

_Result = TypeVar("_Result")


class DatabaseBudget:
    """Grants calls to all processes from one bucket (`linekeeper.makini.Budget`).

    Those who wait in one process are served from one transaction, so that the database is asked a
    few times a second, not once a call.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: defaultdict[str, int] = defaultdict(int)
        self._granted: defaultdict[str, int] = defaultdict(int)

    async def take(self, app: str, per_minute: int, calls: int = 1) -> None:
        """Return when `calls` calls to `app` may be made. Raises `Paused`."""
        if per_minute <= 0:
            return
        self._waiting[app] += calls
        try:
            async with self._locks[app]:
                while self._granted[app] < calls:
                    want = self._waiting[app] - self._granted[app]
                    granted, wait = await self._grant(app, per_minute, want)
                    self._granted[app] += granted
                    if self._granted[app] < calls:
                        await asyncio.sleep(min(wait, 5.0))
                self._granted[app] -= calls
        finally:
            self._waiting[app] -= calls

    async def penalise(self, app: str, until: datetime) -> None:
        """Let nobody call `app` before `until`."""
        self._granted[app] = 0

        def close(bucket: Bucket | None, now: datetime) -> tuple[Bucket, None]:
            return penalise(bucket or Bucket(0.0, now), until, now), None

        await self._change(app, close)

    async def _grant(self, app: str, per_minute: int, want: int) -> tuple[int, float]:
        """How many calls may be made now, and the seconds until more may be."""

        def some(bucket: Bucket | None, now: datetime) -> tuple[Bucket, tuple[int, float, bool]]:
            bucket = bucket or new_bucket(per_minute, now)
            after, granted, wait = grant(bucket, per_minute, want, now)
            return after, (granted, wait, after.blocked_until is not None)

        granted, wait, closed = await self._change(app, some)
        if closed and wait > LONGEST_PAUSE.total_seconds():
            raise Paused(wait)
        return granted, wait

    async def _change(
        self, app: str, step: Callable[[Bucket | None, datetime], tuple[Bucket, _Result]]
    ) -> _Result:
        async with self._store.write() as session:
            await insert_ignore(
                self._store, session, AppState, [{"app": app, "budget": {}, "circuit": {}}]
            )
            row = (
                await session.execute(
                    select(col(AppState.budget)).where(col(AppState.app) == app).with_for_update()
                )
            ).scalar_one()
            now = await self._store.clock(session)
            bucket, result = step(read_bucket(row), now)
            await session.execute(
                update(AppState).where(col(AppState.app) == app).values(budget=_written(bucket))
            )
        return result


def read_bucket(row: dict[str, Any]) -> Bucket | None:
    """The bucket as `app_state.budget` keeps it; None for an app that has not called yet."""
    if "tokens" not in row:
        return None
    blocked = row.get("blocked_until")
    return Bucket(
        tokens=float(row["tokens"]),
        at=datetime.fromisoformat(row["at"]),
        blocked_until=datetime.fromisoformat(blocked) if blocked else None,
    )


def _written(bucket: Bucket) -> dict[str, Any]:
    return {
        "tokens": bucket.tokens,
        "at": bucket.at.isoformat(),
        "blocked_until": bucket.blocked_until.isoformat() if bucket.blocked_until else None,
    }
