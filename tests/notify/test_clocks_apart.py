"""Machines whose clocks are apart, beside each other on one database."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from linekeeper import clock
from linekeeper.consumer.alive import retire
from tests.notify.conftest import Desk
from tests.notify.test_outage import Turn

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@contextmanager
def off_by(wrong: timedelta) -> Iterator[None]:
    """The clock of the machine that does what is in the block."""

    class Wrong(clock.Clock):
        def utcnow(self) -> datetime:
            return super().utcnow() + wrong

    right = clock.use(Wrong())
    try:
        yield
    finally:
        clock.use(right)


@pytest.mark.parametrize(
    ("first", "second"),
    [(timedelta(), timedelta(minutes=10)), (timedelta(minutes=-10), timedelta())],
    ids=["fast", "slow"],
)
async def test_what_one_machine_is_sending_no_other_sends(
    desk: Desk, first: timedelta, second: timedelta
) -> None:
    if desk.store.is_sqlite:
        pytest.skip("SQLite is one machine's, and that machine's clock counts")
    sending = Turn()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        with off_by(first):
            await desk.open(customer="Acme")
            group.create_task(desk.deliver(owner="first", pacer=sending))
            await sending.waits.wait()
        with off_by(second):
            await desk.deliver(owner="second")
        sending.may_go.set()
    assert len(desk.messages()) == 1


async def test_what_was_taken_over_while_it_waited_for_its_turn_is_not_said_twice(
    desk: Desk,
) -> None:
    """Universe 16034: as the clock was set a day ahead, a consumer that lives counted as dead."""
    sending = Turn()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        await desk.open(customer="Acme")
        group.create_task(desk.deliver(owner="first", pacer=sending))
        await sending.waits.wait()
        await retire(desk.store, "first")
        await desk.deliver(owner="second")
        sending.may_go.set()
    assert len(desk.messages()) == 1
