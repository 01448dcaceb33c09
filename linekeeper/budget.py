"""The call budget of each Makini app: one bucket in our database for all processes."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import monotonic
from linekeeper.makini.budget import (
    LOGINS,
    LONGEST_PAUSE,
    MAX_PENALTY,
    REFUSED_WITHIN,
    WORK,
    Bucket,
    Paused,
    StatedLimit,
    grant,
    is_apps_limit,
    new_bucket,
    penalise,
    yield_calls,
)
from linekeeper.spending import Purpose, add_calls, calls_to_come, purpose_now
from linekeeper.store import Store
from linekeeper.store.engine import insert_ignore
from linekeeper.store.tables import AppState, CallPause
from linekeeper.store.types import UtcDateTime, table_of

_Result = TypeVar("_Result")
AHEAD_SHARE = 0.02
AHEAD_SECONDS = 1.0
"""Who makes many calls is granted up to this share of a minute's at once; what it doesn't make
within these seconds is lost."""
GATHER_SECONDS = 0.5
"""While nothing is left, what comes in this time is granted together to whoever makes many."""
OF_APP = ""
"""In place of a connection: what is called with the app's own credentials."""
COUNT_SECONDS = 5.0
"""What was called is written down this often, beside a grant."""

_STATES = table_of(AppState)
_BUCKET = (
    select(col(AppState.budget)).where(col(AppState.app) == bindparam("of_app")).with_for_update()
)
_KEEP = (
    update(_STATES)
    .where(_STATES.c.app == bindparam("of_app"))
    .values(budget=bindparam("bucket", type_=_STATES.c.budget.type))
)
_PAUSES = select(col(CallPause.connection), col(CallPause.until)).where(
    col(CallPause.app) == bindparam("of_app"),
    col(CallPause.until) > bindparam("now", type_=UtcDateTime),
)


