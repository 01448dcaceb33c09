"""Delivering what is handed on: claim, post, settle; lanes side by side, each in order.

Every attempt of a message has the same id and the same body, so that a repeat (a consumer that
died between the answer and the commit) is harmless to a product that remembers ids.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

import aiohttp
import httpx
from sqlalchemy import Executable, bindparam, insert, literal_column, update

from linekeeper.clock import monotonic, utcnow
from linekeeper.config import AppConfig
from linekeeper.inbox.headers import RawHeaders
from linekeeper.logs import passed
from linekeeper.makini.wire import open_client
from linekeeper.outbox import claim as lanes
from linekeeper.outbox.claim import Claim, Work
from linekeeper.outbox.forward import CHANNEL, Refusal, lane_prefix
from linekeeper.outbox.forward_messages import Outgoing, envelope_of, read_messages
from linekeeper.redact import origin
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.core import table_of
from linekeeper.store.tables import ForwardAttempt, Outbox

log = logging.getLogger("linekeeper.consumer")

GIVE_UP_AFTER = timedelta(days=3)
TIMEOUT_SECONDS = 10.0
CLAIM_SECONDS = 120.0
ROUND_SECONDS = 45.0
"""What a round has not posted by then is given back; with one attempt it is less than a claim."""
BATCH = 400
AT_ONCE = 32
LONGEST_WAIT = 600.0
LONGEST_PAUSE = 15.0
TICK_SECONDS = 0.05
"""Until what is due for other apps is looked for, beside a product that is slow."""
MAX_ANSWER_BYTES = 65_536
_MAX_ERROR = 500
_BUSY = frozenset({408, 425, 429})
"""Answers that say "not now" rather than "not this"."""
_UNREACHABLE = (
    httpx.HTTPError,
    httpx.InvalidURL,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    ValueError,
)

_SWITCHED_OFF = ""
"""Stands for all apps that hand nothing on; no app is called so."""

_OUTBOX = table_of(Outbox)
_WORK = Work(
    table=_OUTBOX,
    order=_OUTBOX.c.seq,
    which=_OUTBOX.c.channel == literal_column(f"'{CHANNEL}'"),
    columns=[_OUTBOX.c.payload, _OUTBOX.c.created_at],
)


class _Trouble(NamedTuple):
    """Why the product did not take a message."""

    why: str
    refusal: Refusal | None = None


@dataclass(slots=True)
class _Pause:
    """The product of an app takes nothing: one message at a time finds out when it does."""

    url: str
    failures: int
    until: datetime
    seconds: float
    """How long it lasts."""

    def lasts(self, now: datetime) -> bool:
        """Whether it lasts at `now`; not where the clock was ahead when it began."""
        return timedelta() < self.until - now <= timedelta(seconds=self.seconds)


class Forwarder:
    """Delivers channel `forward`; use as `async with Forwarder(rt) as forwarder`."""

    def __init__(self, rt: Runtime, clock: Callable[[], datetime] = utcnow) -> None:
        self._rt = rt
        self._clock = clock
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._pauses: dict[str, _Pause] = {}
        self._rounds: dict[str, asyncio.Task[bool]] = {}
        """The batch under way of each app."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        rounds = list(self._rounds.values())
        for task in rounds:
            task.cancel()
        await asyncio.gather(*rounds, return_exceptions=True)
        for client in self._clients.values():
            await client.aclose()

    async def post(self, url: str, body: bytes, headers: RawHeaders) -> int:
        """Post once and return the status. Raises `httpx.HTTPError` and its like, `TimeoutError`.

        Of the answer's body no more is read than keeps the connection usable.
        """
        where = origin(url)
        if where not in self._clients:
            self._clients[where] = open_client(url)
        client = self._clients[where]
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            size = 0
            async for chunk in answer.aiter_raw():
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    break
            return answer.status_code

    async def deliver(self) -> bool:
        """Deliver one batch to each product; returns whether there may be more to do at once.

        A message is repeated with back-off for `GIVE_UP_AFTER`, then dead. Errors of the database
        are raised, trouble with a product never is.
        """
        await self._begin()
        if self._rounds:
            await asyncio.wait(self._rounds.values())
        return self._ended()

    async def step(self) -> bool:
        """The same without waiting for a product that is slow: the others go on beside it."""
        await self._begin()
        if not self._rounds:
            return False
        await asyncio.wait(
            self._rounds.values(), timeout=TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        self._ended()
        return True

    async def _begin(self) -> None:
        """Begin a batch for each app that has something due and none under way."""
        configuration = await self._rt.configuration()
        apps = {name: app for name, app in configuration.apps.items() if app.forward_url}
        now = self._clock()
        self._pauses = {
            name: pause
            for name, pause in self._pauses.items()
            if name in apps and apps[name].forward_url == pause.url
        }
        waiting: dict[str, Work] = {}
        async with self._rt.store.read() as session:
            if not await lanes.is_due(session, _WORK, now=now):
                return
            for name in (*apps, _SWITCHED_OFF):
                pause = self._pauses.get(name)
                if name in self._rounds or (pause is not None and pause.lasts(now)):
                    continue
                work = _of(name) if name in apps else _of_others(apps)
                if await lanes.is_due(session, work, now=now):
                    waiting[name] = work
        for name, work in waiting.items():
            self._rounds[name] = asyncio.create_task(self._round(name, work, apps, now))

    async def _round(
        self, name: str, work: Work, apps: Mapping[str, AppConfig], now: datetime
    ) -> bool:
        claim = await lanes.claim(
            self._rt.store,
            work,
            self._rt.owner,
            limit=1 if name in self._pauses else BATCH,
            now=now,
            seconds=CLAIM_SECONDS,
        )
        return await _Round(self, claim, apps).run() if claim.rows else False

    def _ended(self) -> bool:
        """Forget the batches that have ended; whether any got something done."""
        done = {name: task for name, task in self._rounds.items() if task.done()}
        for name in done:
            del self._rounds[name]
        results = [task.result() for task in done.values()]
        return any(results)


class _Round:
    """One claimed batch."""

    def __init__(self, forwarder: Forwarder, claim: Claim, apps: Mapping[str, AppConfig]) -> None:
        self._forwarder = forwarder
        self._store = forwarder._rt.store
        self._claim = claim
        self._apps = apps
        self._sent: list[str] = []
        self._dead: dict[str, str] = {}
        self._retry: dict[str, tuple[datetime, _Trouble]] = {}
        self._back: dict[str, datetime] = {}
        self._expired: dict[str, str] = {}
        self._attempts: list[dict[str, Any]] = []
        """Rows of `forward_attempt`, written when the batch is settled."""
        self._back_again: set[str] = set()
        """Apps whose product takes messages again."""
        self._deadline = monotonic() + ROUND_SECONDS

    async def run(self) -> bool:
        try:
            by_lane: dict[str, list[Outgoing]] = {}
            messages, gone = await read_messages(self._store, self._claim.rows, self._apps)
            self._dead.update(dict.fromkeys(gone, "the event it is about is no longer kept"))
            for message in messages:
                by_lane.setdefault(message.row["lane"], []).append(message)
            gate = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for some in by_lane.values():
                    group.create_task(self._lane(some, gate))
        finally:
            await self._settle()
        return bool(self._sent or self._dead)

    async def _lane(self, messages: Sequence[Outgoing], gate: asyncio.Semaphore) -> None:
        async with gate:
            for position, message in enumerate(messages):
                waits = self._waits(message.app)
                if waits is None and monotonic() < self._deadline:
                    error = await self._post(message, self._apps[message.app])
                    if error is None:
                        self._sent.append(message.row["id"])
                        if self._forwarder._pauses.pop(message.app, None) is not None:
                            self._back_again.add(message.app)
                        continue
                    waits = self._failed(message, error)
                    rest = messages[position + 1 :]
                else:
                    rest = messages[position:]
                for other in rest:
                    self._back[other.row["id"]] = waits or self._forwarder._clock()
                return

    def _waits(self, app: str) -> datetime | None:
        now = self._forwarder._clock()
        if app not in self._apps:
            return now + timedelta(seconds=LONGEST_WAIT)  # switched off: kept, in case it returns
        pause = self._forwarder._pauses.get(app)
        return pause.until if pause is not None and pause.lasts(now) else None

    async def _post(self, message: Outgoing, app: AppConfig) -> _Trouble | None:
        """Post it; returns why it wasn't taken, None if it was."""
        address, headers = envelope_of(message, app, now=self._forwarder._clock())
        url = origin(app.forward_url or "")
        try:
            status = await self._forwarder.post(address, message.body, headers)
        except _UNREACHABLE as error:
            self._attempted(message, None, type(error).__name__)
            self._pause(message.app)
            return _Trouble(f"{url} could not be reached: {type(error).__name__}")
        self._attempted(message, status, None)
        if 200 <= status < 300:
            return None
        if status == 410:  # its address is no more, says the standard: sending is to end
            self._pause(message.app, seconds=LONGEST_WAIT)
            return _Trouble(f"{url} answered 410 Gone", "gone")
        if status in _BUSY or status >= 500:
            self._pause(message.app)
            return _Trouble(f"{url} answered {status}")
        return _Trouble(f"{url} answered {status} to webhook-id {message.id}", "refused")

    def _attempted(self, message: Outgoing, status: int | None, error: str | None) -> None:
        self._attempts.append(
            {
                "id": new_id(),
                "message_id": message.id,
                "at": self._forwarder._clock(),
                "status": status,
                "error": error,
            }
        )

    def _pause(self, app: str, *, seconds: float | None = None) -> None:
        """The product itself is in trouble: another message would fare no better."""
        now = self._forwarder._clock()
        pause = self._forwarder._pauses.get(app)
        if pause is not None and pause.lasts(now):
            return
        failures = pause.failures + 1 if pause is not None else 1
        wait = seconds or min(2.0 ** min(failures, 10), LONGEST_PAUSE)
        url = self._apps[app].forward_url or ""
        until = now + timedelta(seconds=wait)
        self._forwarder._pauses[app] = _Pause(url, failures, until, wait)

    def _failed(self, message: Outgoing, trouble: _Trouble) -> datetime:
        now, row = self._forwarder._clock(), message.row
        if now - row["created_at"] > GIVE_UP_AFTER:
            self._dead[row["id"]] = self._expired[message.app] = (
                f"given up after {GIVE_UP_AFTER.days} days: {trouble.why}"
            )
            about = {"event": message.id, "app": message.app}
            log.warning("forward %s is dead: %s", message.id, trouble.why, extra=about)
            return now
        wait = min(2.0 ** min(row["attempts"], 10), LONGEST_WAIT)
        until = now + timedelta(seconds=wait)
        self._retry[row["id"]] = (until, trouble)
        return until

    async def _settle(self) -> None:
        now = self._forwarder._clock()
        known = {*self._sent, *self._dead, *self._retry}
        back = {
            row["id"]: self._back.get(row["id"], now)
            for row in self._claim.rows
            if row["id"] not in known
        }
        passed(
            "forwarded",
            [str(attempt["message_id"]) for attempt in self._attempts],
            answers=[attempt["status"] or attempt["error"] for attempt in self._attempts],
        )
        async with self._store.write() as session:
            connection = await session.connection()
            ours = update(_OUTBOX).where(
                _OUTBOX.c.id == bindparam("row_id"), _OUTBOX.c.claimed_by == self._claim.token
            )
            if self._attempts:
                await connection.execute(insert(table_of(ForwardAttempt)), self._attempts)
            if self._sent:
                await connection.execute(
                    ours.values(status="sent", settled_at=now, claimed_by=None, error=None),
                    [{"row_id": one} for one in self._sent],
                )
            if self._dead:
                await connection.execute(
                    ours.values(
                        status="dead", settled_at=now, claimed_by=None, error=bindparam("why")
                    ),
                    [{"row_id": one, "why": why[:_MAX_ERROR]} for one, why in self._dead.items()],
                )
            if self._retry:
                await connection.execute(
                    ours.values(
                        claimed_by=None,
                        error=bindparam("why"),
                        refusal=bindparam("what"),
                        next_attempt_at=bindparam("until", type_=_OUTBOX.c.next_attempt_at.type),
                    ),
                    [
                        {
                            "row_id": identifier,
                            "why": trouble.why[:_MAX_ERROR],
                            "what": trouble.refusal,
                            "until": until,
                        }
                        for identifier, (until, trouble) in self._retry.items()
                    ],
                )
            if back:
                await lanes.release_claim(session, _WORK, self._claim.token, back)
            for app, why in self._expired.items():
                await session.execute(_give_up(app, why[:_MAX_ERROR], now))
            for app in self._back_again:
                await session.execute(_bring_forward(app, now))


def _of(app: str) -> Work:
    """What is handed on for `app`: other apps' products neither wait for it nor slow it."""
    return replace(
        _WORK, which=_WORK.which & _OUTBOX.c.lane.startswith(lane_prefix(app), autoescape=True)
    )


def _of_others(apps: Collection[str]) -> Work:
    """What is there for apps that hand nothing on any more: kept, in case that returns."""
    which = _WORK.which
    for app in apps:
        which &= ~_OUTBOX.c.lane.startswith(lane_prefix(app), autoescape=True)
    return replace(_WORK, which=which)


def _bring_forward(app: str, now: datetime) -> Executable:
    """The product is back: what waits for a further try need not wait any longer."""
    return (
        update(_OUTBOX)
        .where(
            _WORK.waiting,
            _OUTBOX.c.lane.startswith(lane_prefix(app), autoescape=True),
            _OUTBOX.c.claimed_by.is_(None),
            _OUTBOX.c.next_attempt_at > now,
        )
        .values(next_attempt_at=now)
    )


def _give_up(app: str, why: str, now: datetime) -> Executable:
    """Whatever else of the app is too old as well: one message has shown that it is in vain."""
    return (
        update(_OUTBOX)
        .where(
            _WORK.waiting,
            _OUTBOX.c.lane.startswith(lane_prefix(app), autoescape=True),
            _OUTBOX.c.created_at < now - GIVE_UP_AFTER,
            _OUTBOX.c.claimed_by.is_(None),
        )
        .values(status="dead", settled_at=now, error=why)
    )
