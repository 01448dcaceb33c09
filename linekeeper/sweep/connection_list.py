"""Reading the list of an app's connections, as far as it goes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.config import AppConfig
from linekeeper.customers.adopt import Adoption
from linekeeper.health.absence import Missing, find_missing
from linekeeper.makini import ENDS_LOOP, ConnectionPage, ListedConnection, MakiniError
from linekeeper.pipeline import prefetch
from linekeeper.runtime import Runtime
from linekeeper.sweep import app as app_health

TRIES_A_LIST = 3
"""A list that breaks off, or gives fewer connections than its total says, is read so often."""
_PORTION = 1_000


@dataclass(slots=True)
class ListReading:
    """A list as it is read; read again it only grows."""

    app: str
    adoption: Adoption = field(default_factory=Adoption)
    keys: set[str] = field(default_factory=set)
    unnamed: int = 0
    total: int | None = None
    pages: int = 0
    """What came of it this time."""
    broken: str = ""
    """How it ended, the last time as well, before the end that it speaks of."""

    @property
    def count(self) -> int:
        """How many different connections were listed."""
        return len(self.keys) + self.unnamed

    async def find_missing(self, session: AsyncSession) -> Missing:
        """What of the known connections it lacks."""
        return await find_missing(
            session,
            self.app,
            self.keys,
            unnamed=self.unnamed,
            total=self.total,
            broken=self.broken,
        )


async def read_list(
    rt: Runtime,
    app: AppConfig,
    take: Callable[[Sequence[ListedConnection]], Awaitable[Adoption]],
) -> ListReading:
    """Read the list, again where it breaks off or gives fewer connections than its total says.

    Pages overlap where a connection is made or goes while they are read; what one reading
    overlooked the next one finds. A cursor ends where Makini's call limit makes a reading long. A
    list that breaks off every time is true as far as it goes, and looks truncated.
    """
    reading = ListReading(app.name)
    async with app_health.through_circuit(rt.store, app):
        for number in range(1, TRIES_A_LIST + 1):
            reading.unnamed, reading.total, reading.pages = 0, None, 0
            try:
                async for portion in _portions(rt.makini(app).list_connections(), reading):
                    reading.adoption.add(await take(portion))
            except MakiniError as error:
                breaks_off = error.fault is not None or error.kind in ENDS_LOOP
                if not (reading.pages and breaks_off):
                    raise
                if number == TRIES_A_LIST:
                    reading.broken = _how(error, reading.pages)
                continue
            if reading.total is None or reading.count >= reading.total:
                break
    reading.adoption.known = len(reading.keys) - len(reading.adoption.new)
    return reading


async def _portions(
    pages: AsyncIterator[ConnectionPage], reading: ListReading
) -> AsyncIterator[list[ListedConnection]]:
    """What comes of `pages`; before an error, what came until then."""
    portion: list[ListedConnection] = []
    failed: MakiniError | None = None
    async with aclosing(prefetch(pages)) as listed:
        try:
            async for page, _ in listed:
                reading.pages += 1
                reading.unnamed += page.unnamed
                reading.total = page.total if page.total is not None else reading.total
                reading.keys |= {connection.key for connection in page.connections}
                portion += page.connections
                if len(portion) >= _PORTION:
                    yield portion
                    portion = []
        except MakiniError as error:
            failed = error
    if portion:
        yield portion
    if failed is not None:
        raise failed


def _how(error: MakiniError, pages: int) -> str:
    """How a list broke off after so many `pages`."""
    return error.message if error.fault is not None else f"page {pages + 1} was refused each time"
