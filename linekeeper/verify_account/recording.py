"""The recording: every exchange with the account, redacted, one JSON line each.

It is what the questions are decided from, what a run that was interrupted goes on from, and what
may be shown to others: there is no token, name, address or record content in it.

Of an answer its shape is recorded, its words that are Makini's, its times. Every other text becomes
a pseudonym that is the same wherever the text is the same, so that two pages can be compared and an
id with a key.
"""

import hmac
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from linekeeper.makini.fields import instant
from linekeeper.private import make_private_file

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,39}")
_WORDS = re.compile(r"[A-Za-z0-9_ .:/&()+-]{1,60}")
_TIME_FIELD = re.compile(r".*(_at|At|Date|_date)$")
_NUMBERS = {"page", "per_page", "total", "current_page", "last_page", "from", "to", "expires_in"}
_SEALED = {"user_metadata", "metadata", "credentials", "redirect", "redirects"}
_TOKENS = {"access_token", "refresh_token", "token", "client_secret"}
_HEADERS = re.compile(r"(x-)?rate-?limit.*|retry-after|content-type|date")

MAKINIS_WORDS = frozenset(
    {"status", "sync_status", "integration_name", "provider", "slug", "token_type", "code"}
)
"""Fields whose text is Makini's vocabulary, in answers about connections. Records have none."""
ERROR_WORDS = frozenset({"code", "type", "error", "status"})
"""The same in refusals."""
EVENT_WORDS = frozenset({"event", "type", "event_type"})
"""The same in webhooks."""


class Redactor:
    """Redacts with pseudonyms of one `salt`."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def body(self, value: object, words: Collection[str]) -> Any:
        """`value` (JSON) without what is anybody's; texts in `words` are kept."""
        return self._value("", value, words)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Those about limits, kind and time; of a request id only that there is one."""
        kept = {
            name.lower(): value[:80]
            for name, value in headers.items()
            if _HEADERS.fullmatch(name.lower())
        }
        if any(name.lower() == "x-request-id" for name in headers):
            kept["x-request-id"] = "given"
        return kept

    def pseudonym(self, text: str) -> str:
        """A name for `text` that reveals nothing but its length and what it is made of."""
        digest = hmac.digest(self._salt, text.encode("utf-8", "surrogatepass"), "sha256").hex()[:12]
        made_of = "text"
        if text.isascii() and text.isdigit():
            made_of = "digits0" if text.startswith("0") else "digits"
        return f"~{digest}:{len(text)}:{made_of}"

    def _value(self, name: str, value: object, words: Collection[str]) -> Any:
        if name in _TOKENS or name in _SEALED:
            return "~token" if name in _TOKENS else f"~{type(value).__name__}"
        if isinstance(value, list):
            return [self._value(name, entry, words) for entry in value]
        if isinstance(value, dict):
            return self._object(name, value, words)
        if isinstance(value, str):
            return self._text(name, value, words)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value if name in _NUMBERS else 0
        return value

    def _object(self, name: str, value: dict[str, Any], words: Collection[str]) -> dict[str, Any]:
        if name == "links":
            return {key: _link(link) for key, link in value.items() if _FIELD.fullmatch(key)}
        return {
            key if _FIELD.fullmatch(key) else self.pseudonym(key): self._value(key, entry, words)
            for key, entry in value.items()
        }

    def _text(self, name: str, value: str, words: Collection[str]) -> str:
        if name in words and _WORDS.fullmatch(value):
            return value
        if name in _NUMBERS and value.isascii() and value.isdigit():
            return value
        if _TIME_FIELD.fullmatch(name) and instant(value) is not None:
            return value
        return self.pseudonym(value) if value else ""


def _link(value: object) -> str | None:
    """Return only the names of a link's parameters."""
    if not isinstance(value, str):
        return None
    names = re.findall(r"[?&]([A-Za-z_\[\]:]{1,30})=", value)
    return "~link?" + "&".join(names)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question put to Makini with its answer, or one webhook that came (`method` WEBHOOK)."""

    step: str
    """What it was asked for; all exchanges of a step are recorded together."""
    who: str
    """`app`, `nobody` (a token that is none), or `connection 1` and so on."""
    method: str
    path: str
    """The path, with `{key}` in place of keys."""
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
        data = self.body.get("data") if isinstance(self.body, dict) else self.body
        return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []

    @property
    def meta(self) -> Mapping[str, Any]:
        """What a listing says of its paging."""
        meta = self.body.get("meta") if isinstance(self.body, dict) else None
        return meta if isinstance(meta, dict) else {}

    @property
    def inner(self) -> Mapping[str, Any]:
        """The object of an answer, under `data` or at the top."""
        top = self.body if isinstance(self.body, dict) else {}
        data = top.get("data", top)
        return data if isinstance(data, dict) else {}


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
        self.exchanges = []
        if self.path.exists():
            os.truncate(self.path, sum(len(line) + 1 for line in _lines(self.path)))
            self.exchanges = read_recording(self.path)

    @property
    def salt(self) -> bytes:
        """What pseudonyms are made with; it stays here, so that nobody can try names out."""
        if not self._salt_path.exists() or not self._salt_path.stat().st_size:
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
    """The exchanges in a file; a last step that was cut short by a crash is left out."""
    exchanges = []
    for line in _lines(path):
        try:
            exchanges.append(Exchange(**orjson.loads(line)))
        except (orjson.JSONDecodeError, TypeError):
            continue
    return exchanges


def _lines(path: Path) -> list[bytes]:
    """The lines of a file up to the last step that is whole: what is cut off is of no use."""
    *lines, cut = path.read_bytes().split(b"\n")
    if cut and lines and (last := _step(lines[-1])).startswith(_step(cut)):
        while lines and _step(lines[-1]) == last:
            lines.pop()
    return lines


def _step(line: bytes) -> bytes:
    return line.partition(b",")[0]
