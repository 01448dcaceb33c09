"""Looking at open cases costs one statement, however many there are (docs/reconnect.md)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, update
from sqlmodel import col, select

from linekeeper.incidents.lifecycle import Opening, open_new
from linekeeper.reconnect.remind import DEADLINE
from linekeeper.reconnect.watch import watch
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer, Incident, Outbox, Reconnect

MONDAY = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)


@contextmanager
def counting(store: Store) -> Iterator[list[str]]:
    """What was executed to its end: a read that takes long is begun anew in the driver's thread."""
    statements: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_more: object) -> None:
        if not statement.startswith("BEGIN"):
            statements.append(statement)

    engine = store.engine.sync_engine
    event.listen(engine, "after_cursor_execute", note)
    yield statements
    event.remove(engine, "after_cursor_execute", note)


async def open_cases(store: Store, count: int) -> None:
    """`count` incidents of lost logins, a customer each, whose runs wait."""
    async with store.write() as session:
        for number in range(count):
            customer = Customer(name=f"Acme {number}", slug=f"acme-{number}", time_zone="UTC")
            connection = Connection(
                app="default",
                makini_key=f"k{number}",
                customer_id=customer.id,
                name=f"Acme {number}",
                slug=f"acme-{number}",
                provider="SAP ECC",
                setup="live",
                health="reauthorization_required",
                health_since=MONDAY,
                created_at=MONDAY,
            )
            session.add(customer)
            await session.flush()
            session.add(connection)
            await session.flush()
            incident_id = await open_new(
                store,
                session,
                Opening(
                    topic="health",
                    kind="reauthorization_required",
                    scope="connection",
                    cause=f"connection:{connection.id}:health",
                    app="default",
                    title=f"Acme {number}",
                    members={connection.id: "reauthorization_required"},
                ),
                now=MONDAY,
            )
            assert incident_id is not None
            session.add(
                Reconnect(
                    incident_id=incident_id,
                    run_id=f"run-{number}",
                    opened_at=MONDAY,
                    deadline_at=MONDAY + DEADLINE,
                )
            )


@pytest.mark.parametrize("cases", [1, 10, 100])
async def test_b2_one_statement_looks_at_all_open_cases(
    settings: Settings, store: Store, cases: int
) -> None:
    rt = Runtime(settings, store)
    await rt.configuration()
    await open_cases(store, cases)
    in_between = [MONDAY, MONDAY + timedelta(hours=5)]
    for now in in_between:
        with counting(store) as statements:
            assert await watch(rt, now=now) == cases
        assert len(statements) == 1, statements
    reminder_due = MONDAY + timedelta(days=1, hours=1)
    await watch(rt, now=reminder_due)
    with counting(store) as statements:
        await watch(rt, now=reminder_due + timedelta(seconds=10))
    assert len(statements) == 1, statements
    async with store.read() as session:
        said = list(await session.scalars(select(Outbox.dedupe_key)))
    assert len([key for key in said if ":remind:1:1" in key]) == cases


async def test_b2_a_run_that_was_woken_costs_no_more_than_the_look_until_its_next_turn(
    settings: Settings, store: Store
) -> None:
    rt = Runtime(settings, store)
    await rt.configuration()
    await open_cases(store, 10)
    resolved = MONDAY + timedelta(hours=1)
    async with store.write() as session:
        await session.execute(
            update(Incident)
            .values(status="resolved", resolved_at=resolved)
            .where(col(Incident.kind) == "reauthorization_required")
        )
    later = resolved + timedelta(hours=1)
    await watch(rt, now=later)
    with counting(store) as statements:
        await watch(rt, now=later + timedelta(seconds=10))
    assert len(statements) == 1, statements
    await watch(rt, now=later + timedelta(minutes=5))
    async with store.read() as session:
        woken = list(await session.scalars(select(Outbox.dedupe_key)))
    assert len([key for key in woken if key.startswith("run:wake:")]) == 20
