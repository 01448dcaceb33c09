"""What is changed while all are forecast is neither overwritten nor said to be late."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from linekeeper.implementation.advance import advance_all
from linekeeper.store.tables import Implementation
from tests.implementation.conftest import Office
from tests.implementation.test_slips import slips


class SlowAtFirst(ThreadPoolExecutor):
    """Threads of which the first piece of work takes until it may end."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()
        self.may_end = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._is_first = True

    def submit(self, work: Callable[..., Any], /, *args: Any, **more: Any) -> "Future[Any]":
        if not self._is_first:
            return super().submit(work, *args, **more)
        self._is_first = False

        def slow() -> Any:
            self._loop.call_soon_threadsafe(self.began.set)
            self.may_end.wait()
            return work(*args, **more)

        return super().submit(slow)


@pytest.mark.parametrize(
    ("action", "changed"),
    [
        ("abandon", {"reason": "they went bankrupt"}),
        ("hold", {"reason": "they wait for their budget"}),
        ("skip", {"gate": "kickoff", "reason": "done in the sales talks"}),
    ],
)
async def test_what_was_changed_while_all_were_forecast_is_not_said_to_be_late(
    office: Office, action: str, changed: dict[str, Any]
) -> None:
    started = await office.start()
    office.later(days=2, hours=2)
    threads = SlowAtFirst()
    asyncio.get_running_loop().set_default_executor(threads)
    forecasting = asyncio.create_task(advance_all(office.store, now=office.now))
    await threads.began.wait()
    await office.update(started.progress, action, **changed)
    threads.may_end.set()
    await forecasting
    assert [status for status, text in await slips(office) if "Kickoff" in text] == []
    async with office.store.read() as session:
        implementation = (await session.scalars(select(Implementation))).one()
    assert "Kickoff" not in (implementation.digest or "")
