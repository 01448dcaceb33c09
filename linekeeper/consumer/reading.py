"""Reading some records of one connection.

What is wrong with one key, or was too late for it, says nothing of the others: each key has an
answer of its own. What runs side by side here are plain tasks that are waited for until the
deadline: a time-out around a `TaskGroup` that fails lets `CancelledError` out on Python 3.11.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec.structs import replace

from linekeeper.clock import monotonic, utcnow
from linekeeper.config import AppConfig
from linekeeper.health.evidence import Observation
from linekeeper.health.probe import refused_token, understand_error
from linekeeper.health.scope import DataCaller
from linekeeper.inbox.routing import EventTarget
from linekeeper.makini import NO_TOKEN, ErrorKind, ErrorScope, MakiniClient, MakiniError
from linekeeper.reconcile.identity import record_key
from linekeeper.runtime import Runtime
from linekeeper.spending import Purpose, many_calls, spends_on
from linekeeper.store.keys import has_surrogate, stored_key
from linekeeper.store.trouble import is_of_database
from linekeeper.tokens.stored import Token

SIDE_BY_SIDE = 8
"""Single records of one connection read at once, where it heeds no list of keys. The first is read
alone: a connection that hangs or refuses costs one call."""
MOST_SINGLE = 100
"""Keys of one connection and entity that are read one by one, or as many as there are events that
name them: where more are left, one listing of the whole entity, a hundred records to a page, costs
far fewer calls, and holds up nobody."""
MOST_EMPTY = 3
"""So many pages in a row may have none of the keys they were asked for."""
_LOGIN = (ErrorKind.unauthorized, ErrorKind.forbidden)
_UNKNOWN_THERE = (
    "Makini refuses the token, and says that it doesn't know the connection: the connection is "
    "gone there, or its login is lost. The next sweep reads the list."
)


class OutOfTime(Exception):
    """There was no time left to read it."""


class Records(NamedTuple):
    """What was read; `asked_at` is from before the first call."""

    asked_at: datetime
    records: Sequence[dict[str, Any]]
    note: str | None = None
    unread: Mapping[str, Exception] = {}
    """The keys without an answer, and why: `OutOfTime`, or what Makini said."""
    is_offered: bool = True
    """False where the listing that was to have them is not found: that proves nothing gone."""
    is_of_entity: bool = True
    """Whether what failed says nothing of the connection, nor of its other entities."""
    to_list: Collection[str] = ()
    """The keys, too many to be read one by one, of which nothing is known before the entity is
    listed whole."""


class ReadRefused(Exception):
    """Nobody may read this: the login is broken, or the entity is not permitted.

    `observation` is what that says of the connection's health; None where it says nothing of it.
    """

    def __init__(self, error: MakiniError, observation: Observation | None) -> None:
        super().__init__(str(error))
        self.observation = observation


@spends_on(Purpose.events)
async def read_records(
    rt: Runtime,
    app: AppConfig,
    target: EventTarget,
    token: Token,
    *,
    entity: str,
    keys: Sequence[str],
    events: int,
    deadline: float,
) -> Records:
    """The current records under `keys`, which so many events name; those the source doesn't have
    are left out.

    `deadline` is a time of `clock.monotonic`: what is read by then is kept, the rest `OutOfTime`.
    Raises `ReadRefused`, and what is no answer of Makini's.
    """
    ref = app.ref_of(target.makini_key, target.makini_id)
    caller = DataCaller(rt, app, target.id, ref, token)
    most = max(MOST_SINGLE, events)
    reading = _RecordReading(rt.makini(app), ref, entity, keys, most_single=most)
    work = asyncio.create_task(_read(caller, reading))
    try:
        await asyncio.wait({work}, timeout=max(0.0, deadline - monotonic()))
    finally:
        await _end([work])
    if work.cancelled():
        return reading.result()
    error = work.exception()
    if isinstance(error, MakiniError):
        if error.kind in _LOGIN and error.connection is not None:
            raise ReadRefused(error, _says_of_health(error, caller)) from error
        return reading.result(error)
    if error is not None:
        raise error
    return reading.result()


async def _read(caller: DataCaller, reading: "_RecordReading") -> None:
    try:
        await caller.call(reading.go_on)
    except MakiniError as error:
        if error.kind not in _LOGIN or error.connection is None:
            reading.is_of_entity = await caller.scope_of(error) is ErrorScope.entity
        raise


def _says_of_health(error: MakiniError, caller: DataCaller) -> Observation | None:
    """What a refused read says of its connection: nothing, where the status says that the login is
    well, so that this entity alone is refused. A token that nothing here may renew may be old; of
    a connection that Makini says it doesn't know the next probe has the list decide."""
    if error.code == NO_TOKEN:
        return None
    if caller.is_replaced_perhaps:
        return refused_token(error, utcnow())
    if caller.is_unknown_there:
        return replace(refused_token(error, utcnow()), message=_UNKNOWN_THERE)
    return understand_error(error, utcnow()) if caller.is_lost else None


