"""Encryption of tokens and settings at rest (MultiFernet: the first key encrypts, all decrypt)."""

import hashlib
import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from linekeeper.private import make_private_folder, sync

SEALED = b"\x00lk1"
"""How sealed bytes begin; no JSON and no text does."""
_NONCE = 12


class KeyProblem(Exception):
    """The encryption keys are missing, malformed, or not those this database was written with."""


class Cipher:
    """Encrypts text with the first key; decrypts what any of the keys encrypted."""

    __slots__ = ("_fernet", "_first", "_keys", "_sealing")

    def __init__(self, keys: list[str]) -> None:
        if not keys:
            raise KeyProblem(
                "no encryption key: set LINEKEEPER_ENCRYPTION_KEYS, or put the keys back"
            )
        try:
            fernets = [Fernet(key) for key in keys]
        except ValueError as error:
            raise KeyProblem(
                "LINEKEEPER_ENCRYPTION_KEYS: each key is 32 url-safe base64-encoded bytes"
            ) from error
        self._fernet, self._first = MultiFernet(fernets), fernets[0]
        self._keys = tuple(key.encode() for key in keys)
        self._sealing = [
            AESGCM(hmac.digest(key, b"webhook bodies", "sha256")) for key in self._keys
        ]

    @property
    def first_fingerprint(self) -> str:
        """What the key that encrypts is known by."""
        return fingerprint(self._keys[0].decode())

    def encrypt(self, text: str) -> str:
        """`text`, readable only with one of the keys."""
        return self._fernet.encrypt(text.encode()).decode()

    def decrypt(self, token: str) -> str:
        """The text again. Raises `KeyProblem` if none of the keys fits."""
        try:
            return self._fernet.decrypt(token.encode()).decode()
        except InvalidToken as error:
            raise KeyProblem(
                "this database was encrypted with another key: put the key it was written with "
                "into LINEKEEPER_ENCRYPTION_KEYS (comma list; the first one encrypts)"
            ) from error

    def opens(self, token: str) -> bool:
        try:
            self._fernet.decrypt(token.encode())
        except InvalidToken:
            return False
        return True

    def is_first(self, token: str) -> bool:
        """Whether `token` is under the first key."""
        try:
            self._first.decrypt(token.encode())
        except InvalidToken:
            return False
        return True

    def seal(self, content: bytes) -> bytes:
        """`content`, readable only with one of the keys (AES-GCM: 32 bytes more, a few µs)."""
        nonce = os.urandom(_NONCE)
        return SEALED + nonce + self._sealing[0].encrypt(nonce, content, SEALED)

    def unseal(self, kept: bytes) -> bytes:
        """The content again; what was never sealed as it is.

        Raises `KeyProblem` if none of the keys fits.
        """
        if not is_sealed(kept):
            return kept
        for key in self._sealing:
            if (content := _opened(key, kept)) is not None:
                return content
        raise KeyProblem("a webhook's body was encrypted with another key")

    def is_sealed_by_first(self, kept: bytes) -> bool:
        """Whether `kept` is sealed under the first key."""
        return is_sealed(kept) and _opened(self._sealing[0], kept) is not None

    def seals(self, purpose: str) -> "list[hmac.HMAC]":
        """One seal to feed for each key, the one that encrypts first: nobody else can make them.

        What is sealed for one purpose is worth nothing for another.
        """
        return [
            hmac.new(hmac.digest(key, purpose.encode(), "sha256"), digestmod="sha256")
            for key in self._keys
        ]

    def rotate(self, token: str) -> str:
        """The same text under the first key. Raises `KeyProblem` if none of the keys fits."""
        return self.encrypt(self.decrypt(token))


def is_sealed(kept: bytes) -> bool:
    """Whether `kept` was made by `Cipher.seal`. Pure."""
    return kept.startswith(SEALED)


def _opened(key: AESGCM, kept: bytes) -> bytes | None:
    head = len(SEALED)
    try:
        return key.decrypt(kept[head : head + _NONCE], kept[head + _NONCE :], SEALED)
    except (InvalidTag, ValueError):
        return None


def fingerprint(key: str) -> str:
    """What a key is known by, without giving it away: 12 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def read_or_make_keys(file: Path, *, first: str | None = None) -> list[str]:
    """The keys of `file` (comma or line separated); made with mode 0600 if it doesn't exist.

    What is made holds `first`, or a new key.
    The file appears whole or not at all, and two processes that make it at once end up with the
    same keys.
    """
    if not file.exists():
        make_private_folder(file.parent)
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write((first or Fernet.generate_key().decode()) + "\n")
        sync(draft)
        try:
            os.link(draft, file)
            sync(file.parent)
        except FileExistsError:
            pass  # another process was first: its keys count
        finally:
            draft.unlink()
    return [key.strip() for key in file.read_text().replace("\n", ",").split(",") if key.strip()]
