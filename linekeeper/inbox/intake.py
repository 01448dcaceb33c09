"""Making deliveries durable: all that wait go into one transaction, then each is answered.

While one batch is being committed the next one gathers, so the number of commits follows the
storage's speed and not the number of requests. What a batch holds is decided as it begins, so a
writer that has a thread of its own can be given the next one ahead: it goes on at once. Nobody is
answered "stored" before the commit of the own row; whatever goes wrong, all who wait are answered
that storage is down, and the next batch tries again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Protocol, Self, TypeAlias

from linekeeper.clock import monotonic
from linekeeper.groups import to_end
from linekeeper.inbox.identify import Delivery, Receipt
from linekeeper.inbox.postgres_writer import PostgresWriter
from linekeeper.inbox.sqlite_writer import SqliteWriter
from linekeeper.logs import WAY, passed
from linekeeper.store import Store

log = logging.getLogger(__name__)

STORE_SECONDS = 4.0
"""How long anybody waits for a commit; a sender gives up after 10 s (Makini FAQ)."""
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_BATCH = 512
MAX_BATCH_BYTES = 8 * 1024 * 1024


_Waiting: TypeAlias = tuple[Delivery, asyncio.Future[Receipt]]


Take: TypeAlias = Callable[[], Sequence[Delivery]]


class StorageDown(Exception):
    """The delivery is not known to be stored; the sender should come again."""


class BatchWriter(Protocol):
    """Stores a batch in one transaction; any exception means that nothing is known to be stored."""

    at_once: int
    """How many batches it is given at once; it writes them one after the other."""

    async def write(self, take: Take) -> Sequence[Receipt]:
        """One receipt for each delivery that `take` gives, in order, after the commit.

        `take` is called once, in any thread, as the transaction is about to begin.
        """
        ...

    async def close(self) -> None:
        """Let go of the database."""
        ...


class Intake:
    """The one way into `webhook_event`. Use as `async with Intake.open(store) as intake`."""

    def __init__(
        self, writer: BatchWriter, observe: Callable[[int, float], None] | None = None
    ) -> None:
        self._writer = writer
        self._observe = observe
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        """How many bytes wait or are being stored."""
        self._wake = asyncio.Event()
        self._may_begin = asyncio.Semaphore(writer.at_once)
        self._task: asyncio.Task[None] | None = None
        self._storing: set[asyncio.Task[None]] = set()

    @classmethod
    def open(cls, store: Store, observe: Callable[[int, float], None] | None = None) -> Self:
        """An intake into the database of `store`; nothing is contacted yet.

        `observe` is called with the rows and the seconds of each transaction.
        """
        writer: BatchWriter
        if store.is_sqlite:
            writer = SqliteWriter(store.engine.url.database or "", seconds=STORE_SECONDS)
        else:
            writer = PostgresWriter(store.engine, seconds=STORE_SECONDS)
        return cls(writer, observe)

    async def store(self, delivery: Delivery) -> Receipt:
        """Return when `delivery`, or the row it repeats, is durable. Raises `StorageDown`."""
        full = len(self._waiting) >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES
        if full or self._task is None:
            raise StorageDown
        future: asyncio.Future[Receipt] = self._task.get_loop().create_future()
        self._waiting.append((delivery, future))
        self._bytes += len(delivery.body)
        self._wake.set()
        return await future

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="webhook intake")
        return self

    async def __aexit__(self, *_: object) -> None:
        task, self._task = self._task, None
        ending = self._storing | ({task} if task else set())
        for each in ending:
            each.cancel()

        async def ended() -> None:
            if ending:
                await asyncio.wait(ending)
            self._refuse_waiting()

        await to_end(ended, self._writer.close)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await self._may_begin.acquire()
            self._wake.clear()
            storing = asyncio.create_task(self._store_next(), name="webhook batch")
            self._storing.add(storing)
            storing.add_done_callback(self._stored)

    def _stored(self, task: asyncio.Task[None]) -> None:
        self._storing.discard(task)
        self._may_begin.release()
        if self._waiting:
            self._wake.set()

    async def _store_next(self) -> None:
        """Store what waits and answer it; beyond `STORE_SECONDS` everybody is refused meanwhile."""
        batch = _Batch()
        self._refuse_later(batch)
        try:
            receipts = await self._write(lambda: batch.take(self._waiting))
            self._answer(batch, receipts)
        except Exception as error:
            # Only the kind: a driver's message may quote the values it was given.
            log.warning("webhooks: storing %d failed: %s", batch.rows, type(error).__name__)
            self._refuse_waiting()
        finally:
            batch.timer.cancel()
            batch.refuse()
            self._bytes -= batch.size

    def _answer(self, batch: "_Batch", receipts: Sequence[Receipt]) -> None:
        if not receipts:
            return
        if WAY.isEnabledFor(logging.INFO):
            passed(
                "accepted",
                [receipt.id for receipt in receipts],
                deliveries=[row.delivery_key for row, _ in batch.waiting],
            )
        for (_, future), receipt in zip(batch.waiting, receipts, strict=False):
            if not future.done():
                future.set_result(receipt)
        if self._observe is not None:
            self._observe(len(receipts), monotonic() - batch.began)

    def _refuse_later(self, batch: "_Batch") -> None:
        loop = asyncio.get_running_loop()
        batch.timer = loop.call_later(STORE_SECONDS, self._refuse_now, batch)

    def _refuse_now(self, batch: "_Batch") -> None:
        log.warning("webhooks: the database has not answered for %g s", STORE_SECONDS)
        batch.refuse()
        self._refuse_waiting()
        self._refuse_later(batch)

    def _refuse_waiting(self) -> None:
        """Those that wait for their batch to begin."""
        waiting = _Batch()
        while waiting.take(self._waiting, most=MAX_WAITING):
            waiting.refuse()
        self._bytes -= waiting.size

    async def _write(self, take: Take) -> Sequence[Receipt]:
        """Store what `take` gives; also what only shares its id with another connection's."""
        rows: Sequence[Delivery] = ()

        def taken() -> Sequence[Delivery]:
            nonlocal rows
            rows = take()
            return rows

        receipts = await self._writer.write(taken)
        pairs = zip(rows, receipts, strict=True)
        again = {own.id: own for row, receipt in pairs if (own := _own_key(row, receipt))}
        if not again:
            return receipts
        own_rows = list(again.values())
        stored = dict(zip(again, await self._writer.write(lambda: own_rows), strict=True))
        return [stored.get(row.id, receipt) for row, receipt in zip(rows, receipts, strict=True)]


