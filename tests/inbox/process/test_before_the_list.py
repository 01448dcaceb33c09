"""Makini's event of a lost login comes before a list that goes on saying Active."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.inbox.unrouted import route_again
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Transition
from tests.inbox.process.conftest import adopt
from tests.inbox.process.stage import Stage, about


async def made(stage: Stage) -> Connection:
    """A connection that no list of ours has yet, and for which Makini mints no token."""
    await stage.control("settings", mint_shape="refused")
    listed = await stage.control("connections", name="New", provider="fiix", email="it@new.example")
    key = listed["key"]
    return Connection(app="default", name="New", makini_key=key, makini_id=key, slug="new")


async def listed(rt: Runtime, new: Connection) -> Connection:
    async with rt.store.read() as session:
        where = col(Connection.makini_key) == new.makini_key
        return (await session.scalars(select(Connection).where(where))).one()


@pytest.mark.parametrize(
    ("mode", "then"), [("manage", "reauthorization_required"), ("observe", "unknown")]
)
async def test_a_connection_that_no_list_has_yet_is_not_well_once_it_has(
    stage: Stage, mode: str, then: str
) -> None:
    """A cached status does not outrank Makini's own event, and nothing may be read to settle it."""
    new = await made(stage)
    observing = stage.rt.settings.model_copy(update={"makini_mode": mode})
    async with Runtime.open(observing) as rt:
        there = Stage(rt, stage.fleet, stage.product, stage.connections)
        receipt = await there.deliver(about(new, "connection.auth_required", utcnow()))
        await there.process()
        assert (await there.event(receipt.id)).status == "unrouted"
        await adopt(rt)
        assert (await listed(rt, new)).health == "healthy"
        assert await route_again(rt.store, now=utcnow()) == 1
        await there.process()
        for health in ("unknown", then):
            known = await listed(rt, new)
            assert (known.health, known.evidence) == (health, "listed")
            assert [incident.kind for incident in await there.incidents()] == [health]
            await adopt(rt)
        async with rt.store.read() as session:
            mine = col(Transition.connection_id) == known.id
            [said] = (await session.scalars(select(Transition).where(mine, _UNKNOWN))).all()
        assert said.source == "webhook"
        assert "Makini's event said that the login is lost" in said.evidence["message"]
        assert "its list says active" in said.evidence["message"]


_UNKNOWN = col(Transition.after) == "unknown"


async def test_an_event_from_before_the_customer_connected_it_says_nothing(stage: Stage) -> None:
    new = await made(stage)
    observing = stage.rt.settings.model_copy(update={"makini_mode": "observe"})
    async with Runtime.open(observing) as rt:
        there = Stage(rt, stage.fleet, stage.product, stage.connections)
        await adopt(rt)
        before = utcnow() - timedelta(hours=1)
        await there.deliver(about(new, "connection.auth_required", before))
        await there.process()
        known = await listed(rt, new)
        assert (known.health, known.suspect) == ("healthy", False)
