"""What is silent or overdue stays so when only those who watch were started anew."""

from datetime import datetime, timedelta

from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Incident, PartHeartbeat
from linekeeper.watch.queries import done, note_prefect, remove
from linekeeper.watch.service import TOPIC, watch

LONG = timedelta(hours=3)


async def _lives(store: Store, part: str, *, since: datetime, at: datetime) -> None:
    kind = part.partition(":")[0]
    async with store.write() as session:
        row = PartHeartbeat(part=part, kind=kind, host="h", since=since, at=at, mark="1")
        await session.merge(row)


async def _open(store: Store) -> dict[str, str]:
    """The causes of what is open, and its title."""
    async with store.read() as session:
        rows = await session.execute(
            select(col(Incident.cause), col(Incident.title)).where(
                col(Incident.topic) == TOPIC, col(Incident.resolved_at).is_(None)
            )
        )
        return {row.cause: row.title for row in rows}


async def test_what_was_found_is_not_over_because_its_watchers_were_started_anew(
    settings: Settings, store: Store
) -> None:
    """It had been said that a sweep was completed, and that Prefect answers, at each restart."""
    settings = settings.model_copy(
        update={"makini_client_id": "client", "makini_client_secret": "secret"}
    )
    now, away = utcnow(), utcnow() - timedelta(minutes=40)
    async with Runtime.open(settings) as rt:
        for watcher in ("consumer:a", "receiver:a"):
            await _lives(store, watcher, since=now - LONG, at=now)
        await _lives(store, "receiver:gone", since=now - LONG, at=away)
        await _lives(store, "prefect", since=now - LONG, at=away)
        await _lives(store, "reconcile", since=now - LONG, at=now - LONG)
        await watch(rt)
        found = await _open(store)
        assert found.keys() == {
            f"parts:{cause}"
            for cause in ("work:sweep", "work:reconcile", "part:prefect", "part:receiver:gone")
        }

        await remove(store, ["consumer:a", "receiver:a"])
        await _lives(store, "consumer:b", since=utcnow(), at=utcnow())
        await watch(rt)
        assert await _open(store) == found

        await done(store, "sweep")
        await note_prefect(store, {}, paused=False)
        await watch(rt)
        assert (await _open(store)).keys() == {"parts:work:reconcile", "parts:part:receiver:gone"}
        await _lives(store, "receiver:b", since=utcnow(), at=utcnow())
        await done(store, "reconcile")
        await watch(rt)
        assert await _open(store) == {}


async def test_of_workers_nothing_is_known_while_prefect_is_silent_so_nothing_is_over(
    settings: Settings, store: Store
) -> None:
    now = utcnow()
    async with Runtime.open(settings) as rt:
        for part in ("consumer:a", "receiver:a", "prefect"):
            await _lives(store, part, since=now - LONG, at=now)
        await _lives(store, "worker:w", since=now - LONG, at=now - timedelta(minutes=40))
        await watch(rt)
        assert (await _open(store)).keys() == {"parts:pool"}
        await _lives(store, "prefect", since=now - LONG, at=now - timedelta(minutes=20))
        await watch(rt)
        assert (await _open(store)).keys() == {"parts:pool", "parts:part:prefect"}
        await note_prefect(store, {"w": "1"}, paused=False)  # it answers: the worker said nothing
        await watch(rt)
        assert (await _open(store)).keys() == {"parts:pool"}
        await note_prefect(store, {"w": "2"}, paused=False)
        await watch(rt)
        assert await _open(store) == {}
