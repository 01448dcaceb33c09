"""What a service manager hears of a part, and settings that are files."""

import asyncio
import socket
from pathlib import Path

import pytest

from linekeeper import alive
from linekeeper.settings import Settings

KEYS = "qH4yFoq0bHX0XW1JvF6aWvVYpZ6v7m3bVbq0M0mQk7o=,iB4yFoq0bHX0XW1JvF6aWvVYpZ6v7m3bVbq0M0mQk7o="


async def test_a_part_that_works_says_so_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alive, "EVERY_SECONDS", 0.01)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        loop = asyncio.get_running_loop()
        async with alive.reporting_alive(tmp_path / "alive"):
            heard = [await loop.sock_recv(manager, 100) for _ in range(3)]
            (tmp_path / "alive").unlink()
            await loop.sock_recv(manager, 100)
            while not (tmp_path / "alive").exists():
                await asyncio.sleep(0.01)
        assert heard == [b"READY=1\nWATCHDOG=1", b"WATCHDOG=1", b"WATCHDOG=1"]


async def test_where_nobody_listens_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    async with alive.reporting_alive(None):
        pass


def test_secrets_are_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "linekeeper_database_url": "postgresql+asyncpg://somebody:secret@there/linekeeper",
        "linekeeper_encryption_keys": KEYS,
        "linekeeper_makini_client_secret": "from a file",
        "something_else": "of others",
    }.items():
        (tmp_path / name).write_text(f"{value}\n")
    monkeypatch.setenv("LINEKEEPER_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("LINEKEEPER_MAKINI_CLIENT_SECRET", "from the environment")
    settings = Settings(_env_file=None)
    assert settings.resolved_database_url.startswith("postgresql+asyncpg://somebody:secret@")
    assert [key.get_secret_value() for key in settings.encryption_keys] == KEYS.split(",")
    assert settings.makini_client_secret is not None
    assert settings.makini_client_secret.get_secret_value() == "from the environment"
