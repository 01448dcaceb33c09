"""The command line in a folder of its own."""

from pathlib import Path

import pytest

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
