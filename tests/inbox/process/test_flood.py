"""A webhook that names many records which the source doesn't have: what it costs."""

from collections import Counter
from contextlib import asynccontextmanager
from typing import Any

import pytest

from linekeeper.runtime import Runtime
from linekeeper.store import Store
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_process_records import event_of

MANY = 400


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
    assert transactions.total() < MANY / 5
