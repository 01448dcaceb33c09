"""One file that holds the whole database, and the way back from it, on either engine."""

from linekeeper.backup.dump import BackupSummary, back_up
from linekeeper.backup.file import BackupError, Header, read_header
from linekeeper.backup.load import Restored, restore

__all__ = [
    "BackupError",
    "BackupSummary",
    "Header",
    "Restored",
    "back_up",
    "read_header",
    "restore",
]
