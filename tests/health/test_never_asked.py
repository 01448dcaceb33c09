"""Makini's word of a connection that nobody has looked at yet."""

import pytest

import sandbox
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Outcome
from linekeeper.runtime import Runtime
from linekeeper.sweep.sweep import take_list
from tests.health.test_contradictions import first, said
from tests.health.test_sweep import incidents, sweep


@pytest.mark.parametrize("synced", [True, False], ids=["a sync ended", "it works again"])
async def test_a_lost_login_is_not_found_by_a_good_word_before_any_call_was_answered(
    rt: Runtime, fleet: sandbox.Served, synced: bool
) -> None:
    """Universe 31022: the first sweep had failed, and a synchronization "completed" after all."""
    await take_list(rt, await rt.app("default"), now=utcnow())
    connection = await first(rt)
    await said(rt, connection, Outcome.login_lost)
    more = {"sync_updated_at": utcnow()} if synced else {}
    await said(rt, connection, Outcome.answered, **more)
    assert (await first(rt)).health == "reauthorization_required"
    assert [incident.status for incident in await incidents(rt)] == ["open"]
    await sweep(rt)
    assert (await first(rt)).health == "healthy"
