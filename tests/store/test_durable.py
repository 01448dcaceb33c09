"""What was answered with 200, or committed, is there after a power cut: each commit waits for the
disk, whatever connection it is made on."""

import sqlite3
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from linekeeper.clock import utcnow
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.meaning import EventNames
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Audit
from tests.inbox.process.stage import NO_HEADERS

FULL = 2
"""`PRAGMA synchronous`: in WAL mode, the only one below EXTRA with which a commit is durable."""


async def deliver_and_write(store: Store) -> None:
    """A webhook by the intake's own connection, twice, and an entry of the audit by the store's."""
    names = EventNames(("eam/assets",), {})
    body = b'{"event":"assets.updated","id":"1","body":["a-1"]}'
    identity = identify("default", names, NO_HEADERS, "k1", body, now=utcnow())
    async with Intake.open(store) as intake:
        for _ in range(2):
            await intake.store(
                make_delivery(new_id(), "default", identity, body, received_at=utcnow())
            )
    async with store.write() as session:
        session.add(Audit(at=utcnow(), by="Mei", action="key.added", subject="shop"))


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")
async def test_on_sqlite_every_commit_waits_for_the_disk(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: dict[str, set[int]] = {}

    class Watched(sqlite3.Connection):
        """Notes how far each of its commits waits for the disk."""

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql.startswith(("INSERT", "COMMIT")):
                self._note("intake")
            return super().execute(sql, *values)

        def commit(self) -> None:
            if self.in_transaction:
                self._note("store")
            super().commit()

        def _note(self, whose: str) -> None:
            (mode,) = super().execute("PRAGMA synchronous").fetchone()
            waits.setdefault(whose, set()).add(mode)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    async with Store.open(settings) as store:
        await deliver_and_write(store)
    assert waits == {"intake": {FULL}, "store": {FULL}}


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_on_postgresql_commits_wait_as_the_server_says(store: Store) -> None:
    await deliver_and_write(store)
    asked = text("SELECT source FROM pg_settings WHERE name = 'synchronous_commit'")
    async with store.engine.connect() as connection:
        assert (await connection.execute(asked)).scalar_one() not in ("client", "session")
