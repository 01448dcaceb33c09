"""Two adjacent versions on one database: the old code goes on while the new schema is there."""

import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from linekeeper.backup import BackupError, back_up, restore
from linekeeper.clock import utcnow
from linekeeper.consumer.alive import beat, retire
from linekeeper.inbox.claim import Settled, claim_events, settle, still_ours
from linekeeper.outbox.queue import Message, claim, enqueue, outbox_of
from linekeeper.settings import Settings
from linekeeper.store import Store, StoreError, schema
from linekeeper.store import migrate as migrations
from linekeeper.store.engine import encryption_keys
from linekeeper.store.migrate import migrate
from linekeeper.store.schema import head, require_current
from linekeeper.store.tables import Connection, Customer, Incident, WebhookEvent
from tests.databases import Engine

HERE = Path(migrations.__file__).parent / "migrations"

EXPAND = '''
    """Adds what the next version needs.

    Runs: before the new code (expand)
    """
    import sqlalchemy as sa
    from alembic import op

    revision = "{new}"
    down_revision = "{old}"
    branch_labels = depends_on = None
    serves = ("{old}",)


    def upgrade():
        op.add_column("customer", sa.Column("nickname", sa.String(), nullable=True))
        op.create_table("pet", sa.Column("id", sa.Integer(), primary_key=True))
        op.create_index("outbox_created", "outbox", ["created_at"])
'''
CONTRACT = '''
    """Takes away what only old code used.

    Runs: after the new code (contract)
    """
    from alembic import op

    revision = "{newest}"
    down_revision = "{new}"
    branch_labels = depends_on = None
    serves = ("{new}",)


    def upgrade():
        op.drop_table("pet")
'''
OLD = head()
NEW, NEWEST = f"{int(OLD) + 1:04}", f"{int(OLD) + 2:04}"


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """`versions(NEW)`: from now on the code is that of a schema; `versions(OLD)` is ours."""

    def become(revision: str) -> None:
        folder = tmp_path / f"migrations-{revision}"
        shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        names = {"old": OLD, "new": NEW, "newest": NEWEST}
        for number, source in ((NEW, EXPAND), (NEWEST, CONTRACT)):
            if number <= revision:
                file = folder / "versions" / f"{number}_next.py"
                file.write_text(textwrap.dedent(source.format(**names)))

        monkeypatch.setattr(schema, "MIGRATIONS", folder)
        head.cache_clear()  # a process has one version; this one has several

    yield become
    head.cache_clear()


async def test_old_code_goes_on_while_the_new_schema_is_there_and_loses_nothing(
    store: Store, versions: Callable[[str], None]
) -> None:
    async with store.write() as session:
        session.add(
            WebhookEvent(
                app="default", delivery_key="d", kind="x", ordering_key="l", received_at=utcnow()
            )
        )
    await beat(store, "old:1")
    held = await claim_events(store, "old:1", rank=1, limit=9, now=utcnow())

    versions(NEW)
    assert await migrate(store) == (OLD, NEW)
    await require_current(store)

    versions_of_old = pytest.MonkeyPatch()
    versions_of_old.setattr(schema, "head", lambda: OLD)
    try:
        await require_current(store)  # an old consumer, or an old run, that starts only now
        async with store.write() as session:
            [event] = await still_ours(session, held, held.events)
            await settle(session, {event.id: Settled("processed")}, now=utcnow())
            customer = Customer(name="A", slug="a")
            session.add_all(
                [
                    customer,
                    Incident(kind="x", scope="app", cause="c", app="default", title="t"),
                ]
            )
            await session.flush()
            session.add(
                Connection(
                    app="default",
                    makini_key="k",
                    customer_id=customer.id,
                    name="n",
                    slug="n",
                    provider="p",
                )
            )
            await enqueue(store, session, [Message("slack", "one")], now=utcnow())
        assert (
            len((await claim(store, outbox_of("slack"), "old:1", limit=9, now=utcnow())).rows) == 1
        )
        await retire(store, "old:1")
        with pytest.raises(StoreError, match="newer than this version"):
            await back_up_somewhere(store)
    finally:
        versions_of_old.undo()
    async with store.read() as session:
        statuses = await session.execute(text("SELECT status FROM webhook_event"))
        names = await session.execute(text("SELECT name, nickname FROM customer"))
        assert [row[0] for row in statuses] == ["processed"]
        assert [tuple(row) for row in names] == [("A", None)]


async def back_up_somewhere(store: Store) -> None:
    """A backup by code older than the schema would leave something out."""
    from linekeeper.backup import dump

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dump, "head", lambda: OLD)
        await back_up(store, Path("/nonexistent/backup"), [], now=utcnow())


async def test_once_contracted_the_oldest_code_is_told_to_upgrade(
    store: Store, versions: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions(NEWEST)
    await migrate(store)
    with monkeypatch.context() as old:
        old.setattr(schema, "head", lambda: NEW)
        await require_current(store)
        old.setattr(schema, "head", lambda: OLD)
        with pytest.raises(StoreError, match="upgrade Linekeeper"):
            await require_current(store)


async def test_a_backup_of_the_old_schema_is_migrated_and_one_of_the_new_is_refused_by_the_old(
    store: Store,
    settings: Settings,
    engine: Engine,
    versions: Callable[[str], None],
    tmp_path: Path,
) -> None:
    async with store.write() as session:
        session.add(Customer(name="A", slug="a"))
    keys = encryption_keys(settings)
    await back_up(store, tmp_path / "old", keys, now=utcnow())
    versions(NEW)
    target = await engine.make(tmp_path / "target")
    async with Store.open(target) as other:
        assert (await restore(other, tmp_path / "old", by="me", now=utcnow())).schema == NEW
        await require_current(other)
        async with other.read() as session:
            rows = await session.execute(text("SELECT name, nickname FROM customer"))
            assert [tuple(row) for row in rows] == [("A", None)]
        await back_up(other, tmp_path / "new", keys, now=utcnow())
    await engine.drop(target)
    versions(OLD)
    third = await engine.make(tmp_path / "third")
    async with Store.open(third) as other:
        with pytest.raises(BackupError, match="newer Linekeeper"):
            await restore(other, tmp_path / "new", by="me", now=utcnow())
    await engine.drop(third)
