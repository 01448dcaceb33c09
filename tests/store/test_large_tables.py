"""What a transaction that writes asks takes no longer for all that is kept beside it.

On SQLite such statements run in the event loop, and everybody else who writes waits for them.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from linekeeper.clock import utcnow
from linekeeper.consumer.alive import retire
from linekeeper.inbox.retention import prune_inbox
from linekeeper.incidents.conclude_queries import past_incidents
from linekeeper.reconcile.deliveries import delivered_since
from linekeeper.store import Store, new_id
from linekeeper.store.session import LeanSession
from linekeeper.store.tables import (
    Audit,
    Connection,
    Incident,
    IncidentConnection,
    Outbox,
    WebhookEvent,
)
from linekeeper.store.types import id_floor
from linekeeper.watch.queries import read_parts

MANY = 3_000
STEP = 100
"""Instructions of SQLite's machine that are counted as one."""
ENOUGH = MANY // STEP
"""Whoever looks at each of many rows takes more."""
NOW = utcnow()
OLD = NOW - timedelta(days=40)
CONNECTION = new_id()

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")


@pytest.fixture
async def kept(store: Store) -> Store:
    """A store that has been in use for long."""
    rows: list[Any] = [
        Connection(id=CONNECTION, app="default", makini_key="k1", name="SAP", slug="k1")
    ]
    incident = new_id()
    rows.append(
        Incident(
            id=incident, kind="unreachable", scope="connection", cause="c", app="default",
            title="t", opened_at=OLD, resolved_at=OLD, status="resolved",
        )
    )  # fmt: skip
    other = new_id()
    rows.append(Connection(id=other, app="default", makini_key="k2", name="ECC", slug="k2"))
    async with store.write() as session:
        session.add_all(rows)
        await session.flush()
        for number in range(MANY):
            session.add(Audit(at=OLD, by="ann", action="token.issued", subject="s"))
            session.add(
                IncidentConnection(
                    incident_id=incident, connection_id=other, kind="unreachable",
                    joined_at=OLD, left_at=OLD,
                )
            )  # fmt: skip
            session.add(
                Outbox(
                    channel="event", dedupe_key=f"k{number}", ordering_key=f"k{number}",
                    status="sent", created_at=OLD, next_attempt_at=OLD, settled_at=OLD,
                )
            )  # fmt: skip
            session.add(
                WebhookEvent(
                    id=str(UUID(int=UUID(id_floor(OLD)).int + number)),
                    app="default", delivery_key=f"k{number}", connection_id=other,
                    ordering_key=other, kind="record.updated",
                    entity="eam/assets", source="webhook",
                    status="processed", received_at=OLD, next_attempt_at=OLD, event_at=OLD,
                )
            )  # fmt: skip
    return store


class Steps:
    """How many steps SQLite took within transactions that write."""

    count = 0

    def watch(self, driver: Any) -> None:
        """Count those of a connection from now on."""

        def took() -> int:
            self.count += driver.is_writing
            return 0

        driver._conn.set_progress_handler(took, STEP)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    counted = Steps()
    real = LeanSession.reach

    def reach(self: LeanSession) -> Any:
        is_new = self._reached is None
        connection = real(self)
        if is_new and self._runs_here:
            counted.watch(connection.connection.driver_connection)
        return connection

    monkeypatch.setattr(LeanSession, "reach", reach)
    return counted


async def released(store: Store) -> None:
    await retire(store, "somebody")


async def named(store: Store) -> None:
    async with store.write() as session:
        found = await delivered_since(
            session, CONNECTION, "eam/assets", ["x", "y"], since=NOW - timedelta(days=1), new=[]
        )
    assert found == {}


async def watched(store: Store) -> None:
    async with store.write() as session:
        await read_parts(session, now=NOW)


async def concluded(store: Store) -> None:
    async with store.write() as session:
        assert await past_incidents(session, [CONNECTION], NOW - timedelta(days=90)) == {}


async def emptied(store: Store) -> None:
    """All that is kept was emptied before."""
    await prune_inbox(
        store,
        payloads_before=NOW - timedelta(days=30),
        events_before=NOW - timedelta(days=90),
        now=NOW,
    )


async def test_it_takes_no_longer_for_what_is_kept_beside_it(kept: Store, steps: Steps) -> None:
    """One fill for all: it takes longer than they do."""
    for does in (released, named, watched, concluded, emptied):
        steps.count = 0
        await does(kept)
        assert steps.count < ENOUGH, does.__name__
