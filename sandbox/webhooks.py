"""Webhooks going out: signed, retried, and spoilt on demand."""

from __future__ import annotations

import asyncio
import base64
import heapq
import hmac
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import httpx
import httpx_aiohttp
import orjson

from .fleet import Connection, seeded
from .records import iso
from .settings import Settings

Fate = Literal["pending", "delivered", "dropped", "gave up", "not configured", "unannounced"]

FIRST_RETRY_SECONDS = 30.0
GIVE_UP_SECONDS = 86_400.0
AT_ONCE = 64
QUEUE_LIMIT = 200_000
LOG_LIMIT = 200_000
FAULTS = ("drop", "duplicate", "reorder", "delay", "forge")


@dataclass(slots=True)
class Sent:
    """One webhook and what became of it; times are seconds since 1970."""

    id: str
    connection: str
    event: str
    keys: tuple[str, ...]
    created_at: float
    fate: Fate = "pending"
    copies: int = 1
    forged: bool = False
    attempts: int = 0
    statuses: list[int] = field(default_factory=list)
    delivered_at: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "keys": list(self.keys),
            "created_at": iso(int(self.created_at * 1e6)),
            "dropped": self.fate == "dropped",
            "duplicated": self.copies > 1,
            "delivered_at": (
                None if self.delivered_at is None else iso(int(self.delivered_at * 1e6))
            ),
        }


@dataclass(slots=True)
class _Copy:
    """One POST to be made, again and again until it is answered with 200."""

    sent: Sent
    url: str
    body: bytes
    first_due: float
    attempt: int = 0


