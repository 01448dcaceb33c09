"""Reading for record events: connections side by side, each answering as soon as it can.

What is wanted of one connection is gathered while it is being read, and then read together, one
entity after the other. Nothing here waits for another connection.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from linekeeper.clock import monotonic, utcnow
from linekeeper.config import AppConfig
from linekeeper.consumer.reading import (
    MOST_SINGLE,
    OutOfTime,
    ReadRefused,
    Records,
    read_records,
)
from linekeeper.inbox.plan import ReadRequest
from linekeeper.inbox.routing import EventTarget
from linekeeper.makini import ErrorKind, MakiniError
from linekeeper.reconcile.identity import record_key
from linekeeper.runtime import Runtime
from linekeeper.store.keys import stored_key
from linekeeper.tokens.stored import Token

READ_SECONDS = 60.0
"""What is not read by then is left to another claim: this one must not run out under the settling.
What is read stays, so that the next one has less to read."""
SUSPECTS_AT_ONCE = 8
"""Connections read at once that did not answer when they were last asked: they take the call
budget and the sockets of no other."""
_OF_THE_CONNECTION = frozenset(
    {ErrorKind.timeout, ErrorKind.network, ErrorKind.unavailable, ErrorKind.unauthorized}
)


class ReadBatch:
    """Keys of one connection and entity that are read together, and the answer."""

    __slots__ = (
        *("answer", "app", "ask", "changed", "events", "is_stored"),
        *("keys", "target", "token", "until"),
    )

    def __init__(self, ask: ReadRequest, app: AppConfig, target: EventTarget, token: Token) -> None:
        self.ask = ask
        self.app = app
        self.target = target
        self.token = token
        self.keys: dict[str, None] = {}
        self.events = 0
        """How many events want some of them."""
        self.until = float("inf")
        """When the first claim that needs it must settle (`clock.monotonic`)."""
        self.answer: Records | Exception | None = None
        self.changed: set[str] = set()
        """The keys, as they are stored, whose record had changed at the source."""
        self.is_stored = False

    def lacks(self, key: str) -> bool:
        """Whether the source says that it has no record under `key`, which was asked for."""
        answer = self.answer
        if not isinstance(answer, Records) or not answer.is_offered:
            return False
        if key not in self.keys or key in answer.unread or key in answer.to_list:
            return False
        return stored_key(key) not in {record_key(record) for record in answer.records}


class Readers:
    """Reads batches; `answered` has those whose answer is there, `news` says that there are any.

    `close()` ends all that is being read.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._wanted: dict[str, dict[tuple[str, bool], ReadBatch]] = {}
        """By connection; then by entity, and whether one event alone names many of its keys: what
        is too much for it leaves the keys of the others alone."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._suspects: set[str] = set()
        self._gate = asyncio.Semaphore(SUSPECTS_AT_ONCE)
        self.answered: deque[ReadBatch] = deque()
        self.news = asyncio.Event()

    def want(
        self,
        ask: ReadRequest,
        keys: Sequence[str],
        *,
        app: AppConfig,
        target: EventTarget,
        token: Token,
        until: float,
        is_suspect: bool,
    ) -> ReadBatch:
        """Have `keys` read by `until`, as they are from now on; the batch they are read in."""
        wanted = self._wanted.setdefault(ask.connection_id, {})
        which = ask.entity, len(keys) > MOST_SINGLE
        batch = wanted.get(which)
        if batch is None:
            batch = wanted[which] = ReadBatch(ask, app, target, token)
        batch.keys.update(dict.fromkeys(keys))
        batch.events += 1
        batch.until = min(batch.until, until)
        batch.token = token
        if is_suspect:
            self._suspects.add(ask.connection_id)
        if ask.connection_id not in self._tasks:
            self._tasks[ask.connection_id] = asyncio.create_task(self._run(ask.connection_id))
        return batch

    async def close(self) -> None:
        """End all that is being read, unanswered."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._wanted.clear()
        self._tasks.clear()
        self.answered.clear()

    async def _run(self, connection_id: str) -> None:
        try:
            while wanted := self._wanted.get(connection_id):
                if connection_id in self._suspects:
                    async with self._gate:
                        await self._next(connection_id, wanted)
                else:
                    await self._next(connection_id, wanted)
        finally:
            self._wanted.pop(connection_id, None)
            self._tasks.pop(connection_id, None)

    async def _next(self, connection_id: str, wanted: dict[tuple[str, bool], ReadBatch]) -> None:
        batch = wanted.pop(next(iter(wanted)))
        try:
            answer: Records | Exception = await read_records(
                self._rt,
                batch.app,
                batch.target,
                batch.token,
                entity=batch.ask.entity,
                keys=list(batch.keys),
                events=batch.events,
                deadline=min(monotonic() + READ_SECONDS, batch.until),
            )
        except Exception as error:
            answer = error
        self._answer(batch, answer)
        trouble = _trouble(answer)
        if trouble is None:
            self._suspects.discard(connection_id)
            return
        if isinstance(trouble, MakiniError):
            self._suspects.add(connection_id)
        if isinstance(trouble, MakiniError) and isinstance(answer, Records) and answer.is_of_entity:
            return
        for other in list(wanted):  # it would fare no better, and costs a call and its time
            self._answer(wanted.pop(other), trouble)

    def _answer(self, batch: ReadBatch, answer: Records | Exception) -> None:
        if isinstance(answer, MakiniError | OutOfTime):
            unread = dict.fromkeys(batch.keys, answer)
            answer = Records(utcnow(), (), None, unread, is_of_entity=False)
        batch.answer = answer
        self.answered.append(batch)
        self.news.set()


def _trouble(answer: Records | Exception) -> Exception | None:
    """Why the connection, or at least an entity of it, can't be asked for anything now."""
    if isinstance(answer, ReadRefused):
        return answer if answer.observation is not None else None  # else of this entity only
    if not isinstance(answer, Records):
        return None
    for error in answer.unread.values():
        if isinstance(error, MakiniError) and error.kind in _OF_THE_CONNECTION:
            return error
        if isinstance(error, OutOfTime) and not answer.records:
            return error
    return None
