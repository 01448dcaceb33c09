"""Long sequences in portions that a statement, or a request, can take."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def chunked(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """`items` in order, at most `size` (at least 1) at a time; nothing for no items."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
