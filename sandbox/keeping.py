"""The world kept in a file, so that stored tokens and records still fit after a restart.

Webhooks on their way and counts are not kept: to a receiver a restart looks like lost webhooks.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

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


def load(world: World, path: Path) -> bool:
    """Bring the world to what the file says; False if there is none that fits it."""
    if not path.exists():
        return False
    try:
        # The file is our own, readable and writable by its owner alone.
        version, seed, kept = pickle.loads(path.read_bytes())  # noqa: S301
    except (pickle.UnpicklingError, AttributeError, EOFError, TypeError, ValueError):
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
