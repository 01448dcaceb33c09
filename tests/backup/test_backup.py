"""A backup holds everything of one moment, goes into either engine, and is whole or refused."""

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import text
from sqlmodel import SQLModel, select

from linekeeper.backup import BackupError, back_up, restore
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.orchestrator import Blocks
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.cipher import Cipher
from linekeeper.store.configuration import load_configuration, save_blocks
from linekeeper.store.engine import encryption_keys
from linekeeper.store.migrate import migrate
from linekeeper.store.processes import registered
from linekeeper.store.rotate import rotate_keys
from linekeeper.store.schema import head, require_current
from linekeeper.store.tables import (
    Audit,
    Connection,
    Credential,
    Customer,
    Implementation,
    Incident,
    IncidentConnection,
    NoticeMessage,
    Observation,
    Outbox,
    PartHeartbeat,
    WebhookEvent,
)
from linekeeper.watch.standing import read_standing
from tests.databases import KEY, Engine, drop_sqlite, make_sqlite

NOW = utcnow()
BODY = bytes(range(256))
# What .NET and Java write for "never", which PostgreSQL's driver keeps as an infinity.
FIRST_AND_LAST = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@pytest.fixture
async def filled(store: Store) -> Store:
    """A store with a bit of everything: bytes, JSON, dates, times, secrets, nothing at all."""
    customer = Customer(name="Ümlaut ⚙ GmbH", slug="umlaut", critical=True)
    connection = Connection(
        app="default",
        makini_key="k1",
        customer_id=customer.id,
        name="SAP",
        slug="sap",
        provider="sap",
        tags=["a", "ü"],
    )
    incident = Incident(
        kind="reauthorization_required",
        scope="connection",
        cause="c:1",
        app="default",
        title="t",
        detail={"deep": [1, 2.5, None, {"x": "y"}]},
    )
    async with store.write() as session:
        session.add(customer)
        await session.flush()
        session.add_all([connection, incident])
        await session.flush()
        session.add_all(
            [
                IncidentConnection(
                    incident_id=incident.id, connection_id=connection.id, kind=incident.kind
                ),
                Credential(
                    connection_id=connection.id,
                    access_token=store.cipher.encrypt("access"),
                    refresh_token=store.cipher.encrypt("refresh"),
                    expires_at=NOW + timedelta(days=3),
                ),
                WebhookEvent(
                    app="default",
                    delivery_key="d1",
                    kind="x",
                    ordering_key="l",
                    body=BODY,
                    received_at=NOW,
                ),
                Implementation(
                    key="i",
                    slug="i",
                    customer_id=customer.id,
                    title="i",
                    complexity="standard",
                    hosting="cloud",
                    kickoff=date(2026, 1, 5),
                    owner="o",
                    started_by="o",
                    planned_p50=date(2026, 1, 20),
                    planned_p80=date(2026, 1, 22),
                    p50=date(2026, 1, 20),
                    p80=date(2026, 1, 22),
                ),
                Outbox(channel="slack", dedupe_key="one", ordering_key="l", payload={"a": None}),
                *[
                    Observation(connection_id=connection.id, at=at, source="product", outcome="ok")
                    for at in FIRST_AND_LAST
                ],
            ]
        )
    await save_blocks(store, Blocks(apps=[AppConfig(mode="manage")]), now=NOW)
    return store


@pytest.fixture(params=["same", "other"])
async def target(
    request: pytest.FixtureRequest, engine: Engine, tmp_path: Path
) -> AsyncIterator[Settings]:
    """An empty database with the same keys: on the same engine, and on SQLite from PostgreSQL."""
    make, drop = engine.make, engine.drop
    if request.param == "other":
        make, drop = make_sqlite, drop_sqlite
        if engine.name == "sqlite":
            make, drop = _postgres(request)
    settings = await make(tmp_path / "target")
    yield settings
    await drop(settings)


