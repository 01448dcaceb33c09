"""The file of an SQLite database: the same one for as long as a process uses it."""

import sqlite3
from pathlib import Path

from linekeeper.private import close_database, make_private_file, make_private_folder

_GONE = "the database's file was moved or removed"


class DatabaseFile:
    """The file of a database, which must be the same for as long as it is used.

    A connection goes on with a file that was moved, removed or replaced, as where a disk was taken
    away: what is written by it nobody finds again. It is good again once the file is back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[int, int] | None = None

    def require(self) -> None:
        """Raise `sqlite3.OperationalError` unless it is there, and the one that it was."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            raise sqlite3.OperationalError(f"{_GONE}: it is not there") from None
        found = (status.st_dev, status.st_ino)
        self._known = self._known or found
        if self._known != found:
            raise sqlite3.OperationalError(f"{_GONE}: another one is in its place")

    def make(self) -> None:
        """Make it for its owner alone, unless it is there or was there before."""
        if self._known is None:
            make_private_file(self._path)
        self.require()


def file_of(name: str | None) -> DatabaseFile | None:
    """That of a database, in a folder for its owner alone; None where it is in memory."""
    if not name or name == ":memory:":
        return None
    make_private_folder(Path(name).parent)
    close_database(Path(name))
    return DatabaseFile(Path(name))
