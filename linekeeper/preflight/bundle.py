"""Preflight as one file, for a machine where Linekeeper isn't installed (Python 3.11 is)."""

import zipfile
from pathlib import Path

MODULES = (
    "__init__",
    "__main__",
    "certificate",
    "checks",
    "facts",
    "order",
    "report",
    "run",
    "targets",
    "verdict",
)
_START = "import sys\nfrom linekeeper.preflight.__main__ import main\nsys.exit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_bundle(path: Path) -> None:
    """Write an executable Python archive; the same code gives the same bytes. Raises `OSError`."""
    here = Path(__file__).parent
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, "__main__.py", _START)
            _add(archive, "linekeeper/__init__.py", "")
            for module in MODULES:
                source = (here / f"{module}.py").read_text(encoding="utf-8")
                _add(archive, f"linekeeper/preflight/{module}.py", source)
    path.chmod(0o755)


def _add(archive: zipfile.ZipFile, name: str, source: str) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), source, zipfile.ZIP_DEFLATED)
