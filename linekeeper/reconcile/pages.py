"""Reading the pages of one listing, each again where it fails in passing."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime

from linekeeper.health.scope import DataCaller
from linekeeper.makini import ENDS_LOOP, ErrorKind, ListingFault, MakiniError
from linekeeper.pipeline import WriteBehind, prefetch
from linekeeper.reconcile.gathered import Listing, ListingShifted
from linekeeper.reconcile.identity import record_key
from linekeeper.reconcile.reading import EntityReading
from linekeeper.reconcile.recount import ask_total
from linekeeper.reconcile.target import PollTarget
from linekeeper.runtime import Runtime
from linekeeper.tokens.caller import NoToken
from linekeeper.tokens.stored import Token

TRIES_A_PAGE = 5
SMALLER = 8
"""A page too large to take is asked for again in parts of this."""
LONGEST_WAIT = 120.0
"""Seconds; a source that asks for a longer pause is left for the next run."""
UNANSWERED = frozenset({ErrorKind.unavailable, ErrorKind.timeout, ErrorKind.network})
_CONFLICTS = frozenset({409, 423, 425})
"""Somebody else is at it: it passes."""

Sleep = Callable[[float], Awaitable[None]]


class PageReader:
    """Reads the pages of one entity into a listing, and writes what is full."""

    def __init__(
        self,
        rt: Runtime,
        target: PollTarget,
        caller: DataCaller,
        reading: EntityReading,
        *,
        sleep: Sleep,
    ) -> None:
        self._makini = rt.makini(target.app)
        self._target = target
        self._caller = caller
        self._reading = reading
        self._sleep = sleep
        self._failures = 0
        self._per_page = target.app.per_page

    def ask_for_less(self) -> bool:
        """Ask for fewer records a page from now on; False: a page is one record already."""
        if self._per_page == 1:
            return False
        self._per_page = max(1, self._per_page // SMALLER)
        return True

    async def total(self) -> int | None:
        """How many records the source says it has; None where it doesn't say."""
        token = await self._caller.prepared()
        if token is None:
            return None
        entity, connection = self._reading.entity, self._target.ref
        return await ask_total(self._makini, token.access, entity, connection=connection)

    async def read(
        self,
        listing: Listing,
        since: datetime | None,
        *,
        is_last: bool,
        reverse: bool = False,
    ) -> None:
        """Read every page of what changed `since`, or of all.

        Where a listing shifts or breaks off this raises `ListingShifted`, or a `MakiniError` with
        its fault; in the last try it goes on with what comes, and `listing` says it.
        """
        reading, target, writer, sizes = (
            self._reading, self._target, listing.writer, listing.sizes,
        )  # fmt: skip
        # Of what is in the index, the JSON also says whether only the form of its dates differs.
        keeps = reading.entity in target.app.bodies or not writer.is_baseline
        token = await self._caller.prepared()
        if token is None:
            raise NoToken(target.app.name, target.ref)
        pages = self._makini.records(
            token.access,
            reading.entity,
            connection=target.ref,
            since=since,
            per_page=self._per_page,
            again=self._again,
            reverse=reverse,
        )
        came = keyless = 0
        try:
            async with (
                WriteBehind(expected=MakiniError) as writing,
                aclosing(prefetch(pages)) as listed,
            ):
                async for page, asked_at in listed:
                    self._failures = 0
                    self._caller.answered()
                    if listing.batch.is_full:
                        reading.written += await writing.then(writer.write(listing.batch))
                        listing.batch = writer.batch(asked_at)
                    added = listing.batch.add(page.records, bodies=keeps)
                    listing.keys.update(added)
                    listing.deleted.update(listing.batch.deleted_of(added))
                    if len(added) < len(page.records):
                        keyless += sum(record_key(record) is None for record in page.records)
                    reading.records += len(page.records)
                    came += 1
                    sizes.record_total(page.total)
                    if sizes.shrank and not is_last:
                        raise ListingShifted
                reading.written += await writing.done()
        except MakiniError as error:
            broken = self._ended_at(error, came + 1, is_whole=since is None) if came else error
            if broken.fault is None or not is_last:
                raise broken from error.__cause__
            listing.broken = broken
        finally:
            listing.keyless = max(listing.keyless, keyless)

    async def read_reversed(
        self, listing: Listing, since: datetime | None, *, is_last: bool
    ) -> None:
        """Read it again in reversed order, to what came already: what slips between two pages in
        one order doesn't in the other. A source that refuses the order is read as before."""
        broken = listing.broken
        try:
            await self.read(listing, since, is_last=is_last, reverse=True)
        except MakiniError as error:
            if error.kind is not ErrorKind.rejected:
                raise
            await self.read(listing, since, is_last=is_last)
        listing.broken = broken

    def broken(self, reason: str, fault: ListingFault | None) -> MakiniError:
        """The error of a listing that has no end."""
        return MakiniError(
            ErrorKind.malformed,
            reason,
            app=self._target.app.name,
            connection=self._target.ref,
            retryable=True,
            fault=fault,
        )

    def _ended_at(self, error: MakiniError, number: int, *, is_whole: bool) -> MakiniError:
        """Page `number` is not given, and those before it were: a fault of the listing.

        That it isn't answered, however often it is asked for, is one of a whole listing only: what
        changed is asked for instead. Where nothing is answered, nor is the first page the next
        time, and that is no fault of the listing.
        """
        if error.kind in ENDS_LOOP:
            reason = f"page {number} was refused ({error.status})"
            return self.broken(reason, ListingFault.refused_page)
        if is_whole and error.kind in UNANSWERED:
            reason = f"page {number} was not answered ({error.brief})"
            return self.broken(reason, ListingFault.unanswered_page)
        return error

    async def _again(self, error: MakiniError) -> str | None:
        """What to ask for a failed page with, after the pause it needs; None to give up."""
        self._failures += 1
        if self._failures >= TRIES_A_PAGE:
            return None
        if error.kind is ErrorKind.unauthorized and error.connection is not None:
            return _access(await self._caller.after(error))
        passes = error.retryable or error.status in _CONFLICTS
        if not passes or error.kind is ErrorKind.circuit_open:
            return None
        wait = max(error.retry_after or 0.0, 2.0 ** (self._failures - 1))
        if wait > LONGEST_WAIT:
            return None
        await self._sleep(wait)
        return _access(await self._caller.prepared())


def _access(token: Token | None) -> str | None:
    return token.access if token is not None else None
