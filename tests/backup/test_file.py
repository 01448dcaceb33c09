"""The file appears whole or not at all, also where the disk is full."""

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from linekeeper.backup.file import BackupError, Header, Reader, writing
from linekeeper.store import new_id
from linekeeper.store.cipher import Cipher, read_or_make_keys
from tests.databases import KEY

CIPHER = Cipher([KEY.get_secret_value()])
HEADER = Header("0.1.0", "0001", "sqlite", "2026-11-25T00:00:00+00:00", ("abc",), "proof")


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes inside the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def is_silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python says nothing of an error that it ignored, of which nobody can make anything."""
    gc.collect()  # another test's
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: ignored.append(error.exc_value))
    yield
    gc.collect()
    assert ignored == []


def write(path: Path, rows: int) -> None:
    """A backup of one table."""
    with writing(path, HEADER, CIPHER) as writer:
        writer.table("t", ["a"])
        for _ in range(rows):
            writer.row([new_id()])


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the disk was made to write, in order: a file by its name then, a folder by its."""
    written: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        fsync(descriptor)
        written.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", record)
    return written


def test_a_loss_of_power_takes_no_backup_back(tmp_path: Path, synced: list[str]) -> None:
    """The file was on the disk, its name not: after the crash there was no backup."""
    write(tmp_path / "b", 3)
    assert synced == [f".b.{os.getpid()}.part", tmp_path.name]


def test_a_loss_of_power_takes_no_key_back(tmp_path: Path, synced: list[str]) -> None:
    """A database whose key is gone is lost with it."""
    read_or_make_keys(tmp_path / "keys")
    assert synced == [f".keys.{os.getpid()}", tmp_path.name]


@pytest.mark.usefixtures("is_silent")
def test_a_full_disk_is_one_line_and_leaves_the_backup_before_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "b"
    write(file, 3)
    before = file.read_bytes()
    with room_for(20_000), pytest.raises(BackupError, match="no backup was made"):
        write(file, 20_000)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    assert Reader.of(file).verify(CIPHER) == HEADER


@pytest.mark.usefixtures("is_silent")
def test_an_error_on_the_way_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_something_strange(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def write_something_strange(path: Path) -> None:
    """A value that no column has."""
    with writing(path, HEADER, CIPHER) as writer:
        writer.table("t", ["a"])
        writer.row([object()])


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    with writing(tmp_path / "b", HEADER, CIPHER) as writer:
        writer.table("empty", ["x"])
        writer.table("t", ["a", "b"])
        writer.row([1, "[ü]\n{"])
        writer.row([None, {"end": {"rows": 0}, "table": 1}])
    reader = Reader.of(tmp_path / "b")
    assert reader.verify(CIPHER) == HEADER
    assert list(reader.rows()) == [
        ("t", ["a", "b"], [1, "[ü]\n{"]),
        ("t", ["a", "b"], [None, {"end": {"rows": 0}, "table": 1}]),
    ]


def test_what_a_killed_backup_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """One for each backup that was killed stayed for good, as large as a backup."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / f".first.backup.{ended.pid}.part"
    young = tmp_path / f".second.backup.{ended.pid}.part"
    living = tmp_path / f".third.backup.{os.getppid()}.part"
    other = tmp_path / ".notes.backup.mine.part"
    for draft in (dead, young, living, other):
        draft.write_bytes(b"half")
    for draft in (dead, living, other):
        os.utime(draft, (0, 0))
    write(tmp_path / "next.backup", 3)
    assert not dead.exists()
    assert all(draft.exists() for draft in (young, living, other))
