"""How many records a reconnect brought is said, however coarse a source's times are."""

from datetime import timedelta

from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.incidents.findings import open_incident
from linekeeper.reconcile.backfill import reconcile_window
from linekeeper.reconnect.counts import backfilled, keep_counts
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Reconnect
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, rt, server
from tests.reconcile.conftest import run

__all__ = ["rt", "server"]


def dated_by_the_day(server: Peer, *titles: str) -> None:
    today = f"{utcnow():%Y-%m-%d}T00:00:00Z"
    records = [
        {"key": f"a{number}", "updatedAt": today, "title": title}
        for number, title in enumerate(titles)
    ]
    meta = {"current_page": 1, "last_page": 1, "total": len(records)}
    server.answer("GET", ASSETS, {"data": records, "meta": meta})


async def test_changes_dated_before_the_login_was_lost_are_counted_as_backfilled(
    rt: Runtime, server: Peer
) -> None:
    dated_by_the_day(server, "one", "two", "three")
    await run(rt)
    lost_at = utcnow()
    async with rt.store.write() as session:
        connection = (await session.scalars(select(Connection).order_by(col(Connection.id)))).one()
        incident = await open_incident(
            rt.store,
            session,
            topic="health",
            kind="reauthorization_required",
            scope="connection",
            cause="lost",
            app="default",
            title="Acme",
            text="Lost",
            connections=[connection.id],
            detail={},
            now=lost_at,
        )
        assert incident is not None
        session.add(Reconnect(incident_id=incident, opened_at=lost_at))
    dated_by_the_day(server, "one", "changed", "changed", "new")
    since, until = lost_at - timedelta(minutes=5), utcnow() + timedelta(seconds=1)
    counts = await reconcile_window(rt, connection.id, since, until)
    kept = await keep_counts(rt, incident, connection.id, counts, since=since, until=until)
    assert kept["caught_up"] == 3
    assert backfilled([kept]) == "3 records backfilled"
