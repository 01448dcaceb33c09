"""One file that holds the whole database, and the way back from it, on either engine."""

from linekeeper.backup.dump import Taken, back_up
from linekeeper.backup.file import BackupError, Header, read_header
from linekeeper.backup.load import Restored, restore

__all__ = ["BackupError", "Header", "Restored", "Taken", "back_up", "read_header", "restore"]
