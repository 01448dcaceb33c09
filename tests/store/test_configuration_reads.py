"""What operators set is read once for all who ask at once, and taken apart only if it changed."""

import asyncio
from typing import Any

from sqlalchemy import event

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.orchestrator import Blocks
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.configuration import SharedConfiguration, save_blocks


async def save(store: Store, *apps: AppConfig) -> None:
    await save_blocks(store, Blocks(apps=apps), now=utcnow())


async def test_the_loops_of_a_process_read_what_is_set_once_between_them(
    store: Store, settings: Settings
) -> None:
    await save(store, AppConfig(name="default", api_url="https://first.example"))
    rt = Runtime(settings, store)
    reads = 0

    def count(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal reads
        reads += "app_setting" in statement

    event.listen(store.engine.sync_engine, "before_cursor_execute", count)
    first, *others = await asyncio.gather(*(rt.configuration() for _ in range(20)))

    assert reads == 1
    assert all(each is first for each in others)


async def test_what_is_the_same_as_before_is_not_taken_apart_again_and_a_change_is_seen(
    store: Store, settings: Settings
) -> None:
    await save(store, AppConfig(name="default", api_url="https://first.example"))
    shared = SharedConfiguration(store, settings)
    before = await shared.read()

    shared._read_at = float("-inf")  # as after five seconds
    assert await shared.read() is before

    await save(store, AppConfig(name="default", api_url="https://second.example"))
    shared._read_at = float("-inf")
    assert (await shared.read()).apps["default"].api_url == "https://second.example"
