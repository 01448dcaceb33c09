"""Files that hold secrets are for their owner alone: folders 0700, files 0600."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

UMASK = 0o077
_FOLDER, _FILE = 0o700, 0o600
_BESIDE_SQLITE = ("", "-wal", "-shm", "-journal")


class SharedHome(Exception):
    """HOME is a folder that other users share; the message says what to do."""


def keep_new_files_private() -> None:
    """Whatever this process and its children make from now on is for their user alone."""
    os.umask(UMASK)


def make_private_folder(folder: Path) -> None:
    """Make `folder`, and what is missing above it, with mode 0700; one that exists stays as it is.

    `Path.mkdir` gives the mode to the last folder only.
    """
    missing = [folder, *folder.parents]
    for path in reversed(missing):
        if not path.exists():
            path.mkdir(mode=_FOLDER, exist_ok=True)


def close_home(home: Path) -> None:
    """Make HOME with mode 0700, and close what an earlier version left open in it.

    Raises `SharedHome` for a folder that belongs to somebody else or to everybody (such as /tmp).
    """
    make_private_folder(home)
    if _is_shared(home):
        raise SharedHome(
            f"LINEKEEPER_HOME is {home}, which other users share: it holds secrets, so give it a "
            "folder of its own"
        )
    close_folder(home)
    for path, is_folder in _below(home):
        _close(path, _FOLDER if is_folder else _FILE)


def close_folder(folder: Path) -> None:
    """Give `folder` the mode 0700 where it is there and nobody else's."""
    if folder.is_dir() and not _is_shared(folder):
        _close(folder, _FOLDER)


def make_private_file(path: Path) -> None:
    """Make `path`, empty and with mode 0600, unless it is there."""
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, _FILE))


def keep(draft: Path, path: Path) -> None:
    """Put the file `draft` in the place of `path`, so that no loss of power takes it back."""
    sync(draft)
    draft.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk write a file, or the names in a folder, where its file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # of folders, some network shares
            raise
    finally:
        os.close(descriptor)


def close_database(path: Path) -> None:
    """Give the SQLite file `path` and its journals the mode 0600, where they are there.

    SQLite gives new journals the mode of the database. What belongs to another user stays.
    """
    for ending in _BESIDE_SQLITE:
        _close(path.with_name(path.name + ending), _FILE)


def _is_shared(folder: Path) -> bool:
    """Whether it is everybody's (sticky, such as /tmp), or another user's and we aren't root."""
    status = folder.stat()
    others = os.geteuid() not in (0, status.st_uid)
    return others or bool(status.st_mode & stat.S_ISVTX)


def _below(home: Path) -> Iterator[tuple[Path, bool]]:
    """Every folder (True) and regular file (False) under `home`; links are not followed."""
    for folder, folders, files in os.walk(home):
        yield from ((Path(folder) / name, True) for name in folders)
        yield from ((Path(folder) / name, False) for name in files)


def _close(path: Path, mode: int) -> None:
    """Give `path` the mode, where it is open to others and ours to change."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode) or not stat.S_IMODE(status.st_mode) & UMASK:
            return
        path.chmod(mode)
    except (FileNotFoundError, PermissionError):
        return  # gone meanwhile (a journal, a log that was turned over), or somebody else's
