"""Connections that Makini says it doesn't know: gone there, or a login that is lost?

Makini refuses the token of a connection that was ended there just as it refuses one whose login is
lost. Where it also has no such connection to mint a token for (404), its list decides before a
customer is asked for anything: it is read at once. A list may lag behind, and some accounts mint
nothing at all (404 whatever is asked), so a list that still shows the connection is believed at
once only where Makini was never seen to mint a token. Where it was, or the list can't be read,
`WAIT` passes first; where both are so, `LONGEST_WAIT`, as nothing says that it is there.
"""

import asyncio
from datetime import datetime, timedelta

from msgspec.structs import replace
from sqlalchemy import select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.health.evidence import (
    Health,
    Judged,
    Observation,
    Outcome,
)
from linekeeper.makini import MakiniError
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Credential
from linekeeper.sweep.sweep import take_list

WAIT = timedelta(minutes=10)
"""Two sweeps: after it a connection that is listed still has lost its login."""
LONGEST_WAIT = timedelta(days=1)
_MESSAGE = (
    "Makini refuses the token, and says that it doesn't know the connection: the connection is "
    "gone there, or its login is lost. The next complete list decides."
)


class UnknownThere:
    """Decides it for the connections of one app, as their probes come in."""

    def __init__(self, rt: Runtime, app: AppConfig) -> None:
        self._rt = rt
        self._app = app
        self._one_at_a_time = asyncio.Lock()
        self._listed_at: datetime | None = None
        self._is_list_failing = False
        self._mints: bool | None = None

    async def decide(
        self,
        refused: Observation,
        *,
        health: str,
        judged: Judged,
        is_unlisted: bool,
    ) -> Observation:
        """What the `refused` call says of the connection, whose state before is given.

        That its list lacks the connection is written by the list; `observe` then heeds it.
        """
        if is_unlisted or (health == Health.reauthorization_required.value and not judged.lost_by):
            return refused  # decided before
        async with self._one_at_a_time:
            await self._list_since(refused.at)
            since = judged.denied_since or refused.at
            if refused.at - since >= await self._wait():
                return refused
        return replace(refused, outcome=Outcome.doubted, message=_MESSAGE)

    async def _wait(self) -> timedelta:
        """How long after Makini first said that it doesn't know it, it is believed to be there."""
        if await self._is_minting():
            return LONGEST_WAIT if self._is_list_failing else WAIT
        return WAIT if self._is_list_failing else timedelta(0)

    async def _list_since(self, at: datetime) -> None:
        """Read the list, unless one was begun after `at`, or it just failed."""
        if self._is_list_failing or (self._listed_at is not None and self._listed_at > at):
            return
        now = utcnow()
        try:
            await take_list(self._rt, self._app, now=now)
        except MakiniError:
            self._is_list_failing = True  # the next sweep says so, if it lasts
        else:
            self._listed_at = now

    async def _is_minting(self) -> bool:
        """Whether Makini was seen to mint tokens for connections of the app."""
        if self._mints is None:
            async with self._rt.store.read() as session:
                minted = await session.scalar(
                    select(col(Credential.connection_id))
                    .join(Connection, col(Connection.id) == col(Credential.connection_id))
                    .where(col(Connection.app) == self._app.name, col(Credential.minted))
                    .limit(1)
                )
            self._mints = minted is not None
        return self._mints
