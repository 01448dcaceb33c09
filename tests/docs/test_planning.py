"""The examples of docs/planning.md show what `linekeeper plan` prints."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from linekeeper.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "planning.md"
BLOCK = re.compile(r"```console\n\$ (linekeeper plan (?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*?)```")


@pytest.mark.parametrize(("command", "shown"), BLOCK.findall(PAGE.read_text()))
def test_an_example_is_what_is_printed(
    command: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the page may leave lines out, and shows none that isn't printed."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command.replace("\\\n", " "))[1:]
    printed = CliRunner().invoke(app, words, env={"LINEKEEPER_HOME": str(tmp_path)}).stdout
    lines = {line.rstrip() for line in printed.splitlines()}
    assert len(shown.splitlines()) > 3
    assert [line for line in shown.splitlines() if line.rstrip() not in lines] == []
