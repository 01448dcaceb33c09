"""Signatures of ours, over what travels through customers' browsers.

The key is made once and kept encrypted in `app_setting`, so it outlives a change of the
encryption keys, and every process signs alike.
"""

import base64
import binascii
import hashlib
import hmac

from sqlmodel import col, select

from linekeeper.clock import token_bytes, utcnow
from linekeeper.store import Store
from linekeeper.store.engine import insert_ignore
from linekeeper.store.tables import AppSetting

NAME = "signing-key"
_MAC = 16


class Signer:
    """Signs bytes for a purpose; what is signed for one is worth nothing for another."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, purpose: str, payload: bytes) -> str:
        """`payload` with its signature, in characters that need no escaping in a URL."""
        mac = self._mac(purpose, payload)
        return base64.urlsafe_b64encode(payload + mac).rstrip(b"=").decode()

    def open(self, purpose: str, text: str) -> bytes | None:
        """The payload again; None for whatever we didn't sign. Total: any text is answered."""
        if not text.isascii() or len(text) > 400:
            return None
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        payload, mac = raw[:-_MAC], raw[-_MAC:]
        return payload if hmac.compare_digest(self._mac(purpose, payload), mac) else None

    def _mac(self, purpose: str, payload: bytes) -> bytes:
        content = purpose.encode() + b"\0" + payload
        return hmac.digest(self._key, content, hashlib.sha256)[:_MAC]


async def load_signer(store: Store) -> Signer:
    """The signer of this database; its key is made at the first call. Raises `KeyProblem`."""
    kept = await _kept(store)
    if kept is None:
        value = store.cipher.encrypt(token_bytes(32).hex())
        async with store.write() as session:
            row = {"name": NAME, "value": value, "updated_at": utcnow()}
            await insert_ignore(store, session, AppSetting, [row])
        kept = await _kept(store)
        assert kept is not None  # it, or another process's, was written a moment ago
    return Signer(bytes.fromhex(store.cipher.decrypt(kept)))


_KEPT = select(col(AppSetting.value)).where(col(AppSetting.name) == NAME)


async def _kept(store: Store) -> str | None:
    async with store.read() as session:
        return await session.scalar(_KEPT)
