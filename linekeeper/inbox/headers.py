"""The headers a webhook came with, as far as they are Makini's. Pure.

Kept only where the product gets webhooks as Makini sends them (`FORWARD_FORM` `original`).
"""

from collections.abc import Iterable
from typing import TypeAlias

import orjson

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

_OF_THE_WAY = frozenset(
    {
        # RFC 9110, 7.6.1: they are about one connection between two machines.
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        # About the message on this way, and set anew on the next.
        b"host",
        b"content-length",
        b"expect",
        # Of our own proxies, or secrets of this address that are nobody else's.
        b"forwarded",
        b"via",
        b"authorization",
        b"cookie",
    }
)
_OF_OUR_PROXIES = (b"x-forwarded-", b"x-real-ip", b"x-amzn-", b"x-envoy-", b"cf-")
_MOST_BYTES = 16_384


def keep_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Those of Makini, in their order, for the column `webhook_event.headers`."""
    kept = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name.lower() not in _OF_THE_WAY and not name.lower().startswith(_OF_OUR_PROXIES)
    ]
    packed = orjson.dumps(kept)
    return packed if len(packed) <= _MOST_BYTES else b"[]"


def kept_headers(packed: bytes | None) -> RawHeaders:
    """What `keep_headers` kept; empty where nothing was."""
    if not packed:
        return []
    return [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in orjson.loads(packed)
    ]


def signature_of(headers: RawHeaders) -> str:
    """The signature Makini sent, empty if none: what it is encoded in can be seen in it."""
    return next(
        (value.decode("latin-1") for name, value in headers if name == b"x-webhook-signature"), ""
    )