class Webhooks:
    """The sender. `start` and `stop` it with the server; everything else works at any time."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = seeded(settings.seed, "webhooks")
        self._queue: list[tuple[float, int, _Copy]] = []
        self._numbers = 0
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()
        self._pump: asyncio.Task[None] | None = None
        self._client: httpx.AsyncClient | None = None
        self.shares: dict[str, float] = dict.fromkeys(FAULTS, 0.0)
        self.log: deque[Sent] = deque(maxlen=LOG_LIMIT)
        self.counts: Counter[str] = Counter()

    @property
    def outstanding(self) -> int:
        """Copies not yet delivered or given up."""
        return len(self._queue) + len(self._running)

    async def start(self) -> None:
        self._client = httpx_aiohttp.HttpxAiohttpClient(
            timeout=self._settings.webhook_timeout, verify=False, trust_env=False
        )
        self._pump = asyncio.create_task(self._run(), name="sandbox webhooks")

    async def stop(self) -> None:
        tasks = [task for task in (self._pump, *self._running) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    def records(
        self, connection: Connection, entity: str, operation: str, keys: Sequence[str]
    ) -> None:
        """Announce record keys: `{"event": "assets.updated", "body": [keys]}`, nothing else."""
        plural = entity.split("/")[1]
        words = plural.split("-")
        spelled = (
            plural,
            "_".join(words),
            words[0] + "".join(word.title() for word in words[1:]),
        )[connection.index % 3]
        event = f"{spelled}.{operation}"
        suffix = f"/{connection.key}" if self._settings.webhook_per_connection else ""
        fate: Fate = "pending" if connection.readable else "unannounced"
        content = {"event": event, "body": keys}
        self._emit(connection.key, event, content, keys=tuple(keys), suffix=suffix, fate=fate)

    def about(self, connection: Connection, event: str, details: dict[str, Any]) -> None:
        """Announce something about the connection itself, with id, time and details."""
        body = {
            "id": self._new_id("evt"),
            "type": event,
            "timestamp": iso(int(self._clock() * 1e6)),
            "connection_id": connection.id,
            "details": details,
        }
        self._emit(connection.key, event, body)

    def raw(self, connection: str, event: str, body: object, *, path: str = "") -> None:
        """Send whatever a test wants to send, signed like everything else."""
        self._emit(connection, event, body, suffix=path)

    def sign(self, body: bytes) -> str:
        """What `X-Webhook-Signature` says of this body."""
        digest = hmac.digest(self._settings.webhook_secret.encode(), body, "sha256")
        if self._settings.webhook_encoding == "base64":
            return base64.b64encode(digest).decode()
        return digest.hex()

    def _headers(self, copy: _Copy) -> dict[str, str]:
        """The signature, by the scheme that is set; that of a forged webhook is wrong."""
        headers = {"Content-Type": "application/json", "User-Agent": "Makini-Sandbox"}
        if self._settings.webhook_scheme == "makini":
            signature = self.sign(copy.body[::-1] if copy.sent.forged else copy.body)
            return headers | {"X-Webhook-Signature": signature}
        stamp = str(int(self._clock()))
        secret = self._settings.webhook_secret
        key = (
            base64.b64decode(secret.removeprefix("whsec_"))
            if secret.startswith("whsec_")
            else secret.encode()
        )
        if copy.sent.forged:
            key = key[::-1] + b"?"
        signed = f"{copy.sent.id}.{stamp}.".encode() + copy.body
        digest = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
        return headers | {
            "webhook-id": copy.sent.id,
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,{digest}",
        }

    def _new_id(self, kind: str) -> str:
        """An id that no run before had either: receivers remember ids for weeks."""
        self._numbers += 1
        return f"{kind}_{int(self._clock() * 1e6):014x}{self._numbers:06x}"

    def _emit(
        self,
        connection: str,
        event: str,
        content: object,
        *,
        keys: tuple[str, ...] = (),
        suffix: str = "",
        fate: Fate = "pending",
    ) -> None:
        self._numbers += 1
        body = orjson.dumps(content)
        identity = content.get("id") if isinstance(content, dict) else None
        sent = Sent(str(identity or self._new_id("msg")), connection, event, keys, self._clock())
        self.log.append(sent)
        self.counts["emitted"] += 1
        if fate == "pending" and self._settings.webhook_url is None:
            fate = "not configured"
        elif fate == "pending" and self._happens("drop"):
            fate = "dropped"
        if fate != "pending":
            self._end(sent, fate)
            return
        url = self._settings.webhook_url or ""
        if self._happens("forge"):
            self._forge(sent, url.rstrip("/") + suffix, body)
        sent.copies = 2 if self._happens("duplicate") else 1
        for copy in range(sent.copies):
            wait = 0.05 * copy
            if self._happens("reorder"):
                wait += self._chance.uniform(0.2, 2.0)
            if self._happens("delay"):
                wait += self._chance.uniform(5.0, 60.0) * min(1.0, self._settings.retry_scale)
            due = self._clock() + wait
            self._push(due, _Copy(sent, url.rstrip("/") + suffix, body, due))

    def _forge(self, like: Sent, url: str, body: bytes) -> None:
        """Somebody else's POST beside the real one: altered, with a signature that is wrong."""
        forged = Sent(f"forged {like.id}", like.connection, like.event, (), self._clock())
        forged.forged = True
        self.log.append(forged)
        self.counts["forged"] += 1
        due = self._clock()
        self._push(due, _Copy(forged, url, body.replace(b"{", b'{"forged":true,', 1), due))

    def _happens(self, fault: str) -> bool:
        share = self.shares[fault]
        return share > 0 and self._chance.random() < share

    def _push(self, due: float, copy: _Copy) -> None:
        if len(self._queue) >= QUEUE_LIMIT:
            self._end(copy.sent, "gave up")
            return
        self._numbers += 1
        heapq.heappush(self._queue, (due, self._numbers, copy))
        self._wake.set()

    def _end(self, sent: Sent, fate: Fate) -> None:
        if sent.fate == "pending":
            sent.fate = fate
            self.counts[fate] += 1

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            wait = self._queue[0][0] - self._clock() if self._queue else None
            if wait is not None and wait <= 0:
                await self._slots.acquire()
                _, _, copy = heapq.heappop(self._queue)
                task = asyncio.create_task(self._attempt(copy))
                self._running.add(task)
                task.add_done_callback(self._finished)
                continue
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._slots.release()

    async def _attempt(self, copy: _Copy) -> None:
        assert self._client is not None
        copy.attempt += 1
        copy.sent.attempts += 1
        self.counts["attempts"] += 1
        try:
            answer = await self._client.post(
                copy.url,
                content=copy.body,
                headers=self._headers(copy),
            )
            status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL):
            status = 0
        if len(copy.sent.statuses) < 50:
            copy.sent.statuses.append(status)
        now = self._clock()
        if status == 200:
            copy.sent.delivered_at = copy.sent.delivered_at or now
            self._end(copy.sent, "delivered")
        elif copy.sent.forged:
            self._end(copy.sent, "gave up")
        else:
            scale = self._settings.retry_scale
            due = now + FIRST_RETRY_SECONDS * 2 ** min(copy.attempt - 1, 40) * scale
            if due - copy.first_due > GIVE_UP_SECONDS * scale:
                self._end(copy.sent, "gave up")
            else:
                self._push(due, copy)