class _Batch:
    """What is stored in one transaction, from its beginning on."""

    timer: asyncio.TimerHandle

    def __init__(self) -> None:
        self.waiting: list[_Waiting] = []
        self.rows = self.size = 0
        self.began = 0.0

    def take(self, waiting: deque[_Waiting], *, most: int = MAX_BATCH) -> Sequence[Delivery]:
        """Take those that have waited longest. Safe in a thread beside the loop that appends."""
        self.began = monotonic()
        size = 0
        taken: list[Delivery] = []
        while len(taken) < most and size < MAX_BATCH_BYTES:
            try:
                row, future = waiting.popleft()
            except IndexError:
                break
            self.waiting.append((row, future))
            taken.append(row)
            size += len(row.body)
        self.rows += len(taken)
        self.size += size
        return taken

    def refuse(self) -> None:
        """Answer those who still wait that storage is unavailable."""
        for _, future in self.waiting:
            if not future.done():
                future.set_exception(StorageDown())
        self.waiting.clear()


def _own_key(delivery: Delivery, receipt: Receipt) -> Delivery | None:
    """The delivery under a key of its own, where what it seems to repeat is another connection's.

    Nothing says that a sender's ids differ from one connection to the next. Only a connection that
    the signed body names counts: a captured body is no new delivery under another URL.
    """
    ref, known = delivery.connection_ref, receipt.connection_ref
    is_signed = ref is not None and ref != delivery.url_connection
    if receipt.is_new or not is_signed or known is None or known == ref:
        return None
    suffix = sha256(str(ref).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return delivery._replace(delivery_key=f"{delivery.delivery_key}#{suffix}")
