"""A probe that waits for the call budget is dated by when it was sent, not by when it was due."""

import asyncio

import sandbox
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Outcome
from linekeeper.runtime import Runtime
from linekeeper.sweep.batch import probe_batch
from tests.health.test_contradictions import first, said
from tests.health.test_sweep import adopt

PER_MINUTE = 30
"""Two seconds a call, after a few at once."""


async def test_what_makini_said_while_a_probe_waited_for_its_turn_is_older_than_its_answer(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """Universe 31063: a read that found the login again was dropped as older than an event."""
    await adopt(rt, fleet)
    connection = await first(rt)
    await said(rt, connection, Outcome.login_lost)
    few = rt.settings.model_copy(update={"makini_per_minute": PER_MINUTE})
    async with Runtime.open(few) as slow:
        app = await slow.app("default")
        for _ in range(3):
            await slow.budget.take(app.name, PER_MINUTE)
        probing = asyncio.create_task(
            probe_batch(slow, app, [connection.id], started=utcnow(), last_try=True)
        )
        await asyncio.sleep(0.5)
        await said(rt, connection, Outcome.answered)
        assert (await first(rt)).health == "reauthorization_required"
        await probing
    assert (await first(rt)).health == "healthy"
