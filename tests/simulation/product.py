"""The model product: it takes what is forwarded, checks the signature, and remembers everything."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.simulation.makini.answers import Answer
from tests.simulation.net import Request

FORWARD_SECRET = "whsec_" + base64.b64encode(b"simulated forward key 32 bytes!!").decode()


@dataclass(frozen=True)
class Forwarded:
    """One forward that the product took."""

    at: datetime
    identity: str
    kind: str
    connection: str | None
    makini_key: str | None
    entity: str | None
    keys: tuple[str, ...]
    recovered: bool
    first: bool


class Product:
    """Takes forwards; `down` answers 503."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.down = False
        self.taken: list[Forwarded] = []
        self.seen: dict[str, bytes] = {}
        self.wrong: list[str] = []
        self.answers: list[tuple[datetime, bool]] = []
        """When it was asked to take something, and whether it did."""

    def handle(self, request: Request) -> Answer:
        """One forward."""
        self.answers.append((self._now(), not self.down))
        if self.down:
            return Answer(503)
        identity = request.headers.get("webhook-id", "")
        if not self._is_signed(identity, request):
            self.wrong.append(f"forward {identity or '?'} has no good signature")
            return Answer(401)
        first = identity not in self.seen
        if not first and self.seen[identity] != request.body:
            self.wrong.append(f"forward {identity} came again with another body")
        self.seen[identity] = request.body
        body: dict[str, Any] = json.loads(request.body)
        data = body["data"]
        self.taken.append(
            Forwarded(
                self._now(),
                identity,
                body["type"],
                data.get("connection"),
                data.get("makini_key"),
                data.get("entity"),
                tuple(data.get("keys") or ()),
                bool(data.get("recovered")),
                first,
            )
        )
        return Answer(200)

    def _is_signed(self, identity: str, request: Request) -> bool:
        stamp = request.headers.get("webhook-timestamp", "")
        key = base64.b64decode(FORWARD_SECRET.removeprefix("whsec_"))
        signed = f"{identity}.{stamp}.".encode() + request.body
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        given = request.headers.get("webhook-signature", "").split()
        return bool(identity) and f"v1,{wanted}" in given
