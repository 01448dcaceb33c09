"""Whether a delivery is genuine. Pure and total: any bytes give a verdict, never an exception.

Two schemes: Makini's `X-Webhook-Signature`, an HMAC-SHA256 of the body (Makini docs: hex in one
revision, base64 in another), and Standard Webhooks (standardwebhooks.com), which signs id and
time as well. Signatures are compared in constant time (MISSION W5).
"""

import binascii
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import orjson

from linekeeper.config import WebhookScheme

Cause = Literal[
    "no_secret",
    "no_signature",
    "malformed_signature",
    "bad_signature",
    "no_id",
    "bad_timestamp",
    "stale_timestamp",
]
Headers: TypeAlias = Mapping[bytes, bytes]
"""Headers, by lower-case name."""

TOLERANCE_SECONDS = 300
"""How far a signed time may be from ours, both ways (Standard Webhooks)."""
MAX_SIGNATURES = 32
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Accepted:
    """Somebody who has one of the secrets signed it."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Its signature is invalid, for this reason."""

    cause: Cause


Verdict: TypeAlias = Accepted | Rejected
ACCEPTED = Accepted()


class Verifier:
    """The check for one app; made once, asked for each delivery. Never shows its secrets."""

    __slots__ = ("_keys", "_reserialized", "_standard")

    def __init__(
        self, scheme: WebhookScheme, secrets: Iterable[str], *, reserialized: bool = False
    ) -> None:
        self._standard = scheme == "standard"
        self._reserialized = reserialized
        keys = [key for secret in secrets for key in _keys(secret, standard=self._standard)]
        self._keys = tuple(dict.fromkeys(keys))

    def verify(self, headers: Headers, body: bytes, *, now: float) -> Verdict:
        """The verdict on `body` as sent with `headers` at `now`, in seconds since 1970."""
        if not self._keys:
            return Rejected("no_secret")
        if self._standard:
            return self._verify_standard(headers, body, now)
        return self._verify_makini(headers, body)

    def _verify_makini(self, headers: Headers, body: bytes) -> Verdict:
        value = headers.get(b"x-webhook-signature")
        if not value:
            return Rejected("no_signature")
        given = _digest(value)
        if given is None:
            return Rejected("malformed_signature")
        if self._signed(body, given):
            return ACCEPTED
        if self._reserialized:
            compact = _compact(body)
            if compact is not None and self._signed(compact, given):
                return ACCEPTED
        return Rejected("bad_signature")

    def _verify_standard(self, headers: Headers, body: bytes, now: float) -> Verdict:
        identity = headers.get(b"webhook-id") or headers.get(b"svix-id")
        stamp = headers.get(b"webhook-timestamp") or headers.get(b"svix-timestamp")
        value = headers.get(b"webhook-signature") or headers.get(b"svix-signature")
        if not value:
            return Rejected("no_signature")
        if not identity:
            return Rejected("no_id")
        if stamp is None or not (stamp.isdigit() and len(stamp) <= 15):
            return Rejected("bad_timestamp")
        given = _versioned(value)
        if not given:
            return Rejected("malformed_signature")
        content = b"%b.%b.%b" % (identity, stamp, body)
        if not any(self._signed(content, digest) for digest in given):
            return Rejected("bad_signature")
        is_fresh = abs(now - int(stamp)) <= TOLERANCE_SECONDS
        return ACCEPTED if is_fresh else Rejected("stale_timestamp")

    def _signed(self, content: bytes, given: bytes) -> bool:
        good = False
        for key in self._keys:
            good |= hmac.compare_digest(hmac.digest(key, content, "sha256"), given)
        return good


def _keys(secret: str, *, standard: bool) -> list[bytes]:
    """The keys a configured secret may stand for; none for an empty one.

    Standard Webhooks secrets are base64, with or without `whsec_`; one that was typed in as plain
    text counts as itself.
    """
    if not standard:
        return [key] if (key := secret.encode("utf-8", "surrogatepass")) else []
    text = secret.removeprefix("whsec_").encode("utf-8", "surrogatepass")
    return [key for key in (_base64(text), text) if key]


def _digest(value: bytes) -> bytes | None:
    value = value.strip()
    if value[:7].lower() == b"sha256=":
        value = value[7:]
    if len(value) == 2 * _DIGEST_BYTES:
        try:
            return binascii.unhexlify(value)
        except binascii.Error:
            return None
    return _sha256_base64(value)


def _versioned(value: bytes) -> list[bytes]:
    """The `v1` signatures of a space separated list; others, and malformed ones, are left out."""
    signatures = []
    for part in value.split(None, MAX_SIGNATURES)[:MAX_SIGNATURES]:
        version, _, text = part.partition(b",")
        digest = _sha256_base64(text) if version == b"v1" else None
        if digest is not None:
            signatures.append(digest)
    return signatures


def _sha256_base64(text: bytes) -> bytes | None:
    digest = _base64(text) if len(text) <= 2 * _DIGEST_BYTES else None
    return digest if digest is not None and len(digest) == _DIGEST_BYTES else None


def _base64(text: bytes) -> bytes | None:
    """Either alphabet, with or without padding; None for anything else."""
    text = text.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        return None


def _compact(body: bytes) -> bytes | None:
    try:
        return orjson.dumps(orjson.loads(body))
    except (ValueError, TypeError, RecursionError):
        return None
