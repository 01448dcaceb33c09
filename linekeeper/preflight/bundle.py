"""Preflight as one file, for a machine on which only Python is installed."""

import zipfile
from pathlib import Path

MODULES = (
    "preflight/__init__",
    "preflight/__main__",
    "preflight/checks",
    "preflight/facts",
    "preflight/order",
    "preflight/run",
    "preflight/targets",
    "preflight/verdict",
    "refusal",
)
"""All that a preflight needs of Linekeeper."""
_START = """\
import sys

if sys.version_info < (3, 11):
    sys.stderr.write(
        "preflight needs Python 3.11 or newer, and this is %d.%d. Try python3.11 or python3.12, "
        "or a machine that has one: it only has to stand at the same place in the network.\\n"
        % tuple(sys.version_info[:2])
    )
    sys.exit(2)

from linekeeper.preflight.__main__ import main

sys.exit(main())
"""
"""Understood by any Python, so that an old one says what is missing."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_bundle(path: Path) -> None:
    """Write an executable Python archive; the same code gives the same bytes. Raises `OSError`."""
    core = Path(__file__).parents[1]
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, "__main__.py", _START)
            _add(archive, "linekeeper/__init__.py", "")
            for module in MODULES:
                source = (core / f"{module}.py").read_text(encoding="utf-8")
                _add(archive, f"linekeeper/{module}.py", source)
    path.chmod(0o755)


def _add(archive: zipfile.ZipFile, name: str, source: str) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), source, zipfile.ZIP_DEFLATED)
