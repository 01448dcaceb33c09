"""What happened while nothing of ours ran is not known: a machine that was off saw nothing."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.availability.decide import WaitedFor
from linekeeper.availability.service import read_month
from linekeeper.clock import utcnow
from linekeeper.reconcile.outage import covered, note_outages, uncovered
from linekeeper.store import Store
from linekeeper.store.tables import (
    Connection,
    Customer,
    Outage,
    Outbox,
    PartHeartbeat,
    ReceiverHeartbeat,
    Transition,
)
from linekeeper.watch.queries import done

HOUR = timedelta(hours=1)
OFF = timedelta(hours=3)


async def planted(store: Store, *, now: datetime | None = None) -> None:
    """One connection that was well all the time."""
    async with store.write() as session:
        customer = Customer(name="Acme", slug="acme")
        session.add(customer)
        await session.flush()
        session.add(
            Connection(
                app="default",
                makini_key="k",
                name="ECC",
                slug="ecc",
                provider="SAP",
                customer_id=customer.id,
                setup="live",
                health="healthy",
                created_at=(now or utcnow()) - 5 * HOUR,
            )
        )


async def stored(store: Store, *spans: tuple[str, datetime, datetime]) -> None:
    """These receivers could store then."""
    async with store.write() as session:
        for receiver, since, at in spans:
            session.add(ReceiverHeartbeat(receiver=receiver, since=since, at=at))


async def swept(store: Store, at: datetime) -> None:
    """A sweep was completed then."""
    await done(store, "sweep")
    async with store.write() as session:
        await session.execute(
            update(PartHeartbeat).where(col(PartHeartbeat.part) == "sweep").values(at=at)
        )


def first_hours(now: datetime) -> datetime:
    """An hour and a quarter after this month began."""
    return now.replace(day=1, hour=1, minute=15, second=0, microsecond=0)


async def minutes(store: Store, now: datetime) -> dict[WaitedFor, int]:
    """How the last five hours were, whichever months they are of."""
    months = {f"{at:%Y-%m}" for at in (now, now - 5 * HOUR)}
    lines = [(await read_month(store, month, now=now)).lines for month in months]
    counted = [dict(line.minutes) for each in lines for line in each]
    return {waiting: sum(each[waiting] for each in counted) for waiting in WaitedFor}


@pytest.mark.parametrize("noticed", ["before the next sweep", "after the next sweep"])
async def test_nobody_knows_how_a_connection_was_while_nothing_of_ours_ran(
    store: Store, noticed: str
) -> None:
    now = utcnow()
    gone, back = now - HOUR - OFF, now - HOUR
    await planted(store)
    await stored(store, ("a", gone - HOUR, gone), ("b", back, now))
    await swept(store, gone - 5 * HOUR / 60)
    if noticed == "after the next sweep":
        await swept(store, back + HOUR / 60)
    await note_outages(store, now=now)
    await swept(store, now)
    found = await minutes(store, now)
    assert found[WaitedFor.unknown] == pytest.approx(180, abs=1)
    assert found[WaitedFor.healthy] == pytest.approx(120, abs=1)
    window = await uncovered(store)
    assert window is not None
    await covered(store, window, connections=1, left=0, recovered=0, now=now)
    async with store.read() as session:
        assert await session.scalar(select(col(Outage.cause))) == "standstill"
        [said] = await session.scalars(select(col(Outbox.payload)))
    assert "Linekeeper did not run" in str(said)


@pytest.mark.parametrize("why", ["swept meanwhile", "the same receiver", "short", "never swept"])
async def test_where_something_of_ours_ran_a_connection_that_was_well_is_held_well(
    store: Store, why: str
) -> None:
    now = utcnow()
    off = HOUR / 6 if why == "short" else OFF
    gone, back = now - HOUR - off, now - HOUR
    after = "a" if why == "the same receiver" else "b"
    await planted(store)
    await stored(store, ("a", gone - HOUR, gone), (after, back, now))
    if why != "never swept":
        await swept(store, gone - HOUR / 60)
        await swept(store, gone + (HOUR if why == "swept meanwhile" else -HOUR / 120))
    await note_outages(store, now=now)
    found = await minutes(store, now)
    assert (found[WaitedFor.unknown], found[WaitedFor.healthy]) == (0, pytest.approx(300, abs=1))
    async with store.read() as session:
        assert await session.scalar(select(col(Outage.cause))) == "receiver"


@pytest.mark.parametrize("crosses_months", [True, False])
@pytest.mark.parametrize("is_repaired", [True, False])
async def test_when_a_trouble_ended_while_nothing_of_ours_ran_is_not_known(
    store: Store, is_repaired: bool, crosses_months: bool
) -> None:
    now = first_hours(utcnow()) if crosses_months else utcnow()
    gone, back = now - HOUR - OFF, now - HOUR
    await planted(store, now=now)
    lost, found_well = gone - HOUR / 2, back + HOUR / 30
    turns = [(lost, "healthy", "reauthorization_required")]
    turns += [(found_well, "reauthorization_required", "healthy")] if is_repaired else []
    async with store.write() as session:
        connection = (await session.scalars(select(Connection))).one()
        connection.health = turns[-1][2]
        for at, before, after in turns:
            session.add(
                Transition(
                    connection_id=connection.id,
                    at=at,
                    axis="health",
                    before=before,
                    after=after,
                    source="sweep",
                )
            )
    await stored(store, ("a", gone - HOUR, gone), ("b", back, now))
    await swept(store, gone - HOUR / 12)
    await note_outages(store, now=now)
    found = await minutes(store, now)
    login, unknown = (32, 180) if is_repaired else (270, 0)
    assert found[WaitedFor.customer_login] == pytest.approx(login, abs=1)
    assert found[WaitedFor.unknown] == pytest.approx(unknown, abs=1)
