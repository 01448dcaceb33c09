"""The recording: every exchange with the account, redacted, one JSON line each.

It is what the questions are decided from, what a run that was interrupted goes on from, and what
may be shown to others: there is no token, name, address or record content in it.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from linekeeper.private import make_private_file

VERSION = 1


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question put to Makini with its answer, or one webhook that came (`method` WEBHOOK)."""

    step: str
    """What it was asked for; all exchanges of a step are recorded together."""
    who: str
    """`app`, `nobody` (a token that is none), or `connection 1` and so on."""
    method: str
    path: str
    """With `{key}` in place of keys."""
    query: Mapping[str, str]
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    """Redacted; None where it was no JSON."""
    at: str = ""
    note: str = ""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The entries of a listing; empty for everything else."""
        found = self.body.get("data") if isinstance(self.body, dict) else self.body
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []

    @property
    def meta(self) -> Mapping[str, Any]:
        """What a listing says of its paging."""
        found = self.body.get("meta") if isinstance(self.body, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def inner(self) -> Mapping[str, Any]:
        """The object of an answer, under `data` or at the top."""
        top = self.body if isinstance(self.body, dict) else {}
        found = top.get("data", top)
        return found if isinstance(found, dict) else {}


def of(exchanges: Sequence[Exchange], step: str) -> list[Exchange]:
    """The exchanges of `step`, or of all steps that begin with it where it ends with `/`."""
    if step.endswith("/"):
        return [exchange for exchange in exchanges if exchange.step.startswith(step)]
    return [exchange for exchange in exchanges if exchange.step == step]


class Recording:
    """The file of one app in HOME; made when the first step is recorded."""

    def __init__(self, folder: Path, app: str) -> None:
        self.path = folder / f"{app}.jsonl"
        self._salt_path = folder / f"{app}.salt"
        self.exchanges = read_recording(self.path) if self.path.exists() else []

    @property
    def salt(self) -> bytes:
        """What pseudonyms are made with; it stays here, so that nobody can try names out."""
        if not self._salt_path.exists():
            self._private(self._salt_path)
            self._salt_path.write_bytes(os.urandom(32))
        return self._salt_path.read_bytes()

    @property
    def steps(self) -> set[str]:
        """The steps that are recorded."""
        return {exchange.step for exchange in self.exchanges}

    def add(self, exchanges: Sequence[Exchange]) -> None:
        """Write the exchanges of one step in one go."""
        self._private(self.path)
        lines = b"".join(orjson.dumps(asdict(exchange)) + b"\n" for exchange in exchanges)
        with self.path.open("ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self.exchanges.extend(exchanges)

    def forget(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)
        self._salt_path.unlink(missing_ok=True)
        self.exchanges = []

    @staticmethod
    def _private(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_private_file(path)


def read_recording(path: Path) -> list[Exchange]:
    """The exchanges in a file; a last line that was cut short by a crash is left out."""
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            found.append(Exchange(**orjson.loads(line)))
        except (orjson.JSONDecodeError, TypeError):
            continue
    return found
