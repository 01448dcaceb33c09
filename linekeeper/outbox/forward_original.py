"""Forwarding as Makini sends (`FORWARD_FORM` `original`): its body and headers byte for byte.

A product that takes Makini's webhooks goes on with the receiver it has. What the webhooks missed
comes in Makini's form too, signed with Makini's secret, and is marked by a header. Pure.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson

from linekeeper.config import AppConfig
from linekeeper.inbox.headers import RawHeaders
from linekeeper.outbox.forward import signed_headers

RECOVERED = "x-linekeeper-recovered"
CONNECTION = "x-linekeeper-connection"
OLD_KEY = "x-linekeeper-old-key"
PLACE = "{connection}"
"""In a forward URL it stands for Makini's key of the connection, as in the URLs that Makini has."""
_HEX = re.compile(r"(sha256=)?[0-9a-fA-F]{64}")
_OPS = {"inserted": "inserted", "updated": "updated", "deleted": "deleted", "rekeyed": "updated"}


def change_body(data: Mapping[str, Any], op: str) -> bytes:
    """A recovered change as Makini would have said it: `{"event": "assets.updated", "body": […]}`.

    Makini has no word for a record whose key was renamed: it is `updated`, under its new key.
    """
    entity = str(data["entity"]).rpartition("/")[2]
    return orjson.dumps({"event": f"{entity}.{_OPS.get(op, op)}", "body": data["keys"]})


def change_headers(data: Mapping[str, Any]) -> RawHeaders:
    """What marks a recovered change, and says what Makini's form has no place for."""
    headers = [(RECOVERED, "true"), (CONNECTION, str(data["makini_key"]))]
    if data.get("old_key") is not None:
        headers.append((OLD_KEY, str(data["old_key"])))
    return [(name.encode(), quote(value, safe="").encode()) for name, value in headers]


def makini_headers(
    app: AppConfig, identity: str, body: bytes, *, seen_signature: str, now: datetime
) -> RawHeaders:
    """Headers that Makini would have sent with `body`, signed with its first webhook secret.

    `seen_signature` is one it did send: where that is no hex, ours is base64 too.
    """
    secret = next((value.get_secret_value() for value in app.webhook_secrets), "")
    if app.webhook_scheme == "standard":
        signed = signed_headers(identity, body, secret, now=now)
        return [(name.encode(), value.encode()) for name, value in signed.items()]
    headers: RawHeaders = [(b"content-type", b"application/json")]
    if secret:
        digest = hmac.digest(secret.encode("utf-8", "surrogatepass"), body, "sha256")
        is_hex = not seen_signature or _HEX.fullmatch(seen_signature) is not None
        text = digest.hex() if is_hex else base64.b64encode(digest).decode()
        prefix = "sha256=" if seen_signature.startswith("sha256=") else ""
        headers.append((b"x-webhook-signature", f"{prefix}{text}".encode()))
    return headers


def address(url: str, makini_key: str | None) -> str:
    """The forward URL with the connection in its place, if it has one."""
    return url.replace(PLACE, quote(makini_key or "", safe=""))
