"""Who holds the write lock of SQLite's file: while it is held, nobody else writes anything."""

from contextlib import suppress
from pathlib import Path

from sqlalchemy.engine import make_url

from linekeeper.settings import Settings

_LOCKS = Path("/proc/locks")
_WRITE_LOCK = 120
"""The byte of the file `-shm` that a writer has locked, in SQLite's format of it."""


def holder_of_write_lock(settings: Settings) -> int | None:
    """The process that holds it now; None on PostgreSQL, or where the system doesn't say."""
    url = make_url(settings.resolved_database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    with suppress(OSError):
        file = Path(f"{url.database}-shm").stat().st_ino
        for line in _LOCKS.read_text().splitlines():
            _, kind, _, how, process, where, first, last = line.replace("-> ", "").split()
            if (kind, how, where.rpartition(":")[2]) != ("POSIX", "WRITE", str(file)):
                continue
            is_waiting, end = "->" in line, float(last.replace("EOF", "inf"))
            if not is_waiting and int(first) <= _WRITE_LOCK <= end:
                return int(process)
    return None
