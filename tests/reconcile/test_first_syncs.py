"""What a first sync brings was there before the connection was: no webhook could announce it."""

from datetime import timedelta

from msgspec import to_builtins
from msgspec.structs import replace
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.health.evidence import load
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Transition
from linekeeper.sweep.batch import probe_batch
from tests.reconcile.conftest import Peer, drift, run
from tests.reconcile.unannounced import HOURS, change, measured_of, read_last


async def status_says(rt: Runtime, peer: Peer, connection: Connection, word: str) -> None:
    """The sweep asks for its status, which says `word`; the list calls it active all the time."""
    assert peer.world is not None
    system = peer.world.find(connection.makini_key)
    assert system is not None
    system.lagging_status = word
    app = await rt.app(connection.app)
    await probe_batch(rt, app, [connection.id], started=utcnow(), last_try=True)


async def set_up(rt: Runtime, connection: Connection, state: str, *, before: str = "") -> None:
    """It is at this step of its setup from now on."""
    async with rt.store.write() as session:
        await session.execute(
            update(Connection).where(col(Connection.id) == connection.id).values(setup=state)
        )
        if before:
            session.add(
                Transition(
                    connection_id=connection.id, at=utcnow(), axis="setup", before=before,
                    after=state, source="list",
                )
            )  # fmt: skip


async def test_what_a_first_sync_brings_is_held_against_nobody(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    """It was there before the connection was: nobody could have announced it."""
    long_ago = utcnow() - timedelta(days=60)
    await set_up(rt, one, "syncing")
    await run(rt)
    change(peer, one, range(40, 52), at=long_ago)
    await run(rt)
    change(peer, one, range(52, 60), at=long_ago)
    await set_up(rt, one, "live", before="syncing")
    await run(rt)
    measured, after = await measured_of(rt, one)
    assert (measured.lost, after) == (0, "unknown")
    assert sum(row.missed for row in await drift(rt) if row.cause == "first_sync") == 20
    async with rt.store.write() as session:
        then = utcnow() - HOURS
        await session.execute(update(Transition).values(at=then))
    await read_last(rt, then + HOURS / 2)
    change(peer, one, range(5))  # what changes afterwards has to be announced
    await run(rt)
    measured, after = await measured_of(rt, one)
    assert (measured.lost, after) == (5, "none")


async def test_what_the_first_listing_lacked_of_the_time_before_it_is_held_against_nobody(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    """Universe 12794: pages shifted while it was read, and this source says no total."""
    await run(rt)
    change(peer, one, range(40, 52), at=utcnow() - timedelta(days=60))
    change(peer, one, range(52, 57))  # what is new has to be announced
    await run(rt, full=True)
    measured, _ = await measured_of(rt, one)
    assert measured.lost == 5
    assert sum(row.missed for row in await drift(rt) if row.cause == "first_sync") == 12


async def test_a_first_sync_of_which_only_the_status_tells_is_one(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    """The list calls the connection active, while its status says that it is being read."""
    long_ago = utcnow() - timedelta(days=60)
    await status_says(rt, peer, one, "inprogress")
    await run(rt)
    change(peer, one, range(40, 52), at=long_ago)
    await run(rt)
    change(peer, one, range(52, 60), at=long_ago)
    await status_says(rt, peer, one, "done")
    await run(rt)
    measured, after = await measured_of(rt, one)
    assert (measured.lost, after) == (0, "unknown")
    assert sum(row.missed for row in await drift(rt) if row.cause == "first_sync") == 20
    await status_says(rt, peer, one, "inprogress")  # a later one is none
    async with rt.store.write() as session:
        connection = await session.get_one(Connection, one.id)
        then = utcnow() - HOURS
        judged = replace(load(connection.judged), syncing_since=then, synced_at=then)
        connection.judged = to_builtins(judged)
        connection.created_at = then - HOURS
    await read_last(rt, then + HOURS / 2)
    change(peer, one, range(5))
    await run(rt)
    measured, after = await measured_of(rt, one)
    assert (measured.lost, after) == (5, "none")
