"""The world kept in a file, so that stored tokens and records still fit after a restart.

Webhooks on their way and counts are not kept: to a receiver a restart looks like lost webhooks.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import pickle
from collections.abc import AsyncIterator, Iterable
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from .world import World

FORMAT = 1
EVERY_SECONDS = 5.0


def save(world: World, path: Path) -> None:
    """Write the file at once or not at all; only its owner can read it."""
    content = pickle.dumps((FORMAT, world.settings.seed, world.kept()), protocol=5)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(content)
    fresh.replace(path)


class _Reading(pickle.Unpickler):
    """Reads a file of our own, which its owner alone can read and write, of 0.1 too."""

    def find_class(self, module: str, name: str) -> Any:
        """In 0.1 the sandbox was a part of `linekeeper`."""
        return super().find_class(module.removeprefix("linekeeper."), name)


def _complete(value: Any, seen: set[int]) -> None:
    """What an earlier version kept lacks the fields that came since: they get their defaults.

    Raises:
        TypeError: one of them has none.
    """
    if id(value) in seen or isinstance(value, (str, bytes, int, float, type(None))):
        return
    seen.add(id(value))
    inside: Iterable[Any] = ()
    if isinstance(value, dict):
        inside = value.values()
    elif isinstance(value, (list, tuple, set)):
        inside = value
    elif is_dataclass(value):
        for each in fields(value):
            if not hasattr(value, each.name):
                object.__setattr__(value, each.name, _default(each))
        inside = [getattr(value, each.name) for each in fields(value)]
    for each in inside:
        _complete(each, seen)


def _default(missing: Field[Any]) -> Any:
    if missing.default_factory is not MISSING:
        return missing.default_factory()
    if missing.default is MISSING:
        raise TypeError(f"{missing.name} has no default")
    return missing.default


def load(world: World, path: Path) -> bool:
    """Bring the world to what the file says; False if there is none that fits it."""
    if not path.exists():
        return False
    try:
        version, seed, kept = _Reading(io.BytesIO(path.read_bytes())).load()
        _complete(kept, set())
    except (pickle.UnpicklingError, ImportError, AttributeError, EOFError, TypeError, ValueError):
        return False
    if (version, seed) != (FORMAT, world.settings.seed):
        return False
    world.bring_back(kept)
    return True


@contextlib.asynccontextmanager
async def keeping(world: World, path: Path | None) -> AsyncIterator[None]:
    """Load at the start, save every few seconds and at the end; nothing without a path."""
    if path is None:
        yield
        return
    load(world, path)
    task = asyncio.create_task(_save_regularly(world, path), name="sandbox keeping")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        save(world, path)


async def _save_regularly(world: World, path: Path) -> None:
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        save(world, path)
