"""Nobody else on the machine reads what Linekeeper keeps: folders 0700, files 0600."""

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from prefect.blocks.system import Secret

from linekeeper.cli.guards import alone_in
from linekeeper.cli.prefect_key import VARIABLE, prefect_key
from linekeeper.private import SharedHome
from linekeeper.refusal import UserError
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.migrate import migrate
from tasks.prefect_adapter.server import prefect_at, server_environment
from tests.cli.commands import CommandLine
from tests.fixtures_prefect import PrefectServer


@pytest.fixture
def usual_umask() -> Iterator[None]:
    """The mask most systems have: everybody may read new files."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """What under `folder`, and of it, others may read, write or enter."""
    paths = [folder, *folder.rglob("*")]
    return [
        f"{stat.S_IMODE(path.lstat().st_mode):o} {path.relative_to(folder)}"
        for path in paths
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    ]


@pytest.mark.usefixtures("usual_umask")
async def test_a_database_and_its_journals_are_for_their_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    async with Store.open(Settings(home=home)) as store:
        await migrate(store)
        assert (home / "linekeeper.db-wal").exists()
        assert open_to_others(tmp_path / "deep") == []


@pytest.mark.usefixtures("usual_umask")
async def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "logs").mkdir(parents=True)
    (home / "prefect").mkdir()
    (home / "encryption-keys").write_text(Fernet.generate_key().decode())
    for name in ("linekeeper.db", "logs/consumer.log", "prefect/prefect.db"):
        (home / name).touch()
    assert len(open_to_others(home)) == 7
    async with Store.open(Settings(home=home)):
        assert open_to_others(home / "linekeeper.db") == []
        assert home.stat().st_mode & 0o777 == 0o700
    with alone_in(home):
        assert open_to_others(home) == []


def test_a_folder_that_everybody_shares_is_refused_as_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(SharedHome, match="give it a folder of its own"), alone_in(tmp_path):
        pass
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


@pytest.mark.usefixtures("usual_umask")
def test_whatever_a_command_writes_is_for_its_owner_alone(
    command: CommandLine, tmp_path: Path
) -> None:
    assert command("migrate").code == 0
    assert command("backup", str(tmp_path / "backup")).code == 0
    assert command("records", "export", "--output", str(tmp_path / "records")).code == 0
    assert open_to_others(tmp_path / "home") == []
    assert open_to_others(tmp_path / "backup") == []
    assert open_to_others(tmp_path / "records") == []


@contextmanager
def _prefect(settings: Settings, more: dict[str, str]) -> Iterator[None]:
    """Prefect's server as `up` starts it, with `more` in its environment."""
    own = server_environment(settings) | more
    url = own["PREFECT_API_URL"]
    process = subprocess.Popen(
        [sys.executable, "-m", "linekeeper.cli.prefect_server"],
        env={**os.environ, **own},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while process.poll() is None:
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=2):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture
async def old(clean_prefect: PrefectServer, tmp_path: Path) -> tuple[Settings, str]:
    """A home with the database of a Prefect that an earlier version started, and the key in it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings = Settings(home=tmp_path, prefect_port=probe.getsockname()[1])
    database = prefects(settings)
    database.parent.mkdir()
    # The shared server is started as an earlier version started it: its key is in its database.
    with prefect_at(Settings(prefect_port=clean_prefect.port)):
        await Secret(value="tell-nobody").save("kept")
    with closing(sqlite3.connect(clean_prefect.database)) as connection:
        connection.execute("VACUUM INTO ?", (str(database),))
    with closing(sqlite3.connect(database)) as connection:
        [[kept]] = connection.execute(
            "SELECT json_extract(value, '$.fernet_key') FROM configuration"
            " WHERE key = 'ENCRYPTION_KEY'"
        )
    assert kept.encode() in database.read_bytes()
    return settings, kept


def prefects(settings: Settings) -> Path:
    """The database of the Prefect that `up` starts."""
    return settings.home / "prefect" / "prefect.db"


async def test_a_servers_own_key_moves_out_of_its_database_and_still_opens_its_blocks(
    old: tuple[Settings, str], tmp_path: Path
) -> None:
    settings, kept = old

    environment = prefect_key(settings, {})

    assert environment == {VARIABLE: kept} == prefect_key(settings, {})
    assert (tmp_path / "prefect-encryption-key").stat().st_mode & 0o777 == 0o600
    for path in tmp_path.glob("prefect/prefect.db*"):
        assert kept.encode() not in path.read_bytes(), path
    with closing(sqlite3.connect(prefects(settings))) as connection:
        [[block]] = connection.execute(
            "SELECT json_extract(data, '$') FROM block_document WHERE name = 'kept'"
        )
    assert b"tell-nobody" in Fernet(kept).decrypt(block)

    (tmp_path / "prefect-encryption-key").unlink()
    with pytest.raises(UserError, match="is missing, but Prefect's database has blocks"):
        prefect_key(settings, {})


@pytest.mark.repeats(
    "cli/test_private.py"
    "::test_a_servers_own_key_moves_out_of_its_database_and_still_opens_its_blocks"
)
async def test_a_server_with_its_key_beside_it_reads_its_blocks_and_writes_newer_ones(
    old: tuple[Settings, str], tmp_path: Path
) -> None:
    settings, kept = old
    with _prefect(settings, prefect_key(settings, {})), prefect_at(settings):
        block: Any = await Secret.load("kept")
        assert block.get() == "tell-nobody"
        await Secret(value="also").save("newer")
    for path in tmp_path.glob("prefect/prefect.db*"):
        assert kept.encode() not in path.read_bytes(), path


def test_a_key_or_a_database_of_the_operators_is_left_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert prefect_key(settings, {VARIABLE: "theirs"}) == {}
    assert prefect_key(settings, {"PREFECT_API_DATABASE_CONNECTION_URL": "postgresql://x"}) == {}
    assert list(tmp_path.iterdir()) == []
