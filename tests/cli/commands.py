"""The command line inside the test's process: as quick as the command itself."""

import atexit
import io
import os
import shutil
import sys
import tempfile
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


_MIGRATED: list[Path] = []
"""A home in which `linekeeper migrate` was run, to copy from."""


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

    def migrated(self) -> None:
        """As `linekeeper migrate` leaves an empty home; a process runs it once."""
        own = os.environ["LINEKEEPER_HOME"]
        if not _MIGRATED:
            template = Path(tempfile.mkdtemp(prefix="linekeeper-migrated-"))
            atexit.register(shutil.rmtree, template, ignore_errors=True)
            self.set(HOME=str(template))
            said = self("migrate")
            assert said.code == 0, said
            self.set(HOME=own)
            _MIGRATED.append(template)
        shutil.copytree(_MIGRATED[0], own, dirs_exist_ok=True)

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
