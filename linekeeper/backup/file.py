"""The backup's format: gzip of one JSON value a line, with a seal at its end.

The first line is the header, then for each table `{"table", "columns"}` and a list a row, and at
last `{"end": {"rows", "hmac"}}` over all that came before, made with the encryption key: whoever
has no key can neither change a backup nor make one. A file without its seal is refused.

Format 1 had a plain `sha256` there, which anybody can make: it shows that a file is whole, not
whose it is.
"""

import gzip
import hashlib
import hmac
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Self

import orjson

from linekeeper.clock import utcnow
from linekeeper.private import keep
from linekeeper.store.cipher import Cipher

FORMAT = 2
UNSIGNED_FORMAT = 1
_PURPOSE = "linekeeper backup"
_LEVEL = 4
ABANDONED_SECONDS = 3600.0
_GZIP = zlib.MAX_WBITS | 16
"""Of zlib: with gzip's head and end."""


class BackupError(Exception):
    """The file can't be used, or may not be put here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a backup before it is read."""

    version: str
    """The version of the Linekeeper that took the backup."""
    schema: str
    engine: str
    taken_at: str
    """ISO-8601, UTC."""
    keys: tuple[str, ...]
    """Fingerprints of the encryption keys in use then, the one that encrypts first."""
    proof: str
    """A known text under the first key."""
    is_signed: bool = True
    """False for a file of format 1: its seal proves nothing about who made it."""


class BackupWriter:
    """Writes a backup; `seal` must be called, or the file is worth nothing."""

    def __init__(self, handle: IO[bytes], header: Header, cipher: Cipher) -> None:
        # Not a `GzipFile`: of one that is not closed, as where the disk is full, Python 3.13 warns.
        self._zip = zlib.compressobj(_LEVEL, wbits=_GZIP)
        self._seal = cipher.seals(_PURPOSE)[0]
        self._handle = handle
        self.rows = 0
        self.size = 0
        """Bytes of the file, once it is sealed."""
        fields = asdict(header)
        del fields["is_signed"]
        self._line({"linekeeper_backup": FORMAT, **fields})

    def table(self, name: str, columns: list[str]) -> None:
        """The rows that follow are of the table `name`."""
        self._line({"table": name, "columns": columns})

    def row(self, values: list[Any]) -> None:
        """One row: JSON values in the order of the columns."""
        self._line(values)
        self.rows += 1

    def seal(self) -> None:
        """Finish the file."""
        self._line({"end": {"rows": self.rows, "hmac": self._seal.hexdigest()}})
        self._handle.write(self._zip.flush())
        self.size = self._handle.tell()

    def _line(self, value: object) -> None:
        line = orjson.dumps(value) + b"\n"
        self._seal.update(line)
        self._handle.write(self._zip.compress(line))


@contextmanager
def writing(path: Path, header: Header, cipher: Cipher) -> Iterator[BackupWriter]:
    """A writer whose file appears at `path`, whole and readable by its owner alone, or not at all.

    Raises `BackupError` where it can't be written; what was at `path` before is there still then.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove_abandoned(path)
    try:
        with _private(draft) as handle:
            writer = BackupWriter(handle, header, cipher)
            yield writer
            writer.seal()
        keep(draft, path)
    except OSError as error:
        raise BackupError(
            f"{path} can't be written ({(error.strerror or str(error)).lower()}): no backup was "
            "made; check the folder, its rights and its free space"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Remove the drafts of backups beside `path` that were killed while they were written.

    Those of processes that live here stay, and of another host's what was written lately.
    """
    with suppress(OSError):
        for draft in path.parent.glob(f".*{path.suffix}.*.part"):
            number = draft.name.split(".")[-2]
            is_old = utcnow().timestamp() - draft.stat().st_mtime > ABANDONED_SECONDS
            if number.isdigit() and is_old and not Path(f"/proc/{number}").exists():
                draft.unlink(missing_ok=True)


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


class Reader:
    """Reads a backup that `verify` found whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def verify(self, cipher: Cipher) -> Header:
        """Read it once to its seal. Raises `BackupError` unless it is whole and unchanged.

        Of a file of format 1 only that it is whole can be said.
        """
        header = self.header()
        seals = cipher.seals(_PURPOSE) if header.is_signed else [hashlib.sha256()]
        rows, last = 0, b""
        for line in self._lines():
            if last:
                for seal in seals:
                    seal.update(last)
                rows += last.startswith(b"[")
            last = line
        end = _json(last).get("end") if last.startswith(b"{") else None
        if not isinstance(end, dict):
            raise self._broken("it is truncated")
        written_seal = str(end.get("hmac" if header.is_signed else "sha256")).encode()
        fits = any(hmac.compare_digest(seal.hexdigest().encode(), written_seal) for seal in seals)
        if end.get("rows") != rows or not fits:
            raise self._broken("its contents don't match its seal")
        return header

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
            raise self._broken("it is truncated") from None
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
    if form not in (FORMAT, UNSIGNED_FORMAT):
        raise BackupError(
            f"{path} was taken by a newer Linekeeper ({fields.get('version', '?')}): "
            "restore it with that version"
        )
    try:
        return Header(
            **{**fields, "keys": tuple(fields["keys"]), "is_signed": form != UNSIGNED_FORMAT}
        )
    except (KeyError, TypeError):
        raise BackupError(f"{path} is not a backup of Linekeeper") from None
