"""Encryption to an age recipient (age-encryption.org/v1): what `age --decrypt` opens. Pure.

A small, fixed format, so that whoever gets the tokens back needs nothing of Linekeeper's.
"""

import base64
import hmac
import os

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CHUNK = 64 * 1024
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


class BadRecipient(ValueError):
    """That is no age recipient."""


def recipient(text: str) -> X25519PublicKey:
    """The public key in `age1…` (bech32). Raises `BadRecipient`."""
    wrong = BadRecipient("give the public key that age-keygen shows: age1…")
    text = text.strip().lower()
    prefix, _, coded = text.rpartition("1")
    if prefix != "age" or any(char not in _BECH32 for char in coded):
        raise wrong
    values = [_BECH32.index(char) for char in coded]
    high = [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]
    if len(values) < 6 or _checksum([*high, *values]) != 1:
        raise wrong
    key = _bytes_of(values[:-6])
    if len(key) != 32:
        raise wrong
    return X25519PublicKey.from_public_bytes(key)


def encrypt(content: bytes, to: X25519PublicKey) -> bytes:
    """`content` as an age file for `to`."""
    file_key = os.urandom(16)
    ephemeral = X25519PrivateKey.generate()
    share = _raw(ephemeral.public_key())
    shared = ephemeral.exchange(to)
    wrap = _derive(shared, salt=share + _raw(to), info=b"age-encryption.org/v1/X25519")
    body = ChaCha20Poly1305(wrap).encrypt(bytes(12), file_key, None)
    header = b"age-encryption.org/v1\n-> X25519 %b\n%b\n---" % (_base64(share), _base64(body))
    key = _derive(file_key, salt=b"", info=b"header")
    mac = _base64(hmac.digest(key, header, "sha256"))
    nonce = os.urandom(16)
    stream = _stream(content, _derive(file_key, salt=nonce, info=b"payload"))
    return b"%b %b\n%b%b" % (header, mac, nonce, stream)


def _stream(content: bytes, key: bytes) -> bytes:
    cipher = ChaCha20Poly1305(key)
    chunks = [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)] or [b""]
    sealed = []
    for number, chunk in enumerate(chunks):
        last = b"\x01" if number == len(chunks) - 1 else b"\x00"
        sealed.append(cipher.encrypt(number.to_bytes(11, "big") + last, chunk, None))
    return b"".join(sealed)


def _derive(secret: bytes, *, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret)


def _raw(key: X25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _base64(value: bytes) -> bytes:
    return base64.b64encode(value).rstrip(b"=")


def _checksum(values: list[int]) -> int:
    total = 1
    for value in values:
        top = total >> 25
        total = (total & 0x1FFFFFF) << 5 ^ value
        for position, generator in enumerate(_GENERATORS):
            total ^= generator if (top >> position) & 1 else 0
    return total


def _bytes_of(values: list[int]) -> bytes:
    number, bits, decoded = 0, 0, bytearray()
    for value in values:
        number, bits = (number << 5 | value) & 0xFFF, bits + 5
        if bits >= 8:
            bits -= 8
            decoded.append(number >> bits & 0xFF)
    return bytes(decoded)
