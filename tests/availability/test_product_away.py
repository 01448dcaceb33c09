"""The product took nothing for longer than the incident about it is open."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

import pytest

from linekeeper.availability.decide import WaitedFor
from linekeeper.availability.service import read_month
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Connection, ForwardAttempt, Outbox
from linekeeper.sweep.webhooks import watch_stream
from tests.managed import managed

MINUTE = timedelta(minutes=1)
LONG_AGO = timedelta(hours=5)
NOW = (utcnow().replace(day=1) - timedelta(days=15)).replace(hour=12)
"""In the middle of a month: figures are of a month, and what is counted here spans hours."""


@pytest.fixture
async def rt(settings: Settings) -> AsyncIterator[Runtime]:
    """A runtime with an app whose Makini nobody asks for anything."""
    async with Runtime.open(
        managed(settings, "http://127.0.0.1:9", forward_url="http://127.0.0.1:9")
    ) as runtime:
        yield runtime


async def planted(rt: Runtime, now: datetime) -> str:
    """One connection that was well for five hours; the ordering_key of its messages."""
    async with rt.store.write() as session:
        connection = Connection(
            app="default",
            makini_key="k",
            name="ECC",
            slug="ecc",
            provider="SAP",
            setup="live",
            health="healthy",
            created_at=now - LONG_AGO,
        )
        session.add(connection)
        await session.flush()
        return f"forward:default/{connection.id}"


async def message(
    rt: Runtime,
    ordering_key: str,
    key: str,
    *,
    tried_at: Sequence[datetime] = (),
    **columns: object,
) -> None:
    """One message for the product, which did not take it at `tried_at`."""
    async with rt.store.write() as session:
        session.add(
            Outbox(
                channel="forward",
                dedupe_key=f"forward:{key}",
                ordering_key=ordering_key,
                payload={"event": key},
                attempts=len(tried_at),
                **columns,
            )
        )
        session.add_all(ForwardAttempt(message_id=key, at=at, status=503) for at in tried_at)


async def minutes_of_product(rt: Runtime, now: datetime) -> float:
    month = await read_month(rt.store, f"{now:%Y-%m}", now=now)
    [line] = month.lines
    return line.minutes.get(WaitedFor.product, 0)


async def test_it_counts_from_the_first_message_that_was_tried_in_vain(rt: Runtime) -> None:
    """Its app was out of the settings while the first incident was open: another is opened."""
    now = NOW
    ordering_key = await planted(rt, now)
    written = now - 120 * MINUTE
    await message(rt, ordering_key, "1", created_at=written, tried_at=[written, now - 9 * MINUTE])
    await message(rt, ordering_key, "2", created_at=now - 110 * MINUTE)
    assert await watch_stream(rt, now)
    assert round(await minutes_of_product(rt, now)) == 120
    later = now + 30 * MINUTE
    await message(
        rt, f"{ordering_key}x", "3", created_at=now, status="sent", settled_at=now + MINUTE
    )
    await watch_stream(rt, later)
    assert round(await minutes_of_product(rt, later)) == 150, "it is open since, whatever it took"


async def test_it_does_not_count_from_when_a_message_was_written_that_nobody_tried(
    rt: Runtime,
) -> None:
    """Its app was out of the settings for an hour, and the product away when it was back."""
    now = NOW
    ordering_key = await planted(rt, now)
    tried = [now - 6 * MINUTE, now - 5 * MINUTE]
    await message(rt, ordering_key, "1", created_at=now - 60 * MINUTE)
    await message(rt, f"{ordering_key}x", "2", created_at=now - 50 * MINUTE, tried_at=tried)
    assert await watch_stream(rt, now)
    assert round(await minutes_of_product(rt, now)) == 6


async def test_it_counts_from_the_last_message_that_the_product_took(rt: Runtime) -> None:
    now = NOW
    ordering_key = await planted(rt, now)
    written = now - 120 * MINUTE
    await message(rt, ordering_key, "1", created_at=written, tried_at=[written])
    await message(
        rt, f"{ordering_key}x", "2", created_at=now - 50 * MINUTE, status="sent",
        settled_at=now - 40 * MINUTE,
    )  # fmt: skip
    assert await watch_stream(rt, now)
    assert round(await minutes_of_product(rt, now)) == 40


async def test_what_was_never_tried_says_nothing_of_the_product(rt: Runtime) -> None:
    """Universe 30796: no consumer was there for half an hour, and that was the product's time."""
    now = NOW
    ordering_key = await planted(rt, now)
    await message(rt, ordering_key, "1", created_at=now - 120 * MINUTE)
    assert await watch_stream(rt, now)
    assert round(await minutes_of_product(rt, now)) == 0
    later = now + 30 * MINUTE  # the consumer is back, and the product is not
    tried = [later - 20 * MINUTE]
    await message(rt, f"{ordering_key}x", "2", created_at=now - 90 * MINUTE, tried_at=tried)
    for _ in range(2):
        await watch_stream(rt, later)
        assert round(await minutes_of_product(rt, later)) == 20
