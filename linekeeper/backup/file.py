"""The backup's format: gzip of one JSON value a line, with a seal at its end.

The first line is the header, then for each table `{"table", "columns"}` and a list a row, and at
last `{"end": {"rows", "sha256"}}` over all that came before. A file without its seal is refused.
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Self

import orjson

FORMAT = 1
_LEVEL = 4


class BackupError(Exception):
    """The file can't be used, or may not be put here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a backup before it is read."""

    version: str
    """Of the Linekeeper that took it."""
    schema: str
    engine: str
    taken_at: str
    """ISO-8601, UTC."""
    keys: tuple[str, ...]
    """Fingerprints of the encryption keys in use then, the one that encrypts first."""
    proof: str
    """A known text under the first key."""


class Writer:
    """Writes a backup; `seal` must be called, or the file is worth nothing."""

    def __init__(self, handle: IO[bytes], header: Header) -> None:
        self._zip = gzip.GzipFile(filename="", mode="wb", fileobj=handle, compresslevel=_LEVEL)
        self._sum = hashlib.sha256()
        self._handle = handle
        self.rows = 0
        self.size = 0
        """Bytes of the file, once it is sealed."""
        self._line({"linekeeper_backup": FORMAT, **asdict(header)})

    def table(self, name: str, columns: list[str]) -> None:
        """The rows that follow are of the table `name`."""
        self._line({"table": name, "columns": columns})

    def row(self, values: list[Any]) -> None:
        """One row: JSON values in the order of the columns."""
        self._line(values)
        self.rows += 1

    def seal(self) -> None:
        """Finish the file."""
        self._line({"end": {"rows": self.rows, "sha256": self._sum.hexdigest()}})
        self._zip.close()
        self.size = self._handle.tell()

    def _line(self, value: object) -> None:
        line = orjson.dumps(value) + b"\n"
        self._sum.update(line)
        self._zip.write(line)


@contextmanager
def writing(path: Path, header: Header) -> Iterator[Writer]:
    """A writer whose file appears at `path`, whole and readable by its owner alone, or not at all.

    Raises `BackupError` where it can't be written; what was at `path` before is there still then.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _private(draft) as handle:
            writer = Writer(handle, header)
            yield writer
            writer.seal()
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(path)
    except OSError as error:
        raise BackupError(
            f"{path} can't be written ({(error.strerror or str(error)).lower()}): no backup was "
            "made; check the folder, its rights and its free space"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


class Reader:
    """Reads a backup that `verify` found whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def verify(self) -> Header:
        """Read it once to its seal. Raises `BackupError` unless it is whole and unchanged."""
        found, rows = hashlib.sha256(), 0
        last = b""
        for line in self._lines():
            if last:
                found.update(last)
                rows += last.startswith(b"[")
            last = line
        end = _json(last).get("end") if last.startswith(b"{") else None
        if not isinstance(end, dict):
            raise self._broken("it ends in the middle")
        if end.get("rows") != rows or end.get("sha256") != found.hexdigest():
            raise self._broken("its contents don't match its seal")
        return self.header()

    def header(self) -> Header:
        """The first line. Raises `BackupError` for a file that is no backup we can read."""
        return _header(self.path, next(self._lines(), b""))

    def rows(self) -> Iterator[tuple[str, list[str], list[Any]]]:
        """Every row, as its table, its columns and its values."""
        table, columns = "", list[str]()
        for number, line in enumerate(self._lines()):
            if line.startswith(b"["):
                yield table, columns, orjson.loads(line)
            elif number and b'"table"' in line:
                start = orjson.loads(line)
                table, columns = start["table"], start["columns"]

    def _lines(self) -> Iterator[bytes]:
        try:
            with gzip.open(self.path, "rb") as lines:
                yield from lines
        except EOFError:
            raise self._broken("it ends in the middle") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            with self.path.open("rb") as file:
                zipped = file.read(2) == b"\x1f\x8b"
            if zipped:
                raise self._broken("it is damaged") from error
            raise BackupError(f"{self.path} is not a backup of Linekeeper") from error

    def _broken(self, how: str) -> BackupError:
        return BackupError(
            f"{self.path} is not whole: {how}. Nothing was restored; use another backup"
        )

    @classmethod
    def of(cls, path: Path) -> Self:
        """A reader of the file at `path`. Raises `BackupError` if there is none."""
        if not path.is_file():
            raise BackupError(f"{path}: there is no such file")
        return cls(path)


def read_header(path: Path) -> Header:
    """What the backup at `path` says of itself. Raises `BackupError`."""
    return Reader.of(path).header()


def _json(line: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _header(path: Path, line: bytes) -> Header:
    fields = _json(line)
    form = fields.pop("linekeeper_backup", None)
    if form is None:
        raise BackupError(f"{path} is not a backup of Linekeeper")
    if form != FORMAT:
        raise BackupError(
            f"{path} was taken by a newer Linekeeper ({fields.get('version', '?')}): "
            "restore it with that version"
        )
    return Header(**{**fields, "keys": tuple(fields["keys"])})
