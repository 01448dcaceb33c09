"""What Makini says of itself, or of a connection's status, outweighs no call that fails."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

import sandbox
from linekeeper import clock
from linekeeper.clock import utcnow
from linekeeper.health.evidence import load
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Connection
from linekeeper.sweep.sweep import due
from tests.health.test_sweep import sweep
from tests.inbox.process.product import Product
from tests.inbox.process.stage import Stage, about
from tests.managed import managed


async def ends(stage: Stage, which: Connection, *, well: bool = True) -> Connection:
    """A synchronization ends, as Makini says; returns what is held of the connection then."""
    said = {"result": "success"} if well else {"error": "The system reported an error."}
    kind = "sync.completed" if well else "sync.failed"
    receipt = await stage.deliver(about(which, kind, utcnow(), **said), to=which)
    await stage.process()
    assert (await stage.event(receipt.id)).status == "processed"
    return await stage.connection(which)


async def do(stage: Stage, which: Connection, action: str) -> None:
    await stage.control(f"connections/{which.makini_key}/{action}")


async def open_kinds(stage: Stage) -> list[str]:
    return [each.kind for each in await stage.incidents() if each.status == "open"]


async def is_due(stage: Stage, which: Connection) -> bool:
    """Whether the next sweep probes it."""
    app, configuration = await stage.rt.app("default"), await stage.rt.configuration()
    policy = configuration.policy.model_copy(update={"probe_minutes": 60})
    return which.id in (await due(stage.rt, app, policy, now=utcnow())).ids


TROUBLES = [
    ("go-offline", "come-online", "unreachable"),
    ("deactivate", "activate", "inactive"),
    ("change-credentials", "restore-credentials", "reauthorization_required"),
]


@pytest.mark.parametrize("well", [True, False])
@pytest.mark.parametrize(("begins", "is_over", "health"), TROUBLES)
async def test_an_incident_of_calls_that_fail_ends_with_an_answered_one(
    stage: Stage, begins: str, is_over: str, health: str, well: bool
) -> None:
    """Universe 11175: 91 minutes were *healthy* in which nothing could be read."""
    [connection, *_] = stage.connections
    await do(stage, connection, begins)
    for _ in range(3):
        await sweep(stage.rt)
    assert (await stage.connection(connection)).health == health
    after = await ends(stage, connection, well=well)
    assert (after.health, await is_due(stage, connection)) == (health, True)
    assert await open_kinds(stage) == [health]
    if well:
        assert after.last_sync_at is not None
    await sweep(stage.rt)
    assert (await stage.connection(connection)).health == health
    await do(stage, connection, is_over)
    await ends(stage, connection, well=well)
    await sweep(stage.rt)
    assert (await stage.connection(connection)).health == "healthy"
    assert await open_kinds(stage) == []


@pytest.mark.parametrize(("begins", "is_over", "health"), TROUBLES)
async def test_nor_does_the_word_that_its_status_is_good_again(
    stage: Stage, begins: str, is_over: str, health: str
) -> None:
    [connection, *_] = stage.connections
    await do(stage, connection, begins)
    for _ in range(3):
        await sweep(stage.rt)
    assert (await is_online(stage, connection)).health == health
    assert await is_due(stage, connection)
    await sweep(stage.rt)
    assert (await stage.connection(connection)).health == health
    assert await open_kinds(stage) == [health]
    await do(stage, connection, is_over)
    await is_online(stage, connection)
    await sweep(stage.rt)
    assert (await stage.connection(connection)).health == "healthy"
    assert await open_kinds(stage) == []


async def test_an_older_word_that_comes_after_the_good_one_opens_nothing(stage: Stage) -> None:
    [connection, *_] = stage.connections
    await do(stage, connection, "go-offline")
    for _ in range(3):
        await sweep(stage.rt)
    before = utcnow()
    await is_online(stage, connection)
    await stage.deliver(about(connection, "connection.auth_required", before), to=connection)
    await stage.process()
    assert await open_kinds(stage) == ["unreachable"]


async def is_online(stage: Stage, which: Connection) -> Connection:
    """Makini says that its status is good; returns what is held of the connection then."""
    said = about(which, "connection.status_changed", utcnow(), to="online")
    await stage.deliver(said, to=which)
    await stage.process()
    return await stage.connection(which)


async def test_misses_add_up_whatever_makini_says_of_its_synchronizations(stage: Stage) -> None:
    [connection, *_] = stage.connections
    await do(stage, connection, "go-offline")
    for expected in ("healthy", "healthy", "unreachable"):
        await sweep(stage.rt)
        assert (await ends(stage, connection)).health == expected


async def test_it_does_not_put_off_the_probe_of_one_that_missed(stage: Stage) -> None:
    [connection, *_] = stage.connections
    await do(stage, connection, "go-offline")
    await sweep(stage.rt)
    before = await stage.connection(connection)
    after = await ends(stage, connection)
    assert after.last_checked_at == before.last_checked_at
    assert await is_due(stage, connection)


class Later(clock.Clock):
    """A clock by which some minutes have passed."""

    minutes = 0

    def utcnow(self) -> datetime:
        return super().utcnow() + timedelta(minutes=self.minutes)


@contextmanager
def passing() -> Iterator[Later]:
    later = Later()
    before = clock.use(later)
    try:
        yield later
    finally:
        clock.use(before)


@pytest.fixture
async def probed(
    settings: Settings, fleet: sandbox.Served, product: Product
) -> AsyncIterator[Stage]:
    """A fleet whose healthy connections are probed every ten minutes."""
    async with Runtime.open(managed(settings, fleet.url, probe_minutes=10)) as rt:
        await sweep(rt)
        yield await Stage.set(rt, fleet, product)


async def test_nor_does_it_put_off_that_of_a_healthy_one(probed: Stage) -> None:
    """Universe 11705: a synchronization ended every few minutes, and no sweep asked any more."""
    [connection, *_] = probed.connections
    app, policy = await probed.rt.app("default"), (await probed.rt.configuration()).policy
    with passing() as later:
        for later.minutes in (4, 9):
            assert (await ends(probed, connection)).health == "healthy"
        assert connection.id in (await due(probed.rt, app, policy, now=utcnow())).ids


async def test_it_is_believed_where_nobody_asked_for_a_day(stage: Stage) -> None:
    """Sweeps are paused, or Makini asks for one pause after the other."""
    [connection, *_] = stage.connections
    await do(stage, connection, "go-offline")
    for _ in range(3):
        await sweep(stage.rt)
    held = await stage.connection(connection)
    judged = load(held.judged)
    assert judged.asked_at is not None
    async with stage.rt.store.write() as session:
        row = await session.get_one(Connection, connection.id)
        row.judged = to_builtins(replace(judged, asked_at=judged.asked_at - timedelta(days=1)))
    assert (await ends(stage, connection)).health == "healthy"
    assert await open_kinds(stage) == []


@pytest.fixture
async def new(settings: Settings, fleet: sandbox.Served, product: Product) -> AsyncIterator[Stage]:
    """A fleet that is listed, of whose first connection no call was ever answered: Makini asked
    for a pause. (Asked for more of them, it would be the app's, whose first minute a sweep waits.)
    """
    async with Runtime.open(managed(settings, fleet.url, makini_per_minute=6_000)) as rt:
        until = utcnow() + timedelta(hours=1)
        await rt.budget.penalise("default", until, connection=min(fleet.world.connections))
        await sweep(rt)
        yield await Stage.set(rt, fleet, product)


async def test_a_connection_of_which_nothing_was_ever_read_is_not_healthy_by_it(new: Stage) -> None:
    """Universe 11220: Makini let nobody ask for hours, and 167 minutes were *healthy*."""
    [connection, *_] = new.connections
    assert (await new.connection(connection)).health == "unknown"
    for _ in range(2):
        assert (await ends(new, connection)).health == "unknown"
        await sweep(new.rt)
    assert await new.incidents() == []


@pytest.fixture
async def listed(
    settings: Settings, fleet: sandbox.Served, product: Product
) -> AsyncIterator[Stage]:
    """A fleet of which nothing is held but what Makini's list says."""
    async with Runtime.open(managed(settings, fleet.url, makini_mode="observe")) as rt:
        await sweep(rt)
        yield await Stage.set(rt, fleet, product)


async def test_it_counts_at_once_where_no_call_can_be_made(listed: Stage) -> None:
    [connection, *_] = listed.connections
    await listed.deliver(about(connection, "connection.auth_required", utcnow()), to=connection)
    await listed.process()
    assert (await listed.connection(connection)).health == "reauthorization_required"
    assert (await ends(listed, connection)).health == "healthy"
    assert await open_kinds(listed) == []
