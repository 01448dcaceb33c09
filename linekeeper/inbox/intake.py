"""Making deliveries durable: all that wait go into one transaction, then each is answered.

While one batch is being committed the next one gathers, so the number of commits follows the
storage's speed and not the number of requests. Nobody is told "stored" before the commit of the
own row; whatever goes wrong, everybody waiting is told that storage is down, and the next batch
tries again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Protocol, Self, TypeAlias

from linekeeper.clock import monotonic
from linekeeper.inbox.identify import Delivery, Receipt
from linekeeper.inbox.postgres_writer import PostgresWriter
from linekeeper.inbox.sqlite_writer import SqliteWriter
from linekeeper.logs import passed
from linekeeper.store import Store

log = logging.getLogger(__name__)

STORE_SECONDS = 4.0
"""How long anybody waits for a commit; a sender gives up after 10 s (Makini FAQ)."""
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_BATCH = 512
MAX_BATCH_BYTES = 8 * 1024 * 1024


_Waiting: TypeAlias = tuple[Delivery, asyncio.Future[Receipt]]


class StorageDown(Exception):
    """The delivery is not known to be stored; the sender should come again."""


class Writer(Protocol):
    """Stores a batch in one transaction; any exception means that nothing is known to be stored."""

    async def write(self, batch: Sequence[Delivery]) -> Sequence[Receipt]:
        """One receipt for each delivery, in order, after the commit."""
        ...

    async def close(self) -> None:
        """Let go of the database."""
        ...


class Intake:
    """The one way into `webhook_event`. Use as `async with Intake.open(store) as intake`."""

    def __init__(self, writer: Writer, observe: Callable[[int, float], None] | None = None) -> None:
        self._writer = writer
        self._observe = observe
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, store: Store, observe: Callable[[int, float], None] | None = None) -> Self:
        """An intake into the database of `store`; nothing is contacted yet.

        `observe` is told the rows and the seconds of each transaction.
        """
        writer: Writer
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
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._refuse(self._waiting)
        await self._writer.close()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._take()
            if not batch:
                continue
            try:
                await self._commit(batch)
            except Exception as error:
                # Only the kind: a driver's message may quote the values it was given.
                log.warning("webhooks: storing %d failed: %s", len(batch), type(error).__name__)
                self._refuse(self._waiting)
            finally:
                self._refuse(batch)

    async def _commit(self, batch: list[_Waiting]) -> None:
        """Store `batch` and answer it; beyond `STORE_SECONDS` everybody is refused meanwhile."""
        began = monotonic()
        writing = {asyncio.create_task(self._write([row for row, _ in batch]))}
        while not (await asyncio.wait(writing, timeout=STORE_SECONDS))[0]:
            log.warning("webhooks: the database has not answered for %g s", STORE_SECONDS)
            self._refuse(batch)
            self._refuse(self._waiting)
        receipts = writing.pop().result()
        passed(
            "accepted",
            [receipt.id for receipt in receipts],
            deliveries=[row.delivery_key for row, _ in batch],
        )
        for (_, future), receipt in zip(batch, receipts, strict=False):
            if not future.done():
                future.set_result(receipt)
        if self._observe is not None:
            self._observe(len(receipts), monotonic() - began)

    async def _write(self, rows: Sequence[Delivery]) -> Sequence[Receipt]:
        """Store `rows`; those that only share their id with one of another connection as well."""
        receipts = await self._writer.write(rows)
        pairs = zip(rows, receipts, strict=True)
        again = {own.id: own for row, receipt in pairs if (own := _own_key(row, receipt))}
        if not again:
            return receipts
        stored = dict(zip(again, await self._writer.write(list(again.values())), strict=True))
        return [stored.get(row.id, receipt) for row, receipt in zip(rows, receipts, strict=True)]

    def _take(self) -> list[_Waiting]:
        size = 0
        for count, (row, _) in enumerate(self._waiting):
            size += len(row.body)
            if count and (count >= MAX_BATCH or size > MAX_BATCH_BYTES):
                batch, self._waiting = self._waiting[:count], self._waiting[count:]
                self._bytes -= size - len(row.body)
                return batch
        batch, self._waiting = self._waiting, []
        self._bytes = 0
        self._wake.clear()
        return batch

    def _refuse(self, waiting: list[_Waiting]) -> None:
        for _, future in waiting:
            if not future.done():
                future.set_exception(StorageDown())
        waiting.clear()


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
