"""The call budget of each Makini app: one bucket in our database for all processes."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import monotonic
from linekeeper.makini.bucket_row import bucket_of, bucket_row
from linekeeper.makini.budget import (
    LOGINS,
    LONGEST_PAUSE,
    MAX_PENALTY,
    REFUSED_WITHIN,
    WORK,
    Bucket,
    NothingLeft,
    Paused,
    Precedence,
    StatedLimit,
    grant,
    is_apps_limit,
    is_yielding,
    new_bucket,
    penalise,
    yield_calls,
)
from linekeeper.spending import (
    Purpose,
    add_calls,
    calls_to_come,
    does_person_wait,
    purpose_now,
)
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
YIELDING = frozenset({Purpose.reconcile})
"""What may be late: the list, health, tokens and events go before it."""
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
_PAUSES = select(col(CallPause.connection), col(CallPause.until), col(CallPause.refused_at)).where(
    col(CallPause.app) == bindparam("of_app"),
    col(CallPause.until) > bindparam("now", type_=UtcDateTime),
)


@dataclass(slots=True)
class _Line:
    """Those of one process who wait for calls to an app, served together."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    granted: int = 0
    ahead: int = 0
    """How many of them are for calls that nobody waits for yet."""
    ahead_until: float = 0.0


class DatabaseBudget:
    """Grants calls to all processes from one bucket (`linekeeper.makini.Budget`).

    Those who wait in one process are served from one transaction, so that the database is asked a
    few times a second, not once a call. Logins have a bucket of their own (`logins`), and what that
    lacks from the other one; a pause that Makini asks for is for both.
    """

    def __init__(self, store: Store, *, logins: bool = False) -> None:
        self._all = DatabaseBudget(store) if logins else None
        self._store = store
        self._share = LOGINS if logins else WORK
        self._name = "logins" if logins else None
        self._lines: defaultdict[tuple[str, Precedence], _Line] = defaultdict(_Line)
        self._pauses: dict[str, dict[str, float]] = {}
        """Until when, by app and connection, (this process's steady clock) it may not be called;
        as of the last grant."""
        self._calls: defaultdict[str, Counter[Purpose]] = defaultdict(Counter)
        self._refused: defaultdict[str, Counter[Purpose]] = defaultdict(Counter)
        self._counted_at = -COUNT_SECONDS
        self._stated: dict[str, StatedLimit] = {}
        """What the last answer said of an app's limit, until it is written."""

    async def take(
        self, app: str, per_minute: int, *, connection: str | None = None, waits: bool = True
    ) -> None:
        """Return when a call to `app` may be made. Raises `Paused`, `NothingLeft`."""
        if per_minute <= 0:
            return
        line = self._lines[app, self._turn()]
        while True:
            if waits:
                await self._wait_for(app, connection)
            elif line.lock.locked() or self._pause(app, connection) > 0:
                raise NothingLeft  # others of this process wait already
            line.waiting += 1
            try:
                async with line.lock:
                    if line.ahead and monotonic() > line.ahead_until:
                        # Whoever was to use it did not; what is known of pauses is as old.
                        line.ahead = line.granted = 0
                    while not line.granted and self._pause(app, connection) <= 0:
                        await asyncio.sleep(0)  # who asks at the same moment is served with it
                        await self._fetch(line, app, per_minute, connection, waits=waits)
                    if self._pause(app, connection) <= 0:
                        line.granted -= 1
                        self._calls[app][self._purpose()] += 1
                        return
            finally:
                line.waiting -= 1
                # What was granted to a connection that is paused is for those who wait, or lost.
                line.granted = min(line.granted, line.waiting + line.ahead)

    async def _fetch(
        self, line: _Line, app: str, per_minute: int, connection: str | None, *, waits: bool
    ) -> None:
        """Have some calls granted: those that are waited for, and of many some that come next.

        It waits where none are, unless it learns that `connection` has to wait by itself. Raises
        `NothingLeft` where it may not wait.
        """
        want = line.waiting - line.granted
        many = min(calls_to_come(), int(per_minute * AHEAD_SHARE))
        granted, wait = await self._grant(app, per_minute, want, many, self._turn())
        if not granted and self._all is not None:
            granted, soon = await self._all._grant(app, per_minute, want, 0, Precedence.person)
            wait = min(wait, soon)
        line.granted += granted
        line.ahead = max(granted - want, 0)
        line.ahead_until = monotonic() + AHEAD_SECONDS
        if not line.granted and self._pause(app, connection) <= 0:
            if not waits:
                raise NothingLeft
            least = GATHER_SECONDS if many else 0.0
            await asyncio.sleep(min(max(wait, least), 5.0))

    def _drop_granted(self, app: str) -> None:
        for turn in Precedence:
            self._lines[app, turn].granted = 0

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
        self._drop_granted(app)

        def close(bucket: Bucket | None, now: datetime) -> tuple[Bucket, None]:
            return penalise(bucket or Bucket(0.0, now), closed, now), None

        await self._change(app, close)

    async def note_limit(self, app: str, stated: StatedLimit) -> None:
        """Keep what an answer said of the limit; it is written with the next grant."""
        self._stated[app] = stated

    async def yield_calls(self, app: str, per_minute: int) -> None:
        """Call `app` at half the pace for a minute: the product met a limit that both spend."""
        if per_minute <= 0:
            return

        def leave(bucket: Bucket | None, now: datetime) -> tuple[Bucket, bool]:
            bucket = bucket or new_bucket(per_minute, now, self._share)
            yielding = is_yielding(bucket, now)
            return yield_calls(bucket, per_minute, now, self._share), not yielding

        if await self._change(app, leave):
            self._drop_granted(app)

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

    def _turn(self) -> Precedence:
        if self._name == "logins" or does_person_wait():
            return Precedence.person
        return Precedence.last if purpose_now() in YIELDING else Precedence.usual

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
            self._remember(app, {connection: pause.until - now}, replacing=False)
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
        self, app: str, lasting: Mapping[str, timedelta], *, replacing: bool = True
    ) -> None:
        steady = monotonic()
        ends = {name: steady + length.total_seconds() for name, length in lasting.items()}
        self._pauses[app] = ends if replacing else {**self._pauses.get(app, {}), **ends}

    async def _grant(
        self, app: str, per_minute: int, want: int, ahead: int, turn: Precedence
    ) -> tuple[int, float]:
        """How many calls may be made now, and the seconds until more may be."""

        def take(bucket: Bucket | None, now: datetime) -> tuple[Bucket, tuple[int, float, bool]]:
            bucket = bucket or new_bucket(per_minute, now, self._share)
            after, granted, wait = grant(
                bucket, per_minute, want, now, self._share, ahead=ahead, turn=turn
            )
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
            # By a clock that was set back none lasts longer than it was to when it was asked for.
            lasting = {name: until - max(now, refused_at) for name, until, refused_at in paused}
            self._remember(app, lasting)
            if self._is_count_due():
                await self._write_counts(session, app, now)
            bucket, result = step(bucket_of(row, self._name, now), now)
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
        written = bucket_row(bucket)
        if self._name is None:
            return {**row, **written}
        return {**row, "blocked_until": written.pop("blocked_until"), self._name: written}
