"""Runs are started once and events appear once, however often they are delivered."""

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun
from prefect.states import Suspended
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from linekeeper import clock
from linekeeper.clock import utcnow
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.outbox.senders.prefect import runs_to_prefect
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Outbox
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.consumer.conftest import Prefect
from tests.delivering import deliver_events, deliver_runs
from tests.forking import python

ME = "me"


async def put(store: Store, *messages: Message) -> None:
    """Write rows into the outbox."""
    async with store.write() as session:
        await enqueue(store, session, messages, now=utcnow())


async def rows(store: Store) -> list[Outbox]:
    """All rows, oldest first."""
    async with store.read() as session:
        return list(await session.scalars(select(Outbox).order_by(col(Outbox.seq))))


async def again(store: Store) -> None:
    """As if the deliverer had died before it could settle."""
    async with store.write() as session:
        await session.execute(
            update(Outbox).values(
                status="pending", claimed_by=None, next_attempt_at=utcnow(), settled_at=None
            )
        )


def run(key: str, **fields: Any) -> Message:
    """A row that starts `doctor`."""
    return Message("run", key, {"deployment": "doctor", **fields})


async def test_a_run_is_started_once_even_if_its_row_is_delivered_twice(
    prefect: Prefect, store: Store
) -> None:
    key = f"incident:{new_id()}:1"
    fields = {
        "name": "Acme · SAP ECC",
        "parameters": {"test_message": "hello"},
        "tags": ["waiting"],
    }
    await put(store, run(key, idempotency_key=key, **fields))
    assert await deliver_runs(store, prefect.orchestrator, ME)
    await again(store)
    assert await deliver_runs(store, prefect.orchestrator, ME)
    assert not await deliver_runs(store, prefect.orchestrator, ME)

    [only] = await started_by(prefect, key)
    assert only.name == "Acme · SAP ECC"
    assert only.parameters == {"test_message": "hello"}
    assert {"linekeeper", "waiting"} <= set(only.tags)
    assert [row.status for row in await rows(store)] == ["sent"]


async def started_by(prefect: Prefect, key: str) -> list[FlowRun]:
    """The runs with this idempotency key, among however many other tests have started."""
    known = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key]))
    runs: list[FlowRun] = await prefect.client.read_flow_runs(flow_run_filter=known)
    return runs


async def test_two_deliverers_at_once_start_one_run(prefect: Prefect, store: Store) -> None:
    key = f"race:{new_id()}"
    await put(store, run(key, idempotency_key=key), run(f"{key}:b", idempotency_key=key))
    await asyncio.gather(
        *(deliver_runs(store, prefect.orchestrator, owner) for owner in ("one", "two"))
    )
    started = await started_by(prefect, key)
    assert len(started) == 1


async def test_what_prefect_refuses_waits_without_holding_up_others_and_dies_after_a_day(
    prefect: Prefect, store: Store
) -> None:
    bad, good = f"bad:{new_id()}", f"good:{new_id()}"
    await put(
        store,
        Message("run", bad, {"deployment": "no-such"}),
        run(f"{bad}:2", parameters={"test_message": 7}),
        run(good),
    )
    await deliver_runs(store, prefect.orchestrator, ME)
    missing, unfit, fine = await rows(store)
    assert (missing.status, unfit.status, fine.status) == ("pending", "pending", "sent")
    assert "linekeeper deploy" in (missing.error or "")
    assert "refused" in (unfit.error or "")

    async with store.write() as session:
        await session.execute(update(Outbox).values(created_at=utcnow() - timedelta(days=2)))
        await session.execute(update(Outbox).values(next_attempt_at=utcnow()))
    await deliver_runs(store, prefect.orchestrator, ME)
    assert [row.status for row in await rows(store)] == ["dead", "dead", "sent"]


