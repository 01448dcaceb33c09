"""Which keys of an event are done, as it is stored: one bit a key, in the body's order. Pure."""

from collections.abc import Collection, Sequence


def keys_left(keys: Sequence[str], done: bytes | None) -> list[str]:
    """Those of an event's `keys` that no claim has read yet."""
    return [key for position, key in enumerate(keys) if not _is_set(done, position)]


def mark_done(keys: Sequence[str], done: bytes | None, read: Collection[str]) -> bytes:
    """What to store once those of `keys` that are in `read` are done as well."""
    marks = bytearray(done or b"").ljust((len(keys) + 7) // 8, b"\0")
    for position, key in enumerate(keys):
        if key in read:
            marks[position // 8] |= 1 << position % 8
    return bytes(marks)


def _is_set(done: bytes | None, position: int) -> bool:
    if done is None or position // 8 >= len(done):
        return False
    return bool(done[position // 8] >> position % 8 & 1)