class DatabaseBudget:
    """Grants calls to all processes from one bucket (`linekeeper.makini.Budget`).

    Those who wait in one process are served from one transaction, so that the database is asked a
    few times a second, not once a call. Logins have a bucket of their own (`logins`); a pause that
    Makini asks for is for both.
    """

    def __init__(self, store: Store, *, logins: bool = False) -> None:
        self._store = store
        self._share = LOGINS if logins else WORK
        self._name = "logins" if logins else None
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: defaultdict[str, int] = defaultdict(int)
        self._granted: defaultdict[str, int] = defaultdict(int)
        self._ahead: defaultdict[str, int] = defaultdict(int)
        """How many of them are for calls that nobody waits for yet."""
        self._ahead_until: defaultdict[str, float] = defaultdict(float)
        self._pauses: dict[str, dict[str, float]] = {}
        """Until when, by app and connection, (this process's steady clock) it may not be called;
        as of the last grant."""
        self._calls: defaultdict[str, Counter[Purpose]] = defaultdict(Counter)
        self._refused: defaultdict[str, Counter[Purpose]] = defaultdict(Counter)
        self._counted_at = -COUNT_SECONDS
        self._stated: dict[str, StatedLimit] = {}
        """What the last answer said of an app's limit, until it is written."""

    async def take(self, app: str, per_minute: int, *, connection: str | None = None) -> None:
        """Return when a call to `app` may be made. Raises `Paused`."""
        if per_minute <= 0:
            return
        while True:
            await self._wait_for(app, connection)
            self._waiting[app] += 1
            try:
                async with self._locks[app]:
                    if self._ahead[app] and monotonic() > self._ahead_until[app]:
                        self._ahead[app] = 0  # whoever was to use it did not
                        self._granted[app] = min(self._granted[app], self._waiting[app])
                    while not self._granted[app] and self._pause(app, connection) <= 0:
                        await asyncio.sleep(0)  # who asks at the same moment is served with it
                        await self._fetch(app, per_minute, connection)
                    if self._pause(app, connection) <= 0:
                        self._granted[app] -= 1
                        self._calls[app][self._purpose()] += 1
                        return
            finally:
                self._waiting[app] -= 1
                # What was granted to a connection that is paused is for those who wait, or lost.
                room = self._waiting[app] + self._ahead[app]
                self._granted[app] = min(self._granted[app], room)

    async def _fetch(self, app: str, per_minute: int, connection: str | None) -> None:
        """Have some calls granted: those that are waited for, and of many some that come next.

        It waits where none are, unless it learns that `connection` has to wait by itself.
        """
        want = self._waiting[app] - self._granted[app]
        many = min(calls_to_come(), int(per_minute * AHEAD_SHARE))
        granted, wait = await self._grant(app, per_minute, want + many)
        self._granted[app] += granted
        self._ahead[app] = max(granted - want, 0)
        self._ahead_until[app] = monotonic() + AHEAD_SECONDS
        if not self._granted[app] and self._pause(app, connection) <= 0:
            least = GATHER_SECONDS if many else 0.0
            await asyncio.sleep(min(max(wait, least), 5.0))

    async def penalise(
        self,
        app: str,
        until: datetime,
        *,
        connection: str | None = None,
        is_refused: bool = True,
    ) -> None:
        """Let nobody call `app`, or this connection of it, before `until`."""
        self._refused[app][self._purpose()] += is_refused
        closed = await self._pause_calls(app, connection or OF_APP, until)
        if closed is None:
            return
        self._granted[app] = 0

        def close(bucket: Bucket | None, now: datetime) -> tuple[Bucket, None]:
            return penalise(bucket or Bucket(0.0, now), closed, now), None

        await self._change(app, close)

    async def note_limit(self, app: str, stated: StatedLimit) -> None:
        """Keep what an answer said of the limit; it is written with the next grant."""
        self._stated[app] = stated

    async def yield_calls(self, app: str, per_minute: int) -> None:
        """Leave half a minute's calls to `app` to the product: it met a limit that both spend."""
        if per_minute <= 0:
            return
        self._granted[app] = 0

        def leave(bucket: Bucket | None, now: datetime) -> tuple[Bucket, None]:
            bucket = bucket or new_bucket(per_minute, now, self._share)
            return yield_calls(bucket, per_minute, now, self._share), None

        await self._change(app, leave)

    async def count_reported(self, app: str) -> None:
        """Count a call that the product made to `app` and reported."""
        self._calls[app][Purpose.product] += 1
        if self._is_count_due():
            await self.flush()

    async def flush(self) -> None:
        """Write down what was counted since the last grant."""
        for app in sorted({*self._calls, *self._refused}):
            async with self._store.write() as session:
                await self._write_counts(session, app, await self._store.clock(session))

    def _purpose(self) -> Purpose:
        return Purpose.logins if self._name == "logins" else purpose_now()

    def _is_count_due(self) -> bool:
        if monotonic() - self._counted_at < COUNT_SECONDS:
            return False
        self._counted_at = monotonic()
        return True

    async def _write_counts(self, session: AsyncSession, app: str, now: datetime) -> None:
        calls, refused = self._calls.pop(app, Counter()), self._refused.pop(app, Counter())
        if calls or refused:
            await add_calls(self._store, session, app, calls, refused, now=now)

    def _pause(self, app: str, connection: str | None) -> float:
        """The seconds until `connection` may be called, as far as this process knows."""
        return self._pauses.get(app, {}).get(connection or OF_APP, 0.0) - monotonic()

    async def _wait_for(self, app: str, connection: str | None) -> None:
        while (seconds := self._pause(app, connection)) > 0:
            if seconds > LONGEST_PAUSE.total_seconds():
                raise Paused(seconds, connection)
            await asyncio.sleep(seconds)

    async def _pause_calls(self, app: str, connection: str, until: datetime) -> datetime | None:
        """Note the refusal; returns until when the whole app waits, if it may be the app's limit.

        That it is the app's is a guess, and limits are per minute: the others find out then.
        """
        async with self._store.write() as session:
            await self._locked(session, app)
            now = await self._store.clock(session)
            until = min(until, now + MAX_PENALTY)
            rows = (await session.scalars(select(CallPause).where(col(CallPause.app) == app))).all()
            known = {row.connection: row for row in rows}
            for row in rows:
                is_over = row.until <= now and now - row.refused_at >= REFUSED_WITHIN
                if is_over and row.connection != connection:
                    await session.delete(row)
            if connection not in known:
                known[connection] = CallPause(
                    app=app, connection=connection, refused_at=now, until=until
                )
                session.add(known[connection])
            pause = known[connection]
            pause.refused_at, pause.until = now, max(pause.until, until)
            self._remember(app, {connection: pause.until}, now, replacing=False)
        if connection == OF_APP:
            return min(now + LONGEST_PAUSE, until)
        recent = [
            each
            for each in known.values()
            if each.connection != OF_APP and now - each.refused_at < REFUSED_WITHIN
        ]
        if is_apps_limit([each.refused_at for each in recent], now):
            return min(now + LONGEST_PAUSE, *(each.until for each in recent))
        return None

    def _remember(
        self, app: str, pauses: Mapping[str, datetime], now: datetime, *, replacing: bool = True
    ) -> None:
        steady = monotonic()
        ends = {
            connection: steady + (until - now).total_seconds()
            for connection, until in pauses.items()
        }
        self._pauses[app] = ends if replacing else {**self._pauses.get(app, {}), **ends}

    async def _grant(self, app: str, per_minute: int, want: int) -> tuple[int, float]:
        """How many calls may be made now, and the seconds until more may be."""

        def take(bucket: Bucket | None, now: datetime) -> tuple[Bucket, tuple[int, float, bool]]:
            bucket = bucket or new_bucket(per_minute, now, self._share)
            after, granted, wait = grant(bucket, per_minute, want, now, self._share)
            return after, (granted, wait, after.blocked_until is not None)

        granted, wait, closed = await self._change(app, take)
        if closed and wait > LONGEST_PAUSE.total_seconds():
            raise Paused(wait)
        return granted, wait

    async def _change(
        self, app: str, step: Callable[[Bucket | None, datetime], tuple[Bucket, _Result]]
    ) -> _Result:
        async with self._store.write() as session:
            row = await self._locked(session, app)
            now = await self._store.clock(session)
            paused = await session.execute(_PAUSES, {"of_app": app, "now": now})
            self._remember(app, {row[0]: row[1] for row in paused}, now)
            if self._is_count_due():
                await self._write_counts(session, app, now)
            bucket, result = step(_read(row, self._name, now), now)
            kept = self._kept(row, bucket) | self._stated_now(app, now)
            await session.execute(_KEEP, {"of_app": app, "bucket": kept})
        return result

    async def _locked(self, session: AsyncSession, app: str) -> dict[str, Any]:
        """The app's bucket as it is kept, its row locked until the transaction ends."""
        bucket_row = (await session.execute(_BUCKET, {"of_app": app})).first()
        if bucket_row is None:
            row = {"app": app, "budget": {}, "circuit": {}}
            await insert_ignore(self._store, session, AppState, [row])
            bucket_row = (await session.execute(_BUCKET, {"of_app": app})).one()
        bucket: dict[str, Any] = bucket_row[0]
        return bucket

    def _stated_now(self, app: str, now: datetime) -> dict[str, Any]:
        stated = self._stated.pop(app, None)
        if stated is None:
            return {}
        figures = {"limit": stated.limit, "remaining": stated.remaining, "at": now.isoformat()}
        return {"stated": figures}

    def _kept(self, row: dict[str, Any], bucket: Bucket) -> dict[str, Any]:
        """`row` with `bucket` in its place; a pause is kept once, for both."""
        written = _written(bucket)
        if self._name is None:
            return {**row, **written}
        return {**row, "blocked_until": written.pop("blocked_until"), self._name: written}


