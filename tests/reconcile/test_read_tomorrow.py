"""A record that was read by a clock that was ahead takes over today what changes today."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import select

from linekeeper.runtime import Runtime
from linekeeper.store.tables import Record
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, rt, server
from tests.reconcile.conftest import deliver, feed, process, run
from tests.reconcile.test_cadence import of
from tests.reconcile.test_clock_ahead import DAY, off

__all__ = ["rt", "server"]

Change = Callable[[str], None]


@pytest.fixture(params=["no time", "a time of the day alone"])
def change(request: pytest.FixtureRequest, server: Peer) -> Change:
    """Change the one asset; its time doesn't say so, as there is none, or it is the day's."""
    time: dict[str, Any] = {} if request.param == "no time" else {"updatedAt": "2026-03-02"}

    def to(name: str) -> None:
        record = {"key": "1", **time, "name": name}
        server.answer("GET", ASSETS, of(record))
        server.answer("GET", f"{ASSETS}/1", {"data": record})

    to("as it was")
    return to


async def digest(rt: Runtime) -> str:
    async with rt.store.read() as session:
        return (await session.scalars(select(Record))).one().hash


async def read_tomorrow(rt: Runtime, change: Change) -> str:
    """The asset is read for a webhook by a machine whose clock is a day ahead; its digest."""
    await run(rt)
    change("read tomorrow")
    await deliver(rt, "k1", ["1"])
    with off(DAY):
        await process(rt)
    return await digest(rt)


async def test_a_poll_brings_what_changed_and_has_it_handed_on(rt: Runtime, change: Change) -> None:
    before = await read_tomorrow(rt, change)
    change("changed")
    await run(rt)
    assert await digest(rt) != before
    assert [each.recovered for each in await feed(rt)] == [False, True]


async def test_a_webhook_brings_what_changed(rt: Runtime, change: Change) -> None:
    before = await read_tomorrow(rt, change)
    change("changed")
    await deliver(rt, "k1", ["1"])
    await process(rt)
    assert await digest(rt) != before
    assert [each.recovered for each in await feed(rt)] == [False, False]


async def test_a_clock_that_is_behind_takes_over_what_changes_meanwhile(
    rt: Runtime, change: Change
) -> None:
    await run(rt)
    before = await digest(rt)
    change("changed")
    with off(-DAY):
        await deliver(rt, "k1", ["1"])
        await process(rt)
    assert await digest(rt) != before
