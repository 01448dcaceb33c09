"""A store that is cancelled while it is closed gives all its connections back all the same."""

import asyncio
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import event, text

from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.cancelling import CancelledAt


async def closed(folder: Path, *numbers: int) -> tuple[int, bool]:
    """Close a store that has connections, cancelled there; how often closing it waits, and
    whether it was cancelled."""
    settings = Settings(
        home=folder, encryption_keys=[SecretStr(Fernet.generate_key().decode())], _env_file=None
    )
    store, made = Store.open(settings), []
    event.listen(store.engine.sync_engine, "connect", lambda driver, _: made.append(driver))
    async with store.read() as first, store.read() as second, store.read() as third:
        for session in (first, second, third):
            await session.execute(text("SELECT 1"))
    closing = CancelledAt(store.close(), *numbers)

    async def close() -> None:
        await closing

    (ending,) = await asyncio.gather(asyncio.create_task(close()), return_exceptions=True)
    assert len(made) == 3
    still_open = [driver for driver in made if driver._connection._connection is not None]
    for driver in still_open:  # else the garbage collector does
        await driver._connection.close()
    assert still_open == []
    return closing.waits, isinstance(ending, asyncio.CancelledError)


@pytest.mark.parametrize("apart", [1, 2])
async def test_whenever_closing_is_cancelled_every_connection_is_closed(
    tmp_path: Path, apart: int
) -> None:
    waits, cancelled = await closed(tmp_path / "home")
    assert not cancelled
    for number in range(1, waits + 1):
        _, cancelled = await closed(tmp_path / f"home-{number}", number, number + apart)
        assert cancelled


@pytest.mark.parametrize("pool", [4, 20])
async def test_who_is_still_at_work_when_the_store_is_closed_leaves_nothing_open(
    tmp_path: Path, pool: int
) -> None:
    """As a task that stores what must not be lost, though whoever began it is cancelled."""
    key = SecretStr(Fernet.generate_key().decode())
    settings = Settings(home=tmp_path, encryption_keys=[key], database_pool=pool, _env_file=None)
    store, made = Store.open(settings), []
    event.listen(store.engine.sync_engine, "connect", lambda driver, _: made.append(driver))
    async with store.read() as reads, store.write() as writes:
        await reads.execute(text("SELECT 1"))
        await writes.execute(text("SELECT 1"))
        await store.close()
    still_open = [driver for driver in made if driver._connection._connection is not None]
    for driver in still_open:
        await driver._connection.close()
    assert (len(made), still_open) == (2, [])