async def test_with_prefect_away_rows_wait_and_are_never_dead(
    prefect: Prefect, nobody: PrefectOrchestrator, store: Store
) -> None:
    await put(store, run("a"), run("b"), event("linekeeper.connection.healthy"))
    async with store.write() as session:
        await session.execute(update(Outbox).values(created_at=utcnow() - timedelta(days=9)))
    for deliver in (deliver_runs, deliver_events):
        assert await deliver(store, nobody, ME)
    assert [row.status for row in await rows(store)] == ["pending"] * 3
    await again(store)
    while await deliver_runs(store, prefect.orchestrator, ME):
        pass
    await deliver_events(store, prefect.orchestrator, ME)
    assert [row.status for row in await rows(store)] == ["sent"] * 3


class Later(clock.Clock):
    """A clock that is `by` ahead."""

    by = timedelta()

    def utcnow(self) -> datetime:
        return super().utcnow() + self.by


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Iterator[Later]:
    """Time as the test lets it pass, here and where the database is."""

    async def shared(store: Store, session: AsyncSession) -> datetime:
        return clock.utcnow()

    monkeypatch.setattr(Store, "clock", shared)
    before = clock.use(ahead := Later())
    yield ahead
    clock.use(before)


async def test_while_prefect_is_away_few_messages_find_out_when_it_is_back(
    prefect: Prefect,
    nobody: PrefectOrchestrator,
    store: Store,
    later: Later,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However many wait: one at a time is tried, and the log says once that they do."""
    messages = [run(f"waits:{number}:{new_id()}") for number in range(10)]
    await put(store, *messages)
    with caplog.at_level(logging.INFO, "linekeeper.outbox.senders.prefect"):
        async with runs_to_prefect(store, nobody, ME) as away:
            for _ in range(12):
                await away.deliver()
                later.by += timedelta(seconds=3)
            tried = sum(row.attempts for row in await rows(store))
            assert tried <= len(messages) + 8
            sender: Any = away.sender
            sender._orchestrator = prefect.orchestrator
            for _ in range(12):
                await away.deliver()
                later.by += timedelta(seconds=3)
    assert {row.status for row in await rows(store)} == {"sent"}
    assert sum("wait: " in line for line in caplog.messages) == 1
    assert sum("taken again" in line for line in caplog.messages) == 1


async def test_resuming_is_harmless_where_nothing_waits(prefect: Prefect, store: Store) -> None:
    await put(store, run("first"))
    await deliver_runs(store, prefect.orchestrator, ME)
    [started] = await started_by(prefect, "first")
    await put(
        store,
        Message("run", "resume:gone", {"resume": new_id()}),
        Message("run", "resume:not-waiting", {"resume": str(started.id)}),
    )
    await deliver_runs(store, prefect.orchestrator, ME)
    assert [row.status for row in await rows(store)] == ["sent"] * 3


async def test_a_suspended_run_is_resumed(prefect: Prefect, store: Store) -> None:
    key = f"waits:{new_id()}"
    run_id = UUID(await prefect.orchestrator.start_run(_doctor(key)))
    await prefect.client.set_flow_run_state(run_id, Suspended(timeout_seconds=600), force=True)
    await put(store, Message("run", f"resume:{run_id}", {"resume": str(run_id)}))
    await deliver_runs(store, prefect.orchestrator, ME)
    state = (await prefect.client.read_flow_run(run_id)).state
    assert state is not None
    assert state.name == "Resuming"


@pytest.mark.repeats(
    "consumer/test_delivery.py::test_a_run_is_started_once_even_if_its_row_is_delivered_twice",
    "consumer/test_delivery.py::test_resuming_is_harmless_where_nothing_waits",
)
async def test_killed_between_prefect_and_the_commit_a_run_is_started_once_and_resumed_once(
    prefect: Prefect, store: Store
) -> None:
    key = f"killed:{new_id()}"
    await put(store, run(key, idempotency_key=key))
    await _killed(prefect, store)
    [started] = await started_by(prefect, key)
    assert await deliver_runs(store, prefect.orchestrator, ME)
    again = await started_by(prefect, key)
    assert [one.id for one in again] == [started.id]

    await prefect.client.set_flow_run_state(started.id, Suspended(timeout_seconds=600), force=True)
    await put(store, Message("run", f"resume:{started.id}", {"resume": str(started.id)}))
    await _killed(prefect, store)
    assert await deliver_runs(store, prefect.orchestrator, ME)
    states = await prefect.client.read_flow_run_states(started.id)
    assert [state.name for state in states].count("Resuming") == 1
    assert [row.status for row in await rows(store)] == ["sent"] * 2


async def _killed(prefect: Prefect, store: Store) -> None:
    """A deliverer is killed once Prefect has answered; its claims run out."""
    url = store.engine.url.render_as_string(hide_password=False)
    process = await python(
        *("tests.consumer.dying", url),
        *(str(prefect.settings.prefect_port), str(prefect.settings.home)),
        env={
            **os.environ,
            "LINEKEEPER_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        },
    )
    said, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()
    assert {row.status for row in await rows(store)} >= {"pending"}
    async with store.write() as session:
        await session.execute(update(Outbox).values(next_attempt_at=utcnow()))


def _doctor(key: str) -> Any:
    from linekeeper.orchestrator import RunRequest

    return RunRequest("doctor", idempotency_key=key)


def event(name: str, connection: str | None = None, **fields: Any) -> Message:
    """A row for the Event Feed."""
    connection = connection or new_id()
    resource = {
        "prefect.resource.id": f"linekeeper.connection.{connection}",
        "prefect.resource.name": "Acme · SAP ECC",
    }
    payload = {
        "name": name,
        "occurred": utcnow().isoformat(),
        "resource": resource,
        "related": [
            {"prefect.resource.id": "linekeeper.customer.1", "prefect.resource.role": "customer"}
        ],
        "payload": {"before": "healthy"},
        **fields,
    }
    return Message("event", new_id(), payload, ordering_key=f"event:{connection}")


async def feed(prefect: Prefect, connection: str, wanted: int) -> list[dict[str, Any]]:
    """The entries about `connection`; the server writes them a moment later."""
    found: list[dict[str, Any]] = []
    for _ in range(100):
        answer = await prefect.client.request(
            "POST",
            "/events/filter",
            json={"filter": {"any_resource": {"id": [f"linekeeper.connection.{connection}"]}}},
        )
        found = answer.json()["events"]
        if len(found) >= wanted:
            break
        await asyncio.sleep(0.1)
    return found


async def test_events_appear_in_the_feed_once_however_often_they_are_delivered(
    prefect: Prefect, store: Store
) -> None:
    connection, stable = new_id(), new_id()
    await put(
        store,
        event("linekeeper.connection.unreachable", connection, id=stable),
        event("linekeeper.connection.healthy", connection),
    )
    for _ in range(2):
        while await deliver_events(store, prefect.orchestrator, ME):
            pass
        await again(store)
    last = event("linekeeper.connection.degraded", connection)
    await put(store, last)
    while await deliver_events(store, prefect.orchestrator, ME):
        pass
    entries = await feed(prefect, connection, 3)
    assert sorted(entry["event"] for entry in entries) == [
        "linekeeper.connection.degraded",
        "linekeeper.connection.healthy",
        "linekeeper.connection.unreachable",
    ]
    assert stable in {entry["id"] for entry in entries}


async def test_a_malformed_event_does_not_hold_up_the_others(
    prefect: Prefect, store: Store
) -> None:
    await put(
        store,
        event("linekeeper.connection.healthy", related=[{"no": "id"}]),
        event("linekeeper.connection.healthy"),
    )
    await deliver_events(store, prefect.orchestrator, ME)
    bad, good = await rows(store)
    assert (bad.status, good.status) == ("pending", "sent")
    assert "refused" in (bad.error or "")
