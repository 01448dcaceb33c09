"""How many records a reconnect brought is said, however coarse a source's times are."""

import asyncio
from datetime import UTC, datetime, timedelta

from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.incidents.lifecycle import Opening, open_new
from linekeeper.reconcile.backfill import reconcile_window
from linekeeper.reconnect.counts import backfilled, keep_counts
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import Connection, Reconnect
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, rt, server
from tests.reconcile.conftest import run
from tests.waiting import somebody_waits

__all__ = ["rt", "server"]
LONG_AGO = datetime(2026, 3, 2, 8, tzinfo=UTC)


def dated_by_the_day(server: Peer, *titles: str) -> None:
    today = f"{utcnow():%Y-%m-%d}T00:00:00Z"
    records = [
        {"key": f"a{number}", "updatedAt": today, "title": title}
        for number, title in enumerate(titles)
    ]
    meta = {"current_page": 1, "last_page": 1, "total": len(records)}
    server.answer("GET", ASSETS, {"data": records, "meta": meta})


def dated(server: Peer, ahead: timedelta, *titles: str) -> None:
    """Records that changed now, by a clock that is `ahead`; of no title: long ago."""
    times = {True: utcnow() + ahead, False: LONG_AGO}
    records = [
        {"key": f"a{number}", "updatedAt": times[bool(title)].isoformat(), "title": title}
        for number, title in enumerate(titles)
    ]
    meta = {"current_page": 1, "last_page": 1, "total": len(records)}
    server.answer("GET", ASSETS, {"data": records, "meta": meta})


async def test_changes_of_a_source_whose_clock_is_ahead_are_counted_as_backfilled(
    rt: Runtime, server: Peer
) -> None:
    ahead = timedelta(minutes=20)
    dated(server, ahead, "", "", "")
    await run(rt)
    incident, connection = await lost_login(rt)
    since, until = utcnow() - timedelta(minutes=5), utcnow()
    dated(server, ahead, "", "changed", "changed", "new")
    for _ in range(2):  # the second as after a crash
        counts = await reconcile_window(rt, connection, since)
        kept = await keep_counts(rt, incident, connection, counts, since=since, until=until)
        assert backfilled([kept]) == "3 records backfilled"


async def test_what_a_clock_that_is_right_dates_after_the_login_is_not_counted(
    rt: Runtime, server: Peer
) -> None:
    dated(server, timedelta(), "", "")
    await run(rt)
    incident, connection = await lost_login(rt)
    since, until = utcnow() - timedelta(minutes=5), utcnow()
    dated(server, timedelta(microseconds=1), "", "changed after it")
    counts = await reconcile_window(rt, connection, since)
    kept = await keep_counts(rt, incident, connection, counts, since=since, until=until)
    assert kept["caught_up"] == 0


async def lost_login(rt: Runtime) -> tuple[str, str]:
    """The incident and the connection of a login that was lost now."""
    lost_at = utcnow()
    async with rt.store.write() as session:
        connection = (await session.scalars(select(Connection).order_by(col(Connection.id)))).one()
        opening = Opening(
            topic="health",
            kind="reauthorization_required",
            scope="connection",
            cause="lost",
            app="default",
            title="Acme",
            summary="Lost",
            members={connection.id: "reauthorization_required"},
        )
        incident = await open_new(rt.store, session, opening, now=lost_at)
        assert incident is not None
        session.add(Reconnect(incident_id=incident, opened_at=lost_at))
    return incident, connection.id


async def test_changes_dated_before_the_login_was_lost_are_counted_as_backfilled(
    rt: Runtime, server: Peer
) -> None:
    dated_by_the_day(server, "one", "two", "three")
    await run(rt)
    lost_at = utcnow()
    incident, connection = await lost_login(rt)
    dated_by_the_day(server, "one", "changed", "changed", "new")
    since, until = lost_at - timedelta(minutes=5), utcnow() + timedelta(seconds=1)
    counts = await reconcile_window(rt, connection, since)
    kept = await keep_counts(rt, incident, connection, counts, since=since, until=until)
    assert kept["caught_up"] == 3
    assert backfilled([kept]) == "3 records backfilled"


async def test_what_two_backfills_of_one_case_brought_at_once_is_kept_of_both(
    rt: Runtime, server: Peer
) -> None:
    dated(server, timedelta(), "")
    await run(rt)
    incident, first = await lost_login(rt)
    second = new_id()

    async def kept(connection_id: str) -> None:
        times = {"since": LONG_AGO, "until": utcnow()}
        await keep_counts(rt, incident, connection_id, {"compared": 1}, **times)

    async with asyncio.TaskGroup() as both, rt.store.write() as session:
        await session.get_one(Reconnect, incident, with_for_update=True)
        both.create_task(kept(first))
        both.create_task(kept(second))
        await somebody_waits(rt.store, 2)
    async with rt.store.read() as session:
        case = await session.get_one(Reconnect, incident)
    assert set(case.counts) == {first, second}
