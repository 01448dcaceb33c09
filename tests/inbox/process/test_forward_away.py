"""A product that is away or in trouble: what waits for it, holds up no other, is given up."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.orchestrator import Blocks
from linekeeper.outbox.forward import RecoveredChange, forward_changes
from linekeeper.outbox.senders.forward import ForwardSender, forwarding
from linekeeper.redact import origin
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import Incident, Outbox
from linekeeper.sweep.webhooks import watch_stream as watch
from tests.inbox.process.product import listening
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_forward import forward, later, online, states
from tests.patient import attended


async def test_a_product_that_is_away_holds_up_no_other_app(stage: Stage) -> None:
    [connection, two, *_] = stage.connections
    async with listening() as gone:
        away = gone.url
    app = await stage.rt.app("default")
    other = app.model_copy(update={"name": "other", "forward_url": away})
    async with stage.rt.store.write() as session:
        for n in range(40):
            change = RecoveredChange(
                new_id(),
                connection.id,
                connection.makini_key,
                "eam/assets",
                str(n),
                "updated",
                utcnow(),
            )
            await forward_changes(stage.rt.store, session, other, [change], now=utcnow())
        for n in range(5):
            change = RecoveredChange(
                new_id(), two.id, two.makini_key, "eam/assets", str(n), "updated", utcnow()
            )
            await forward_changes(stage.rt.store, session, app, [change], now=utcnow())
    await save_blocks(stage.rt.store, Blocks(apps=[app, other]), now=utcnow())
    async with Runtime.open(stage.rt.settings) as rt, forwarding(rt) as forwarder:
        for _ in range(6):
            await forwarder.deliver()
    assert len(stage.product.taken) == 5


async def test_a_product_in_trouble_is_asked_with_one_message_at_a_time(stage: Stage) -> None:
    ids = await online(stage, *stage.connections)
    stage.product.answers = [503] * 40
    async with forwarding(stage.rt) as forwarder:
        for _ in range(5):
            await forwarder.deliver()
    assert 1 <= len(stage.product.refused) <= len(ids)
    asked = len(stage.product.refused)
    moment = utcnow()
    async with forwarding(stage.rt, lambda: moment) as forwarder:
        forwarder._pauses.clear()
        for minutes in (20, 40):
            moment = utcnow() + timedelta(minutes=minutes)
            await forwarder.deliver()
    assert len(stage.product.refused) > asked
    stage.product.answers.clear()
    await forward(stage, later(hours=2))
    assert {identity for identity, _ in stage.product.taken} == set(ids)


async def test_a_product_that_is_away_gets_everything_once_it_is_back(stage: Stage) -> None:
    url = stage.product.url
    async with listening() as gone:
        away = gone.url
    settings = stage.rt.settings.model_copy(update={"forward_url": away})
    async with Runtime.open(settings) as rt:
        ids = await online(
            Stage(rt, stage.fleet, stage.product, stage.connections), *stage.connections[:3]
        )
        async with forwarding(rt) as forwarder:
            await forwarder.deliver()
    rows = await stage.forwards()
    assert {row.status for row in rows} == {"pending"}
    assert {row.error for row in rows if row.error} == {
        f"{origin(away)} could not be reached: connection refused"
    }  # the transport calls it a time-out
    assert stage.rt.settings.forward_url == url
    await forward(stage, later(minutes=5))
    assert {identity for identity, _ in stage.product.taken} == set(ids)


async def test_a_product_that_is_taken_out_of_the_settings_while_it_is_slow_fails_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ForwardSender, "deadline_seconds", 0.5)
    monkeypatch.setattr("linekeeper.store.configuration.FRESH_SECONDS", 0.0)
    stage.product.wait = 5.0
    await online(stage, stage.connections[0])
    app = await stage.rt.app("default")
    async with forwarding(stage.rt) as forwarder:
        async with asyncio.timeout(60):
            while not stage.product.taken:
                await forwarder.step()
        without = app.model_copy(update={"forward_url": None})
        await save_blocks(stage.rt.store, Blocks(apps=[without]), now=utcnow())
        async with asyncio.timeout(60):
            while forwarder.is_busy:
                await forwarder.step()
    [row] = await stage.forwards()
    assert (row.status, row.error) == (
        "pending",
        f"{origin(stage.product.url)} could not be reached: TimeoutError",
    )


async def test_a_product_that_is_back_need_not_wait_for_further_tries(stage: Stage) -> None:
    ids = await online(stage, *stage.connections)
    moment = utcnow()
    async with forwarding(stage.rt, lambda: moment) as forwarder:
        stage.product.answers = [500] * 300
        while len(stage.product.refused) < 30:  # the tries are far apart by now
            moment += timedelta(seconds=20)
            await forwarder.deliver()
        stage.product.answers.clear()
        while not stage.product.taken:
            moment += timedelta(seconds=5)
            await forwarder.deliver()
        while await forwarder.deliver():
            pass
    assert {identity for identity, _ in stage.product.taken} == set(ids)


async def test_after_three_days_it_is_dead_and_people_hear_of_it(stage: Stage) -> None:
    [connection, *_] = stage.connections
    await online(stage, connection)
    stage.product.answers = [400] * 100
    for ahead in attended(timedelta(), timedelta(days=2.9)):
        await forward(stage, later(seconds=ahead.total_seconds()))
    [(status, tries)] = await states(stage)
    assert status == "pending"
    await forward(stage, later(days=3.1))
    assert await states(stage) == [("dead", tries + 1)]
    stage.product.answers = []
    [row] = await stage.forwards()
    assert "given up after 3 days" in (row.error or "")
    assert "answered 400" in (row.error or "")
    # What comes after it goes on.
    [second] = await online(stage, connection)
    await forward(stage, later(days=3.2))
    assert [identity for identity, _ in stage.product.taken] == [second]

    await watch(stage.rt, utcnow())
    async with stage.rt.store.read() as session:
        [incident] = list(
            await session.scalars(select(Incident).where(col(Incident.topic) == "stream"))
        )
        slack = list(await session.scalars(select(Outbox).where(col(Outbox.channel) == "slack")))
    assert (incident.kind, incident.app) == ("forward_dead", "default")
    assert "1 message not handed on to the product" in (incident.title or "")
    assert slack


async def test_what_is_forwarded_in_vain_for_days_is_given_up_together(stage: Stage) -> None:
    ids = await online(stage, *stage.connections[:4])
    async with stage.rt.store.write() as session:
        await session.execute(
            update(Outbox)
            .where(col(Outbox.channel) == "forward")
            .values(created_at=utcnow() - timedelta(days=4), attempts=9, retry_at=utcnow())
        )
    stage.product.answers = [500] * 40
    await forward(stage, utcnow)
    assert {status for status, _ in await states(stage)} == {"dead"}
    assert len(await stage.forwards()) == len(ids)
