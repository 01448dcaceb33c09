"""The command line inside the test's process: as quick as the command itself."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from linekeeper.cli import main


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


@dataclass
class CommandLine:
    """`linekeeper` in a home and a working directory of its own."""

    home: Path
    monkeypatch: pytest.MonkeyPatch
    captured: pytest.CaptureFixture[str]

    def set(self, **settings: str) -> None:
        """Set `LINEKEEPER_…` variables."""
        for name, value in settings.items():
            self.monkeypatch.setenv(f"LINEKEEPER_{name}", value)

    def __call__(self, *arguments: str, stdin: str = "") -> Said:
        """Run `linekeeper arguments…`; from a running event loop, in a thread."""
        self.captured.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["linekeeper", *arguments])
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        said = self.captured.readouterr()
        return Said(code, said.out, said.err)
