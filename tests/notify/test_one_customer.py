"""An incident of many connections that are nearly all one customer's does not blame the app."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import pytest
from sqlalchemy import event, select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import HealthPolicy
from linekeeper.incidents.conclude import conclude
from linekeeper.incidents.operate import begin
from linekeeper.incidents.suppressed import suppressed
from linekeeper.notify import compose
from linekeeper.notify.view import load_views
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer, Incident


async def said_of(
    store: Store, hit: Mapping[str, int], fleet: Mapping[str, int]
) -> tuple[str, str]:
    """The scope of the incident, and its message: of each customer's `fleet` so many are `hit`."""
    now = utcnow()
    async with store.write() as session:
        for name, count in fleet.items():
            customer = Customer(name=name, slug=name.lower())
            session.add(customer)
            await session.flush()
            for number in range(count):
                lost = number < hit.get(name, 0)
                session.add(
                    Connection(
                        app="default",
                        makini_key=f"{name}-{number}",
                        customer_id=customer.id,
                        name=f"System {number}",
                        slug=f"{name}-{number}".lower(),
                        provider=("SAP ECC", "Fiix")[number % 2],
                        setup="live",
                        health="reauthorization_required" if lost else "healthy",
                        health_since=now,
                        last_answered_at=now,
                    )
                )
        await session.flush()
        await conclude(store, session, policy=HealthPolicy(), now=now)
    async with store.read() as session:
        [incident] = await session.scalars(
            select(Incident).where(col(Incident.scope) != "connection")
        )
    [view] = (await load_views(store, [incident.id])).values()
    return incident.scope, compose.plain(view, now=now)


async def test_what_nearly_all_of_one_customer_lost_is_not_said_to_be_the_apps(
    store: Store,
) -> None:
    scope, said = await said_of(
        store, {"Acme": 80, "Bolt": 6}, {"Acme": 200, "Bolt": 100, "Cargo": 100}
    )  # of half of Acme's or more it is Acme's incident (tests/health/test_customers_outage.py)
    assert scope == "app"
    whose = "probably at Acme: 80 of the 86 connections are theirs"
    assert f"{whose}; 194 connections of other customers are not affected" in said
    assert "fail alike" not in said


@pytest.mark.parametrize(
    "fleet", [{"Acme": 80, "Bolt": 40}, {"Acme": 80, "Bolt": 32}], ids=["most", "all"]
)
async def test_where_most_of_the_others_are_lost_too_it_is_no_customers(
    store: Store, fleet: Mapping[str, int]
) -> None:
    scope, said = await said_of(store, {"Acme": 80, "Bolt": 32}, fleet)
    assert scope == "app"
    assert "connections of several providers fail alike" in said


async def reopened(store: Store, names: Iterable[str], *, now: datetime) -> Incident:
    """The app's incident, of Acme and Bolt before, in which only `names` are ten minutes later."""
    async with store.write() as session:
        await session.execute(update(Connection).values(health="healthy", health_since=now))
        await conclude(store, session, policy=HealthPolicy(), now=now)
    async with store.write() as session:
        await session.execute(
            update(Connection)
            .where(col(Connection.makini_key).in_(list(names)))
            .values(health="reauthorization_required", health_since=now)
        )
        await conclude(store, session, policy=HealthPolicy(), now=now)
    async with store.read() as session:
        [incident] = await session.scalars(
            select(Incident).where(
                col(Incident.scope) == "app", col(Incident.resolved_at).is_(None)
            )
        )
    assert incident.round == 1
    return incident


_LOST, _FLEET = {"Acme": 80, "Bolt": 6}, {"Acme": 200, "Bolt": 100, "Cargo": 100}


async def test_a_reopened_incident_blames_nobody_for_what_was_lost_before(store: Store) -> None:
    await said_of(store, _LOST, _FLEET)
    now = utcnow() + timedelta(minutes=10)
    names = [f"{name}-{number}" for name in ("Bolt", "Cargo") for number in range(6)]
    incident = await reopened(store, names, now=now)
    [view] = (await load_views(store, [incident.id])).values()
    assert "probably at Acme" not in compose.plain(view, now=now)


async def test_a_window_covers_a_reopened_incident_in_which_only_its_customer_is_now(
    store: Store,
) -> None:
    """Acme's, of which the first opening was, are well, and in no maintenance."""
    await said_of(store, _LOST, _FLEET)
    now = utcnow() + timedelta(minutes=10)
    await begin(
        store, "customer", "Bolt", kind="maintenance", starts_at=now, lasts=timedelta(hours=2),
        by="Ann", reason="", now=now,
    )  # fmt: skip
    incident = await reopened(store, [f"Bolt-{number}" for number in range(12)], now=now)
    async with store.read() as session:
        assert await suppressed(session, [incident], now) == {incident.id: "maintenance of Bolt"}


async def test_many_incidents_of_providers_are_read_in_as_few_statements_as_two(
    store: Store,
) -> None:
    """Each asked for its own: a message about thousands of them was asked for a minute."""
    now = utcnow()
    async with store.write() as session:
        acme, bolt = Customer(name="Acme", slug="acme"), Customer(name="Bolt", slug="bolt")
        session.add_all([acme, bolt])
        await session.flush()
        session.add_all(
            Connection(
                app="default",
                makini_key=f"{number}",
                customer_id=(acme if number % 5 else bolt).id,
                name=f"System {number}",
                slug=f"system-{number}",
                provider=f"P{number // 10}",
                setup="live",
                health="unreachable" if number % 10 < 6 and number < 120 else "healthy",
                health_since=now - timedelta(hours=number // 10),
                last_answered_at=now,
            )
            for number in range(240)
        )
        await session.flush()
        await conclude(store, session, policy=HealthPolicy(), now=now)
    async with store.read() as session:
        ids = list(await session.scalars(select(Incident.id).order_by(col(Incident.provider))))
    assert len(ids) == 12
    few, many = await statements_of(store, ids[:2]), await statements_of(store, ids)
    assert many == few
    views = (await load_views(store, ids)).values()
    shares = {
        (view.share.customer, view.share.hit, view.share.others_hit, view.share.others)
        for view in views
        if view.share is not None
    }
    assert shares == {("Acme", 4, 2, 2)}


async def statements_of(store: Store, ids: list[str]) -> int:
    """How many statements it takes to read these incidents."""
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    engine = store.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        await load_views(store, ids)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return len(said)
