"""The command line in a folder of its own."""

from pathlib import Path

import pytest

from linekeeper.settings import Settings
from tests.cli.commands import CommandLine


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """`linekeeper …` with an empty home, for this test only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    line = CommandLine(tmp_path, monkeypatch, capsys)
    line.set(HOME=str(tmp_path / "home"))
    return line


@pytest.fixture
def shown(command: CommandLine, settings: Settings) -> CommandLine:
    """`linekeeper …` on each database."""
    command.set(
        HOME=str(settings.home),
        DATABASE_URL=settings.resolved_database_url,
        ENCRYPTION_KEYS=settings.encryption_keys[0].get_secret_value(),
    )
    return command
