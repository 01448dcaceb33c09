"""A webhook that names many records: what it costs, and what it holds up."""

from collections import Counter
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.consumer.reading import MOST_SINGLE
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.tables import Change
from tests.inbox.process.front import Front, fronted
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_process_records import changed, event_of
from tests.reconcile.conftest import run

MANY = MOST_SINGLE
FLOOD = 10_000


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many transactions were begun, by what they are for."""
    counts: Counter[str] = Counter()
    for name in ("read", "write"):
        begin = getattr(Store, name)

        @asynccontextmanager
        async def counted(self: Store, *args: Any, begin: Any = begin, name: str = name) -> Any:
            counts[name] += 1
            async with begin(self, *args) as session:
                yield session

        monkeypatch.setattr(Store, name, counted)
    return counts


async def test_unknown_keys_cost_few_transactions(stage: Stage, transactions: Counter[str]) -> None:
    settings = stage.rt.settings.model_copy(update={"makini_per_minute": 60_000})
    async with Runtime.open(settings) as rt:
        stage.rt = rt
        [connection, *_] = stage.connections
        entity = "eam/assets"
        receipt = await stage.deliver(
            event_of(entity, [f"{number:016d}" for number in range(MANY)]), to=connection
        )
        transactions.clear()
        await stage.process()
        assert (await stage.event(receipt.id)).status == "processed"
    assert transactions.total() < MANY / 3


@pytest.mark.parametrize("only_last", [False, True], ids=["filtered", "last-filter-only"])
async def test_a_flood_of_keys_is_left_to_one_listing_of_the_entity(
    stage: Stage, only_last: bool
) -> None:
    """The source has three of them: a call a key would take its connection's other webhooks, and
    everybody's call budget, for a quarter of an hour."""
    [connection, *_] = stage.connections
    entity = "eam/assets"
    front = Front(stage.fleet.url, last_filter_only=only_last)
    async with fronted(stage, front) as seen:
        await run(seen.rt, connections=[connection.id])
        new = await changed(stage, connection, entity, 3)
        front.paths.clear()
        unknown = [f"{number:016d}" for number in range(FLOOD)]
        flood = await seen.deliver(event_of(entity, unknown + new), to=connection)
        [last_key] = await changed(stage, connection, entity, 1)
        other = await seen.deliver(event_of(entity, [last_key]), to=connection)
        await seen.process()
        event = await stage.event(flood.id)
        assert (event.status, event.connection_id) == ("deferred", connection.id)
        assert "next poll, which lists eam/assets whole" in (event.error or "")
        assert (await stage.event(other.id)).status == "processed"
        assert len(front.paths) < 20
        await run(seen.rt, connections=[connection.id])
    async with stage.rt.store.read() as session:
        changes = await session.scalars(select(Change).where(col(Change.key).in_(new)))
        found = {change.key: change.announced_at for change in changes}
    assert found == dict.fromkeys(new, event.received_at)
