"""How seldom Python looks for garbage in a process of ours."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

COLLECT_AFTER_OBJECTS = 50_000
"""New objects before Python looks for cycles among them, in place of 700: a page of records makes
thousands that are gone a moment later."""


def collect_seldom() -> None:
    """Look for garbage after so many new objects."""
    gc.set_threshold(COLLECT_AFTER_OBJECTS, *gc.get_threshold()[1:])


@contextmanager
def importing() -> Iterator[None]:
    """What is imported within the block stays: nobody looks for garbage in it, then or later."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
