"""Forwarding single connections to targets of their own: an address, a secret, a pause each."""

import base64

from pydantic import SecretStr
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import ForwardTarget
from linekeeper.orchestrator import Blocks
from linekeeper.outbox.forward import RecoveredChange, forward_changes
from linekeeper.outbox.senders.forward import forwarding
from linekeeper.reconcile.target import load_targets
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import Connection, ConnectionSetting, Incident, Outbox
from linekeeper.sweep.webhooks import watch_stream
from tests.inbox.process.product import listening
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_forward import forward, later, online, states


async def configured_to(stage: Stage, connection: Connection, target: str) -> None:
    async with stage.rt.store.write() as session:
        session.add(
            ConnectionSetting(connection_id=connection.id, entity="eam/assets", forward_to=target)
        )


async def test_a_connection_with_a_target_of_its_own_is_handed_on_there_and_nowhere_else(
    stage: Stage,
) -> None:
    [connection, two, *_] = stage.connections
    secret = "whsec_" + base64.b64encode(b"another key than the app's").decode()
    async with listening() as crm:
        target = ForwardTarget(url=SecretStr(crm.url), secret=SecretStr(secret))
        app = await stage.rt.app("default")
        app = app.model_copy(update={"forward_targets": {"crm": target}})
        await save_blocks(stage.rt.store, Blocks(apps=[app]), now=utcnow())
        await configured_to(stage, connection, "crm")
        async with Runtime.open(stage.rt.settings) as rt:
            there = Stage(rt, stage.fleet, stage.product, stage.connections)
            [to_crm, to_product] = await online(there, connection, two)
            [read] = await load_targets(rt, app, [connection.id])
            change = RecoveredChange(
                new_id(),
                connection.id,
                connection.makini_key,
                "eam/assets",
                "1",
                "updated",
                utcnow(),
            )
            async with rt.store.write() as session:
                await forward_changes(rt.store, session, read.app, [change], now=utcnow())
            async with forwarding(rt) as forwarder:
                while await forwarder.deliver():
                    pass
        assert {identity for identity, _ in crm.taken} == {to_crm, change.id}
        assert crm.unverified == 2, "signed with the target's secret, not the app's"
    assert {identity for identity, _ in stage.product.taken} == {to_product}
    assert {status for status, _ in await states(stage)} == {"sent"}


async def test_a_message_of_before_has_its_destination_in_its_ordering_key(stage: Stage) -> None:
    [connection, two, *_] = stage.connections
    async with listening() as crm:
        target = ForwardTarget(url=SecretStr(crm.url))
        app = await stage.rt.app("default")
        app = app.model_copy(update={"forward_targets": {"crm": target}})
        await save_blocks(stage.rt.store, Blocks(apps=[app]), now=utcnow())
        await configured_to(stage, connection, "crm")
        async with Runtime.open(stage.rt.settings) as rt:
            there = Stage(rt, stage.fleet, stage.product, stage.connections)
            [to_crm, to_product] = await online(there, connection, two)
            async with rt.store.write() as session:
                await session.execute(update(Outbox).values(destination=None))
            async with forwarding(rt) as forwarder:
                while await forwarder.deliver():
                    pass
        assert {identity for identity, _ in crm.taken} == {to_crm}
    assert {identity for identity, _ in stage.product.taken} == {to_product}


async def test_a_target_that_is_away_holds_up_nobody_else(stage: Stage) -> None:
    [connection, two, *_] = stage.connections
    async with listening() as gone:
        away = gone.url
    app = await stage.rt.app("default")
    targets = {"crm": ForwardTarget(url=SecretStr(away))}
    app = app.model_copy(update={"forward_targets": targets})
    await save_blocks(stage.rt.store, Blocks(apps=[app]), now=utcnow())
    await configured_to(stage, connection, "crm")
    async with Runtime.open(stage.rt.settings) as rt:
        there = Stage(rt, stage.fleet, stage.product, stage.connections)
        for _ in range(5):
            await online(there, connection, two)
        async with forwarding(rt) as forwarder:
            for _ in range(6):
                await forwarder.deliver()
    assert len(stage.product.taken) == 5
    assert sorted({status for status, _ in await states(stage)}) == ["pending", "sent"]


async def test_what_is_meant_for_a_target_that_was_removed_waits_and_goes_nowhere_else(
    stage: Stage,
) -> None:
    [connection, *_] = stage.connections
    await configured_to(stage, connection, "crm")
    await online(stage, connection)
    await forward(stage, utcnow)
    assert not stage.product.taken
    assert [status for status, _ in await states(stage)] == ["pending"]


async def test_a_target_that_returns_after_four_days_has_three_days_to_take_what_waited(
    stage: Stage,
) -> None:
    [connection, two, *_] = stage.connections
    for which in (connection, two):
        await configured_to(stage, which, "crm")
    await online(stage, connection, connection, two)
    async with forwarding(stage.rt, later(days=3.999)) as forwarder:
        await forwarder.deliver()
    async with listening() as crm:
        crm.answers = [503] * 100
        app = await stage.rt.app("default")
        target = ForwardTarget(url=SecretStr(crm.url))
        app = app.model_copy(update={"forward_targets": {"crm": target}})
        await save_blocks(stage.rt.store, Blocks(apps=[app]), now=utcnow())
        async with Runtime.open(stage.rt.settings) as rt:
            async with forwarding(rt, later(days=4.01)) as forwarder:
                await forwarder.deliver()
            assert len(crm.refused) > 0
            assert {row.status for row in await stage.forwards()} == {"pending"}
            crm.answers.clear()
            async with forwarding(rt, later(days=4.1)) as forwarder:
                while await forwarder.deliver():
                    pass
    assert len(crm.taken) == 3


async def test_what_nobody_was_there_to_hand_on_for_four_days_has_three_days_from_its_first_try(
    stage: Stage,
) -> None:
    [connection, two, *_] = stage.connections
    await online(stage, connection, connection, two)
    stage.product.answers = [503] * 100
    async with forwarding(stage.rt, later(days=4)) as forwarder:
        await forwarder.deliver()
    assert stage.product.refused
    assert {row.status for row in await stage.forwards()} == {"pending"}
    stage.product.answers.clear()
    await forward(stage, later(days=4.1))
    assert len(stage.product.taken) == 3


async def test_a_target_that_refuses_is_an_incident_of_its_app(stage: Stage) -> None:
    [connection, *_] = stage.connections
    async with listening() as crm:
        crm.answers = [410] * 10
        app = await stage.rt.app("default")
        app = app.model_copy(
            update={"forward_targets": {"crm": ForwardTarget(url=SecretStr(crm.url))}}
        )
        await save_blocks(stage.rt.store, Blocks(apps=[app]), now=utcnow())
        await configured_to(stage, connection, "crm")
        async with Runtime.open(stage.rt.settings) as rt:
            await online(Stage(rt, stage.fleet, stage.product, stage.connections), connection)
            async with forwarding(rt) as forwarder:
                await forwarder.deliver()
            await watch_stream(rt, utcnow())
    async with stage.rt.store.read() as session:
        [incident] = await session.scalars(select(Incident).where(col(Incident.status) == "open"))
    assert (incident.kind, incident.app) == ("forward_refused", "default")
