"""A consumer runs for months: what it keeps in memory does not grow with the events it settles."""

import gc

from sqlalchemy import Update

from linekeeper.clock import utcnow
from tests.inbox.process.stage import Stage, about


def statements() -> int:
    """How many statements that change rows are kept."""
    gc.collect()
    return sum(type(each) is Update for each in gc.get_objects())


async def test_no_statement_is_kept_for_each_batch_of_events_that_is_settled(stage: Stage) -> None:
    async def settle() -> None:
        await stage.deliver(about(stage.connections[0], "sync.completed", utcnow()))
        await stage.process()

    for _ in range(3):
        await settle()
    before = statements()
    for _ in range(10):
        await settle()
    assert statements() - before < 5
