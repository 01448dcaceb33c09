"""A pause that Makini asked for, seen by a clock that was set a day back meanwhile (SQLite)."""

from datetime import timedelta

import pytest

from linekeeper.budget import DatabaseBudget
from linekeeper.clock import utcnow
from linekeeper.makini.budget import Paused
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.migrate import migrate
from tests.reconnect.working_clock import at

PER_MINUTE = 600


async def test_it_lasts_no_longer_than_makini_asked_for(settings: Settings) -> None:
    """Universe 31174: 30 seconds became a day, as long as the process made no other call."""
    lasting = timedelta(minutes=5)
    async with Store.open(settings) as store:
        await migrate(store)
        await DatabaseBudget(store).penalise("default", utcnow() + lasting, connection="k")
        budget = DatabaseBudget(store)
        with at(utcnow() - timedelta(days=1)):
            await budget.take("default", PER_MINUTE)  # what it knows is of this clock
        with pytest.raises(Paused) as paused:
            await budget.take("default", PER_MINUTE, connection="k")
    assert paused.value.seconds <= lasting.total_seconds()
