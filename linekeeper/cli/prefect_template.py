"""The empty database that a new Prefect server begins with: `make install` has it made.

`python -m linekeeper.cli.prefect_template` lets the Prefect that is installed make one, by its own
migrations, and keeps it beside the installation. `linekeeper up` copies it into a new home.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from tasks.prefect_adapter.server import make_database, prefect_template


def make_template(path: Path) -> None:
    """Make it as `path`, whole or not at all. Raises `CalledProcessError` where Prefect fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as home:
        made = Path(home) / "prefect.db"
        make_database(made)
        theirs = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
            env=theirs | {"PREFECT_HOME": home, "DO_NOT_TRACK": "1"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        with closing(sqlite3.connect(made)) as database:
            database.execute("PRAGMA journal_mode = DELETE")  # nothing is left beside the file
        made.replace(path)


if __name__ == "__main__":
    if not prefect_template().exists():
        make_template(prefect_template())
