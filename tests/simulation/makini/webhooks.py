"""What the model Makini posts: signed bodies in its own spelling, and the times of its retries."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from tests.simulation.makini.truth import Truth

WEBHOOK_SECRET = "mkwh-51c2e8"
RETRY_FIRST = 30.0
RETRY_FOR = 86400.0
SYNCED, NOT_SYNCED = "sync.completed", "sync.failed"
Announcement = tuple[str, str, list[str]]
"""A connection, an event, and the records that it names."""


@dataclass
class Post:
    """One webhook as it will be posted, again and again until it is answered with 200."""

    number: int
    connection: str
    event: str
    path: str
    body: bytes
    headers: dict[str, str]
    keys: list[str]


class Postman:
    """Turns announcements into posts."""

    def __init__(self, truth: Truth, app: str = "default") -> None:
        self.truth = truth
        self.app = app
        self.count = 0

    def compose(self, connection: str, event: str, keys: list[str], at: str) -> Post:
        """The post for one announcement, signed, with an id if this Makini gives ids."""
        self.count += 1
        personality = self.truth.personality
        body: dict[str, Any] = {"event": event, "body": keys}
        if event.startswith("connection."):
            online = "auth" not in event
            body = {
                "event": event,
                "timestamp": at,
                "details": {"status": "online" if online else "auth_required"},
            }
        elif event.startswith("sync."):
            word = "success" if event == SYNCED else "failure"
            body = {"event": event, "timestamp": at, "details": {"status": word}}
        path = f"/webhooks/{self.app}"
        if personality.webhook_connection == "url":
            path += f"/{connection}"
        elif personality.webhook_connection == "connection.id":
            body["connection"] = {"id": connection}
        elif personality.webhook_connection != "none" or not keys:
            name = personality.webhook_connection
            body["connection_id" if name == "none" else name] = connection
        number = self.truth.rng.getrandbits(32)
        identity = f"whd-{self.count:06d}-{number:08x}"
        if personality.webhook_id == "body":
            body["id"] = self.count << 32 | number if personality.number_ids else identity
        raw = json.dumps(body).encode()
        headers = {"content-type": "application/json", "x-webhook-signature": self.sign(raw)}
        if personality.webhook_id == "header":
            headers["x-webhook-id"] = identity
        return Post(self.count, connection, event, path, raw, headers, keys)

    def gathered(self, announced: list[Announcement]) -> list[Announcement]:
        """The announcements, those of one event together where this Makini batches them."""
        if not self.truth.personality.batched:
            return announced
        keys: dict[tuple[str, str], list[str]] = {}
        for connection, event, named in announced:
            keys.setdefault((connection, event), []).extend(named)
        return [(*whose, list(dict.fromkeys(named))) for whose, named in keys.items()]

    def sign(self, raw: bytes, secret: str = WEBHOOK_SECRET) -> str:
        """The signature in this Makini's encoding."""
        personality = self.truth.personality
        digest = hmac.new(secret.encode(), raw, hashlib.sha256).digest()
        text = digest.hex() if personality.signature == "hex" else base64.b64encode(digest).decode()
        return f"sha256={text}" if personality.signature_prefix else text
