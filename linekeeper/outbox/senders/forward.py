"""Handing on to the operator's product: one HTTP POST a message, in order for each connection.

Every attempt of a message has the same id and the same body, so that a repeat (a consumer that
died between the answer and the commit) is harmless to a product that remembers ids.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import aiohttp
import httpx
from sqlalchemy import ColumnElement, Update, and_, func, insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.groups import to_end
from linekeeper.inbox.headers import RawHeaders
from linekeeper.logs import WAY, passed
from linekeeper.makini.http_client import bare_request, open_client
from linekeeper.outbox.about import destination_of, is_for
from linekeeper.outbox.dispatcher import LONGEST_WAIT, Dispatcher
from linekeeper.outbox.forward import CHANNEL
from linekeeper.outbox.forward_messages import Outgoing, envelope_of, read_messages
from linekeeper.outbox.given_up import UNKEPT
from linekeeper.outbox.queue import DUE_SINCE, OUTBOX, outbox_of
from linekeeper.outbox.sender import (
    Ended,
    Failed,
    OutboxRow,
    Partition,
    Result,
    Sender,
    Settlement,
)
from linekeeper.redact import origin
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import ForwardAttempt
from linekeeper.store.types import table_of
from linekeeper.tls import unreachable_because

log = logging.getLogger("linekeeper.consumer")

AGES_SINCE: Any = func.coalesce(OUTBOX.c.counts_from, DUE_SINCE, type_=OUTBOX.c.created_at.type)
"""From when the age counts by which a message is given up."""
MAX_ANSWER_BYTES = 65_536
_BUSY = frozenset({408, 425, 429})
"""Answers that say "not now" rather than "not this"."""
_UNREACHABLE = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError)
_SWITCHED_OFF = ""
"""Stands for all apps that hand nothing on; no app is called so."""


def forwarding(rt: Runtime, clock: Callable[[], datetime] = utcnow) -> Dispatcher:
    """The dispatcher of channel `forward`."""
    return Dispatcher(rt.store, rt.owner, ForwardSender(rt, clock), clock=clock)


@lru_cache(maxsize=1024)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


_ATTEMPTS = insert(table_of(ForwardAttempt))


class ForwardSender(Sender):
    """Posts to the products, each app's on its own."""

    channel = CHANNEL
    batch = 400
    at_once = 32
    deadline_seconds = 10.0
    longest_pause = 15.0
    only_first = False
    settles_each = False

    def __init__(self, rt: Runtime, clock: Callable[[], datetime]) -> None:
        self._rt = rt
        self._clock = clock
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._apps: Mapping[str, AppConfig] = {}
        self._addresses: dict[str, str] | None = None
        """By destination, where it was when it was looked at last; None before."""
        self._messages: dict[str, tuple[Outgoing, AppConfig | None]] = {}
        """By the row's id what is being sent, and to whom as it was set when that was read."""
        self._attempts: list[dict[str, Any]] = []
        """Rows of `forward_attempt` that are not written yet."""

    async def partitions(self) -> Mapping[str, Partition]:
        """One for each address, and one for the messages of apps and targets that are gone.

        Those are kept, in case that returns.
        """
        apps = (await self._rt.configuration()).apps
        self._apps = {
            destination: to
            for app in apps.values()
            for destination, to in app.destinations().items()
        }
        addresses = {name: app.forward_url or "" for name, app in self._apps.items()}
        if addresses != self._addresses:
            await self._bring_forward(addresses)
        return {
            **{name: Partition(_is_of(name), address) for name, address in addresses.items()},
            _SWITCHED_OFF: Partition(_is_of_none(tuple(self._apps))),
        }

    async def _bring_forward(self, addresses: dict[str, str]) -> None:
        """What waits for a destination that is new, or elsewhere than before, is due now.

        When a process begins, nobody knows what was before: what nobody has tried yet is due.
        """
        before, now = self._addresses or {}, self._clock()
        which = OUTBOX.c.attempts == 0 if self._addresses is None else OUTBOX.c.id.is_not(None)
        async with self._rt.store.write() as session:
            for name, address in addresses.items():
                if before.get(name) != address:
                    await session.execute(_due_now(name, now).where(which))
        self._addresses = addresses

    @asynccontextmanager
    async def prepare(self, rows: Sequence[OutboxRow]) -> AsyncIterator[Mapping[str, Result]]:
        """What to say for each row; an event that is gone can't be forwarded any more."""
        apps = self._apps
        messages, gone = await read_messages(self._rt.store, rows, apps)
        self._messages |= {each.row.id: (each, apps.get(each.app)) for each in messages}
        try:
            yield dict.fromkeys(gone, Ended("skipped", UNKEPT))
        finally:
            for row in rows:
                self._messages.pop(row.id, None)

    def destination(self, row: OutboxRow) -> str:
        """The app whose product it goes to, or its target."""
        return destination_of(row.destination, row.ordering_key)

    def not_before(self, row: OutboxRow, now: datetime) -> datetime | None:
        """What belongs to an app that is switched off waits, in case it returns."""
        if self._messages[row.id][1] is not None and self.destination(row) in self._apps:
            return None
        return now + timedelta(seconds=LONGEST_WAIT)

    async def send(self, row: OutboxRow) -> Result:
        """Post it; what the answer means for it and for the product."""
        message, app = self._messages[row.id]
        assert app is not None  # or it would wait
        address, headers = envelope_of(message, app, now=self._clock())
        url = origin(app.forward_url or "")
        try:
            status = await self._post(address, message.body, headers)
        except _UNREACHABLE as error:
            self._attempted(message, None, why := unreachable_because(error))
            return Failed(f"{url} could not be reached: {why}", pauses=True)
        self._attempted(message, status, None)
        if 200 <= status < 300:
            return Ended()
        if status == 410:  # its address is no more, says the standard: sending is to end
            why = f"{url} answered 410 Gone"
            return Failed(why, refusal="gone", pauses=True, pause=LONGEST_WAIT)
        if status in _BUSY or status >= 500:
            return Failed(f"{url} answered {status}", pauses=True)
        return Failed(f"{url} answered {status} to webhook-id {message.id}", refusal="refused")

    def timed_out(self, row: OutboxRow) -> Failed:
        """The product is too slow: another message would fare no better."""
        message, app = self._messages[row.id]
        self._attempted(message, None, "TimeoutError")
        url = origin((app and app.forward_url) or "")
        return Failed(f"{url} could not be reached: TimeoutError", pauses=True)

    async def _post(self, url: str, body: bytes, headers: RawHeaders) -> int:
        """Post once; of the answer's body no more is read than keeps the connection usable."""
        where = origin(url)
        if where not in self._clients:
            self._clients[where] = open_client(url)
        request = bare_request("POST", _parsed(url), headers, body)
        answer = await self._clients[where].send(request, stream=True)
        try:
            size = 0
            async for chunk in answer.aiter_raw():
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    break
            return answer.status_code
        finally:
            await answer.aclose()

    def _attempted(self, message: Outgoing, status: int | None, error: str | None) -> None:
        self._attempts.append(
            {
                "id": new_id(),
                "message_id": message.id,
                "at": self._clock(),
                "status": status,
                "error": error,
            }
        )

    async def settled(
        self, session: AsyncSession, settlement: Settlement, *, now: datetime
    ) -> None:
        """Write the attempts; bring forward what waits for a product that is back.

        Where one message was given up for its age, whatever else of the app is as old is given up
        with it: one has shown that it is in vain.
        """
        attempts, self._attempts = self._attempts, []
        if attempts:
            if WAY.isEnabledFor(logging.INFO):
                passed(
                    "forwarded",
                    [str(attempt["message_id"]) for attempt in attempts],
                    answers=[attempt["status"] or attempt["error"] for attempt in attempts],
                )
            await session.execute(_ATTEMPTS, attempts)
        for row, why in settlement.dead:
            about = {"event": row.payload.get("event"), "app": self.destination(row)}
            log.warning("forward %s is dead: %s", row.id, why, extra=about)
        for app, why in settlement.expired.items():
            await session.execute(
                update(OUTBOX)
                .where(_WAITING, _is_of(app), now - self.gives_up_after > AGES_SINCE)
                .values(status="dead", settled_at=now, error=why)
            )
        for app in settlement.recovered:
            await session.execute(_due_now(app, now))

    async def close(self) -> None:
        """Close the connections to the products."""
        await to_end(*(client.aclose for client in self._clients.values()))


@lru_cache(maxsize=1_000)
def _is_of(app: str) -> ColumnElement[bool]:
    return is_for(app)


_WAITING = outbox_of(CHANNEL).waiting & OUTBOX.c.claimed_by.is_(None)


def _due_now(app: str, now: datetime) -> Update:
    """What waits for the destination, and was planned for later."""
    return (
        update(OUTBOX)
        .where(_WAITING, _is_of(app), OUTBOX.c.next_attempt_at > now)
        .values(next_attempt_at=now)
    )


@lru_cache(maxsize=10)
def _is_of_none(apps: Sequence[str]) -> ColumnElement[bool]:
    """The messages of apps and targets that the settings don't name."""
    return and_(OUTBOX.c.id.is_not(None), *(~_is_of(app) for app in apps))