def _postgres(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    url = request.getfixturevalue("postgres_url")
    from linekeeper.store.engine import make_engine

    async def admin(statement: str) -> None:
        engine = make_engine(url).execution_options(isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text(statement))
        await engine.dispose()

    name = f"restored_{os.urandom(6).hex()}"

    async def make(home: Path) -> Settings:
        await admin(f"CREATE DATABASE {name}")
        return Settings(
            home=home,
            encryption_keys=(KEY,),
            database_url=SecretStr(url.replace("/postgres?", f"/{name}?")),
        )

    async def drop(_: Settings) -> None:
        await admin(f"DROP DATABASE {name} WITH (FORCE)")

    return make, drop


@pytest.fixture
async def empty(engine: Engine, tmp_path: Path) -> AsyncIterator[Settings]:
    """An empty database beside the filled one."""
    settings = await engine.make(tmp_path / "empty")
    yield settings
    await engine.drop(settings)


async def contents(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, but for the audit of the restore."""
    found: dict[str, list[dict[str, Any]]] = {}
    async with store.read() as session:
        for mapper in SQLModel._sa_registry.mappers:
            rows = [row.model_dump() for row in await session.scalars(select(mapper.class_))]
            found[mapper.class_.__tablename__] = sorted(
                (row for row in rows if row.get("action") != "backup.restored"), key=repr
            )
    return found


async def taken(store: Store, settings: Settings, path: Path) -> Path:
    """A backup of `store` at `path`."""
    await back_up(store, path, encryption_keys(settings), now=NOW)
    return path


async def test_everything_comes_back_as_it_was_on_either_engine(
    filled: Store, settings: Settings, target: Settings, tmp_path: Path
) -> None:
    file = await taken(filled, settings, tmp_path / "b")
    before = await contents(filled)
    assert sum(len(rows) for rows in before.values()) > 8
    async with Store.open(target) as store:
        done = await restore(store, file, by="me", now=NOW)
        assert await contents(store) == before
        await require_current(store)
        assert (await load_configuration(store, target)).apps["default"].manages
        async with store.read() as session:
            [audit] = await session.scalars(select(Audit))
            [credential] = await session.scalars(select(Credential))
        assert (audit.by, audit.action) == ("me", "backup.restored")
        assert store.cipher.decrypt(credential.access_token) == "access"
    assert done.rows == sum(len(rows) for rows in before.values())


AGAIN = pytest.mark.repeats(
    "backup/test_backup.py::test_everything_comes_back_as_it_was_on_either_engine"
)
once = pytest.mark.parametrize(
    "target", ["same", pytest.param("other", marks=AGAIN)], indirect=True
)


@once
async def test_processes_of_the_house_it_was_taken_in_have_not_the_restored_database_open(
    filled: Store, settings: Settings, target: Settings, tmp_path: Path
) -> None:
    """A rotation of keys right after the restore waits for none of them."""
    async with registered(filled, "old-host:7:c0ffee00", "consumer"):
        file = await taken(filled, settings, tmp_path / "b")
    async with Store.open(target) as store:
        await restore(store, file, by="me", now=NOW)
        old = target.encryption_keys[0].get_secret_value()
        rotating = Store(store.engine, Cipher([Fernet.generate_key().decode(), old]))
        done = await rotate_keys(rotating, alone_within=0.0)
        assert (done.writers, done.is_complete) == ([], True)


@once
async def test_no_part_of_the_house_it_was_taken_in_works_in_the_restored_one(
    filled: Store, settings: Settings, target: Settings, tmp_path: Path
) -> None:
    """Nor is one missed there; when a sweep was last completed is as true of the copy."""
    now = utcnow()
    async with filled.write() as session:
        for kind in ("consumer", "receiver", "worker", "prefect", "sweep"):
            row = PartHeartbeat(part=f"{kind}:old-host", kind=kind, host="old", since=now, at=now)
            session.add(row)
    file = await taken(filled, settings, tmp_path / "b")
    async with Store.open(target) as store:
        await restore(store, file, by="me", now=NOW)
    async with Runtime.open(target) as rt:
        standing = {each.kind: each.state for each in await read_standing(rt)}
    assert standing == {"consumer": "stopped", "receiver": "stopped", "sweep": "done"}


async def test_a_backup_is_of_one_moment_while_others_write(
    filled: Store, settings: Settings, tmp_path: Path
) -> None:
    stop = asyncio.Event()

    async def write() -> int:
        number = 0
        while not stop.is_set():
            async with filled.write() as session:  # two rows, always together
                session.add(Audit(at=NOW, by="w", action="x", subject=f"pair {number}"))
                message = NoticeMessage(subject=f"pair {number}", channel="y", ts="t", place="p")
                session.add(message)
            number += 1
        return number

    writing = asyncio.create_task(write())
    while writing and not await _count(filled):
        await asyncio.sleep(0.01)
    file = await taken(filled, settings, tmp_path / "b")
    stop.set()
    await writing
    lines = gzip.decompress(file.read_bytes()).splitlines()
    rows = [orjson.loads(line) for line in lines if b'"pair ' in line]
    # Of two tables, which are read one after the other: what a single statement reads is of one
    # moment anyway.
    first, second = (sum(half in row for row in rows) for half in ("x", "y"))
    assert first
    assert first == second


async def _count(store: Store) -> int:
    async with store.read() as session:
        return len(list(await session.scalars(select(Audit.id))))


async def test_a_database_that_is_not_empty_is_refused_and_an_empty_schema_is_not(
    filled: Store, settings: Settings, empty: Settings, tmp_path: Path
) -> None:
    file = await taken(filled, settings, tmp_path / "b")
    before = await contents(filled)
    with pytest.raises(BackupError, match="not empty"):
        await restore(filled, file, by="me", now=NOW)
    assert await contents(filled) == before
    async with Store.open(empty) as store:
        await migrate(store)
        await restore(store, file, by="me", now=NOW)
        with pytest.raises(BackupError, match="not empty"):
            await restore(store, file, by="me", now=NOW)


async def test_a_file_that_cannot_be_written_leaves_the_one_before(
    filled: Store, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(BackupError, match="can't be written"):
        await taken(filled, settings, tmp_path / "no" / "such" / "folder")
    file = await taken(filled, settings, tmp_path / "b")
    good = file.read_bytes()
    async with filled.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Exception, match=head()):
        await taken(filled, settings, file)
    assert file.read_bytes() == good
