"""The nightly check writes in a few statements, however large the fleet: it holds the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, insert, select, update
from sqlmodel import col

from linekeeper.credits.decide import Leak
from linekeeper.credits.service import check, ledger
from linekeeper.customers.change import CustomerChange, change_customer
from linekeeper.store import Store
from linekeeper.store.tables import Connection, CreditEntry, Customer
from tests.credits.test_tariffs import NOW

MANY = 300


@contextmanager
def few_statements(store: Store) -> Iterator[None]:
    said: list[str] = []

    def note(_a: Any, _b: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    engine = store.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len(said) < 30, said[-3:]


async def test_a_large_fleet_is_booked_charged_anew_and_returned_in_a_few_statements(
    store: Store,
) -> None:
    acme = Customer(name="Acme", slug="acme")
    async with store.write() as session:
        session.add(acme)
        await session.flush()
        rows = [
            Connection(
                app="default",
                makini_key=f"k{number}",
                customer_id=acme.id,
                name=f"Plant {number}",
                slug=f"plant-{number}",
                provider="SAP ECC",
                list_status="Active",
                setup="live",
            ).model_dump()
            for number in range(MANY)
        ]
        await session.execute(insert(Connection), rows)

    async def looked() -> tuple[Leak, ...]:
        with few_statements(store):
            return await check(store, now=NOW)

    assert len(await looked()) == MANY
    assert (await ledger(store, today=NOW.date())).balance.consumed == MANY * 8
    with few_statements(store):
        await change_customer(store, "Acme", CustomerChange(tier="I"), by="Olaf", now=NOW)
    assert (await ledger(store, today=NOW.date())).balance.consumed == MANY * 2
    async with store.write() as session:
        await session.execute(update(Connection).values(setup="disconnected"))
    assert {leak.kind for leak in await looked()} == {"not at Makini"}
    assert (await ledger(store, today=NOW.date())).balance.consumed == 0
    async with store.read() as session:
        booked = await session.execute(select(col(CreditEntry.connection_id), CreditEntry.subject))
    assert all(connection_id == subject for connection_id, subject in booked)
