"""A sweep that takes long because of Makini's call limit is not said to check nothing."""

from datetime import datetime, timedelta

from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.leases import acquire, release
from linekeeper.store.tables import Connection, Incident, PartHeartbeat
from linekeeper.watch.service import watch

LONG = timedelta(hours=3)
CONNECTION = "01a22b00-0000-7000-8000-000000000001"


async def _open(store: Store) -> list[str]:
    async with store.read() as session:
        rows = await session.scalars(
            select(col(Incident.cause)).where(col(Incident.resolved_at).is_(None))
        )
        return list(rows)


async def _checked(store: Store, at: datetime) -> None:
    async with store.write() as session:
        await session.merge(
            Connection(
                id=CONNECTION,
                app="default",
                makini_key="k1",
                name="One",
                slug="one",
                last_checked_at=at,
            )
        )


async def test_a_sweep_that_goes_on_checking_is_not_missed_one_that_stands_still_is(
    settings: Settings, store: Store
) -> None:
    """A thousand at 60 calls a minute: it was said that connections are not being checked."""
    settings = settings.model_copy(
        update={"makini_client_id": "client", "makini_client_secret": "secret"}
    )
    now = utcnow()
    async with store.write() as session:
        for part, at in (("consumer:a", now), ("sweep", now - timedelta(minutes=40))):
            kind = part.partition(":")[0]
            session.add(PartHeartbeat(part=part, kind=kind, host="h", since=now - LONG, at=at))
        for work in ("reconcile", "refresh-tokens", "receiver:a"):
            kind = work.partition(":")[0]
            session.add(PartHeartbeat(part=work, kind=kind, host="h", since=now - LONG, at=now))
    await _checked(store, now)
    async with Runtime.open(settings) as rt:
        held = await acquire(store, "health-sweep", "run", seconds=60, now=now)
        assert held is not None
        await watch(rt)
        assert await _open(store) == []
        await _checked(store, now - timedelta(minutes=20))
        await watch(rt)
        assert await _open(store) == ["parts:work:sweep"]
        await _checked(store, now)
        await watch(rt)
        assert await _open(store) == []
        await release(
            store, held, now=utcnow()
        )  # what was checked meanwhile was checked by no sweep
        await watch(rt)
        assert await _open(store) == ["parts:work:sweep"]
