"""Events that name no connection, of keys that several have, while one of those can't be read."""

from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, WebhookEvent
from tests.inbox.process.test_shared_keys import Makini, body, fleet_of, forwards, makini, rt

__all__ = ["makini", "rt"]


async def again(rt: Runtime) -> None:
    """What waits is due."""
    async with rt.store.write() as session:
        now = utcnow() - timedelta(seconds=1)
        await session.execute(
            update(WebhookEvent)
            .where(col(WebhookEvent.status) == "pending")
            .values(next_attempt_at=now, claimed_by=None)
        )


async def test_a_pause_of_one_delays_no_change_of_another(rt: Runtime, makini: Makini) -> None:
    """Universes 20065 and 30074: Makini wanted to hear nothing of one of them for an hour."""
    fleet = await fleet_of(rt, makini, 2)
    stage, [a, b] = fleet.stage, fleet.stage.connections
    makini.records = {"c0": {"k": 1}, "c1": {"k": 1}}
    await fleet.index(a, b)
    makini.paused = {"c1"}
    makini.records["c0"]["k"] = 2
    receipt = await stage.deliver(body("k"))
    await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.connection_id) == ("processed", a.id)
    assert "could not be read" in (event.error or "")
    assert await fleet.announced() == {(a.id, "k")}
    assert await forwards(stage) == [{"event": receipt.id, "keys": ["k"]}]


async def test_with_nobody_else_to_ask_the_end_of_the_pause_is_waited_for(
    rt: Runtime, makini: Makini
) -> None:
    fleet = await fleet_of(rt, makini, 2)
    stage, [a, b] = fleet.stage, fleet.stage.connections
    makini.records = {"c0": {"k": 1}, "c1": {"k": 1, "own": 1}}
    await fleet.index(a, b)
    makini.paused = {"c1"}
    receipt = await stage.deliver(body("k", "own"))
    await stage.process()
    assert (await stage.event(receipt.id)).status == "pending"


async def test_who_does_not_answer_again_and_again_is_left_to_the_poll(
    rt: Runtime, makini: Makini
) -> None:
    fleet = await fleet_of(rt, makini, 2)
    stage, [a, b] = fleet.stage, fleet.stage.connections
    makini.records = {"c0": {"k": 1}, "c1": {"k": 1}}
    await fleet.index(a, b)
    makini.slow = {"c1": "k"}
    makini.records["c0"]["k"] = 2
    receipt = await stage.deliver(body("k"))
    await stage.process()
    assert (await stage.event(receipt.id)).status == "pending"  # it may answer in a moment
    for _ in range(2):
        await again(rt)
        await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.connection_id) == ("processed", a.id)
    assert await forwards(stage) == [{"event": receipt.id, "keys": ["k"]}]


@pytest.mark.parametrize("late", ["k1", "k2"])
async def test_whose_a_key_is_stays_known_while_another_is_waited_for(
    rt: Runtime, makini: Makini, late: str
) -> None:
    fleet = await fleet_of(rt, makini, 2)
    stage, [a, b] = fleet.stage, fleet.stage.connections
    makini.records = {"c0": {"k1": 1, "k2": 1}, "c1": {"k1": 1, "k2": 1}}
    await fleet.index(a, b)
    makini.slow = {"c1": late}
    makini.records["c0"] = {"k1": 2, "k2": 2}
    receipt = await stage.deliver(body("k1", "k2"))
    await stage.process()
    assert (await stage.event(receipt.id)).status == "pending"
    makini.slow = {}
    await again(rt)
    await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.connection_id) == ("processed", a.id)
    assert await forwards(stage) == [{"event": receipt.id, "keys": ["k1", "k2"]}]


async def test_who_was_not_asked_is_not_said_to_be_unchanged(rt: Runtime, makini: Makini) -> None:
    """Universe 34785: Makini's word that one of them was inactive was an hour late."""
    fleet = await fleet_of(rt, makini, 2)
    stage, [a, b] = fleet.stage, fleet.stage.connections
    makini.records = {"c0": {"k": 1}, "c1": {"k": 1}}
    await fleet.index(a, b)
    async with rt.store.write() as session:
        which = update(Connection).where(col(Connection.id) == b.id)
        await session.execute(which.values(health="inactive"))
    makini.records["c1"]["k"] = 2
    receipt = await stage.deliver(body("k"))
    await stage.process()
    event = await stage.event(receipt.id)
    assert (event.status, event.connection_id) == ("processed", None)
    assert event.error == (
        "1 of its keys are in several connections and changed in none of those that could be read: "
        "a poll reads the others"
    )
    assert await forwards(stage) == [{"event": receipt.id}]
