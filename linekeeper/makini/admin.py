"""The admin token of one app: fetched when needed, once for all who wait, kept until near its end.

Getting it changes nothing at Makini, so it is allowed in `observe` too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from linekeeper.makini.errors import ErrorKind, MakiniError
from linekeeper.makini.models import TokenPair

REFUSED_FOR = timedelta(seconds=20)
"""So long credentials that Makini refused are not shown to it again: it might lock the account."""
MARGIN = timedelta(seconds=60)
MARGIN_SHARE = 0.1


class AdminToken:
    """Hands out the current admin token; `fetch` gets a new one and may raise MakiniError."""

    def __init__(
        self, fetch: Callable[[], Awaitable[TokenPair]], clock: Callable[[], datetime]
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._token: str | None = None
        self._fresh_until: datetime | None = None
        self._refusal: tuple[datetime, MakiniError] | None = None

    async def get(self, *, refused: str | None = None) -> str:
        """Return a token that isn't near its end. `refused` is one that Makini answered 401 to.

        Where the credentials themselves were just refused, that answer is raised again.
        """
        async with self._one_at_a_time:
            if self._token == refused or self._ends():
                self._token = None  # also where no other can be had now
            if self._token is None:
                pair = await self._fetched()
                self._token = pair.access_token
                self._fresh_until = fresh_until(pair.expires_at, self._clock())
            return self._token

    async def _fetched(self) -> TokenPair:
        if self._refusal is not None:
            at, error = self._refusal
            if timedelta() <= self._clock() - at < REFUSED_FOR:
                raise error.with_traceback(None)
        try:
            return await self._fetch()
        except MakiniError as error:
            is_refused = error.kind in (ErrorKind.unauthorized, ErrorKind.forbidden)
            self._refusal = (self._clock(), error) if is_refused else None
            raise

    def _ends(self) -> bool:
        return self._fresh_until is not None and self._clock() >= self._fresh_until


def fresh_until(expires_at: datetime | None, now: datetime) -> datetime | None:
    """Return when a token got at `now` should be replaced: a minute before its end, less for a
    short-lived one. None, which is "until refused", if the end is unknown or, with a clock that is
    off, already past."""
    if expires_at is None or expires_at <= now:
        return None
    return expires_at - min(MARGIN, (expires_at - now) * MARGIN_SHARE)
