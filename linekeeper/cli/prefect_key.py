"""The key Prefect's own server encrypts its blocks with: in a file of ours, not in its database.

Left to itself the server makes a key and keeps it in the table `configuration`, beside what it
encrypts: whoever has a copy of the database then has every secret in it.
"""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from linekeeper.refusal import UserError
from linekeeper.settings import Settings
from linekeeper.store.cipher import read_or_make_keys

VARIABLE = "PREFECT_SERVER_ENCRYPTION_KEY"
FILE = "prefect-encryption-key"
_NAME = "ENCRYPTION_KEY"
_ANOTHER_DATABASE = (
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
)


def prefect_key(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """What the server that `up` starts needs in its environment; call it while none runs.

    The key is in `HOME/prefect-encryption-key`. A server of an earlier version has one in its
    database: that one moves into the file, so that its blocks can still be read. A key, or another
    database, that the operator set in the environment is left to them. Raises `UserError` where
    blocks are there and the key that opens them is not.
    """
    if inherited.get(VARIABLE) or any(inherited.get(name) for name in _ANOTHER_DATABASE):
        return {}
    home = settings.home.resolve()
    file, database = home / FILE, home / "prefect" / "prefect.db"
    kept = _in_database(database)
    if not file.exists() and kept is None and _has_blocks(database):
        raise UserError(
            f"{file} is missing, but Prefect's database has blocks that need it: put the file "
            f"back, or move {database.parent} away (`linekeeper up` then makes a new one from the "
            "database's memory of it)"
        )
    [key, *_] = read_or_make_keys(file, first=kept)
    if kept is not None and kept == key:
        _forget(database)
    return {VARIABLE: key}


def _in_database(database: Path) -> str | None:
    """The key a server made for itself."""
    row = _ask(database, "SELECT value FROM configuration WHERE key = ?", _NAME)
    return str(json.loads(row[0])["fernet_key"]) if row else None


def _has_blocks(database: Path) -> bool:
    return _ask(database, "SELECT 1 FROM block_document LIMIT 1") is not None


def _ask(database: Path, question: str, *values: str) -> tuple[str, ...] | None:
    """The first row of the answer; None also where the server never ran."""
    if not database.exists():
        return None
    with closing(sqlite3.connect(database)) as connection:
        try:
            row: tuple[str, ...] | None = connection.execute(question, values).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            raise
    return row


def _forget(database: Path) -> None:
    """Remove the key from the database, and its bytes from the file."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("DELETE FROM configuration WHERE key = ?", (_NAME,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