class _RecordReading:
    """Some records of one connection and entity; what was read stays, whatever ends it."""

    def __init__(
        self,
        makini: MakiniClient,
        ref: str,
        entity: str,
        keys: Sequence[str],
        *,
        most_single: int,
    ) -> None:
        self._makini = makini
        self._most_single = most_single
        self._ref = ref
        self._entity = entity
        self._asked_at = utcnow()
        self._left = {stored_key(key): key for key in keys if not has_surrogate(key)}
        self._records: dict[str, dict[str, Any]] = {}
        self._refused: dict[str, Exception] = {}
        self._note: str | None = None
        self._is_offered = True
        self._to_list: set[str] = set()
        self._absent: dict[str, str] = {}
        """Those whose own address answers 404."""
        self._is_listing_asked = False
        self.is_of_entity: bool | None = None
        """What Makini's refusal is about; None: it refused nothing."""

    def result(self, why: Exception | None = None) -> Records:
        """What there is by now; `why` the rest was not read: without a reason, for want of time."""
        reason = why or OutOfTime(f"{self._entity} could not be read in time")
        left = [*self._left.values(), *self._unconfirmed.values()]
        unread = {**self._refused, **dict.fromkeys(left, reason)}
        records = list(self._records.values())
        # Where time ran out, the connection answers if it answered something.
        is_of_entity = bool(records) if self.is_of_entity is None else self.is_of_entity
        return Records(
            self._asked_at,
            records,
            self._note,
            unread,
            self._is_offered,
            is_of_entity,
            self._to_list,
        )

    async def go_on(self, token: Token) -> None:
        """Read what is left. Raises what is not about single keys."""
        if len(self._left) > 1:
            await self._ask_listing(token, self._left)
        if len(self._left) > self._most_single:
            self._to_list.update(self._left.values())
            self._left.clear()
        await self._one_by_one(token)
        if unconfirmed := self._unconfirmed:
            await self._ask_listing(token, unconfirmed)

    @property
    def _unconfirmed(self) -> Mapping[str, str]:
        """Keys that are not found while nothing says that their entity is: both answer 404."""
        return {} if self._is_listing_asked else self._absent

    async def _ask_listing(self, token: Token, wanted: Mapping[str, str]) -> None:
        """List the keys `wanted`; where the listing is not found, nothing more is asked of it."""
        try:
            await self._list(token, dict(wanted))
        except MakiniError as error:
            if error.kind is ErrorKind.not_found:
                self._is_offered = False
                self._note = f"{self._entity} is not found there: the next poll lists it whole"
                self._left.clear()
            elif not _is_about_keys(error):
                raise
        self._is_listing_asked = True

    async def _list(self, token: Token, wanted: Mapping[str, str]) -> None:
        """Read many at once; breaks off where the source heeds no filter and lists them all, and
        where page after page has none of them."""
        empty = 0
        pages = self._makini.records(
            token.access, self._entity, connection=self._ref, keys=list(wanted.values())
        )
        async for page in pages:
            heeded = True
            empty = 0 if page.records else empty + 1
            for record in page.records:
                stored = record_key(record)
                if stored is None or stored not in wanted:
                    heeded = False
                    continue
                self._records[stored] = record
                self._left.pop(stored, None)
            if not heeded or empty == MOST_EMPTY:
                break

    async def _one_by_one(self, token: Token) -> None:
        """One, then some side by side; the first that fails for all of them ends it."""
        left = iter(list(self._left))

        async def read_on() -> None:
            for stored in left:
                await self._read_one(token, stored)

        for stored in left:
            await self._read_one(token, stored)
            break
        with many_calls(len(self._left)):
            workers = [
                asyncio.create_task(read_on()) for _ in range(min(SIDE_BY_SIDE, len(self._left)))
            ]
        if not workers:
            return
        try:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await _end(workers)
        for worker in workers:
            if not worker.cancelled() and (error := worker.exception()) is not None:
                raise error

    async def _read_one(self, token: Token, stored: str) -> None:
        key = self._left[stored]
        try:
            record = await self._makini.record(
                token.access, self._entity, key, connection=self._ref
            )
        except MakiniError as error:
            if not _is_about_keys(error):
                raise
            self._refused[key] = error
        except Exception as error:  # of a key that nobody thought of
            if is_of_database(error):
                raise
            self._refused[key] = error
        else:
            if record and record_key(record) != stored:
                self._refused[key] = self._another(record)
            elif record:
                self._records[stored] = record
            else:
                self._absent[stored] = key
        del self._left[stored]

    def _another(self, record: Mapping[str, Any]) -> MakiniError:
        """A page of maintenance, or some other record: it says nothing of the one asked for."""
        has = "another record" if record_key(record) else "no record"
        return MakiniError(
            ErrorKind.malformed,
            f"there is {has} in it",
            app=self._makini.app.name,
            connection=self._ref,
            retryable=True,
        )


def _is_about_keys(error: MakiniError) -> bool:
    """Whether asking for other keys may still do: not a login's trouble, nor one that passes."""
    return not error.retryable and error.kind not in _LOGIN


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel what still runs, and wait until it has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