def read_bucket(row: dict[str, Any]) -> Bucket | None:
    """The bucket as `app_state.budget` keeps it; None for an app that has not called yet."""
    if "tokens" not in row:
        return None
    blocked, yielded = row.get("blocked_until"), row.get("yielded_at")
    return Bucket(
        tokens=float(row["tokens"]),
        at=datetime.fromisoformat(row["at"]),
        blocked_until=datetime.fromisoformat(blocked) if blocked else None,
        yielded_at=datetime.fromisoformat(yielded) if yielded else None,
    )


def stated_in_words(row: Mapping[str, Any]) -> str:
    """What Makini last said of its limit, as `app_state.budget` keeps it; empty: nothing. Pure."""
    stated = row.get("stated")
    if not stated:
        return ""
    at = datetime.fromisoformat(stated["at"])
    of = f" of {stated['limit']:,}" if stated.get("limit") else ""
    return f"Makini said at {at:%Y-%m-%d %H:%M} UTC: {stated['remaining']:,} calls{of} left"


def _read(row: dict[str, Any], name: str | None, now: datetime) -> Bucket | None:
    """The bucket of all calls, or of those called `name`, with the pause that is for both."""
    pause = row.get("blocked_until")
    bucket = read_bucket({**(row.get(name, {}) if name else row), "blocked_until": pause})
    if bucket is None and pause:
        return Bucket(0.0, now, datetime.fromisoformat(pause))
    return bucket


def _written(bucket: Bucket) -> dict[str, Any]:
    return {
        "tokens": bucket.tokens,
        "at": bucket.at.isoformat(),
        "blocked_until": bucket.blocked_until.isoformat() if bucket.blocked_until else None,
        "yielded_at": bucket.yielded_at.isoformat() if bucket.yielded_at else None,
    }
