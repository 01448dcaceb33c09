"""A hundred thousand records whose keys all changed, one in twenty with a twin."""

import pytest

from benchmarks.succession import measure
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.reconcile.conftest import pointed_at


@pytest.mark.soak
async def test_a_hundred_thousand_records_are_taken_over_and_none_wrongly(
    settings: Settings, store: Store
) -> None:
    async with Runtime.open(pointed_at(settings, "http://127.0.0.1:9")) as rt:
        figures = await measure(rt, 100_000)
    assert figures["mapped"] >= 0.99
    assert figures["wrong"] == 0
    assert figures["deleted"] == 0
