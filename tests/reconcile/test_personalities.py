"""Makini as bad as its contract allows, played by the sandbox: Linekeeper says what is so."""

from datetime import timedelta

import pytest
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.notify.view import FROM_A_PAGE, Links
from linekeeper.reconcile.completeness import Completeness, completeness_of
from linekeeper.reconcile.entity_incidents import entity_states
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Change, Connection, Deletion, Incident, Record, Watermark
from linekeeper.views.trust_page import trust_markdown
from linekeeper.views.trust_queries import trust_report
from tests.reconcile.conftest import Peer, feed, run

ASSETS = "eam/assets"


async def known(rt: Runtime, connection: Connection, entity: str = ASSETS) -> Completeness:
    """What is said of the number of its records."""
    states = await entity_states(rt.store, connection_id=connection.id)
    return completeness_of(next(state for state in states if state.entity == entity))


async def page(rt: Runtime) -> str:
    """The artifact `webhook-trust`."""
    return trust_markdown(await trust_report(rt.store, now=utcnow()), Links(FROM_A_PAGE))


async def kinds(rt: Runtime) -> set[str]:
    """Of the open incidents."""
    async with rt.store.read() as session:
        rows = select(col(Incident.kind)).where(col(Incident.resolved_at).is_(None))
        return set(await session.scalars(rows))


async def deleted(rt: Runtime, connection: Connection) -> int:
    """Its assets that were taken for deleted, or are proposed to be."""
    async with rt.store.read() as session:
        gone = await session.scalars(
            select(Record).where(
                col(Record.connection_id) == connection.id,
                col(Record.entity) == ASSETS,
                col(Record.deleted_at).is_not(None),
            )
        )
        proposed = await session.scalars(
            select(Deletion).where(
                col(Deletion.connection_id) == connection.id, col(Deletion.entity) == ASSETS
            )
        )
        return len(gone.all()) + len(proposed.all())


async def test_a_coarse_clock_loses_no_change_of_the_same_day(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await peer.set("settings", clock="day")
    await run(rt)
    where = {"connection": one.makini_key, "entity": ASSETS, "announce": False}
    for _ in range(3):  # the same day each time, after readings that found nothing new
        done = await peer.set("records", change=2, **where)
        changed = set(done["records"][one.makini_key][ASSETS]["changed"])
        before = len(await feed(rt))
        await run(rt)
        assert {change.key for change in (await feed(rt))[before:]} == changed
        await run(rt)
    async with rt.store.read() as session:
        mark = await session.get_one(Watermark, (one.id, ASSETS))
        rows = await session.scalars(select(Change).where(col(Change.recovered)))
    assert mark.grain_seconds == timedelta(days=1).total_seconds()
    assert len(rows.all()) == 6


async def test_a_history_window_is_recognised_and_nothing_older_is_deleted(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    days = (50, 40, 30, 20)
    await peer.set(
        "records",
        announce=False,
        put=[
            {
                "connection": one.makini_key,
                "entity": ASSETS,
                "record": {"updatedAt": (utcnow() - timedelta(days=day)).isoformat()},
            }
            for day in days
        ],
    )
    await run(rt)
    whole = await known(rt, one)
    assert whole.state == "agrees"
    await peer.set("settings", history_days="60")
    for _ in range(3):
        await run(rt, full=True)
    windowed = await known(rt, one)
    assert (windowed.state, windowed.unknown) == ("unknown", ("window",))
    assert windowed.here == whole.here
    assert windowed.source == 4
    assert await deleted(rt, one) == 0
    assert "History window" in await page(rt)


@pytest.mark.parametrize("fault", ["overlap", "most_listed"])
async def test_listings_below_the_sources_own_total_delete_nothing_and_say_so(
    rt: Runtime, peer: Peer, one: Connection, fault: str
) -> None:
    await run(rt)
    here = (await known(rt, one)).here
    await peer.set("settings", page_limit=10, **{fault: "8" if fault == "overlap" else "12"})
    for _ in range(3):
        await run(rt, full=True)
    assert await deleted(rt, one) == 0
    assert (await known(rt, one)).here == here
    assert "entity_inconsistent" in await kinds(rt)
    assert "records are listed" in await page(rt)
    await peer.set("settings", page_limit=500, **{fault: ""})
    await run(rt, full=True)
    assert await kinds(rt) == set()
    assert (await known(rt, one)).state == "agrees"


async def test_what_stays_listed_as_deleted_is_deleted_here_by_the_next_poll(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    await peer.set("settings", deleted="listed")
    done = await peer.set("records", connection=one.makini_key, entity=ASSETS, delete=3)
    gone = set(done["records"][one.makini_key][ASSETS]["deleted"])
    before = len(await feed(rt))
    await run(rt)
    changes = [(change.op, change.key) for change in (await feed(rt))[before:]]
    assert sorted(changes) == sorted(("deleted", key) for key in gone)
    assert (await known(rt, one)).state == "agrees"


@pytest.mark.parametrize("status", [403, 500])
async def test_an_entity_that_is_refused_starves_no_other_and_is_named(
    rt: Runtime, peer: Peer, one: Connection, status: int
) -> None:
    await run(rt)
    await peer.set("settings", refused=f"eam/work-orders={status}")
    for _ in range(2):
        await peer.set("records", connection=one.makini_key, entity=ASSETS, change=1)
        before = len(await feed(rt))
        await run(rt)
        assert len(await feed(rt)) == before + 1
    refused = await known(rt, one, "eam/work-orders")
    assert (refused.state, refused.unknown) == ("unknown", ("failing",))
    assert (await known(rt, one)).state == "agrees"
    kind = "entity_forbidden" if status == 403 else "entity_failing"
    assert await kinds(rt) == {kind}
    assert "## Entities that can't be read" in await page(rt)
    await peer.set("settings", refused="")
    await run(rt)
    assert await kinds(rt) == set()
