"""Reading a CSV of customers: any bytes give rows and problems, never an exception. Pure.

Takes what spreadsheets write: UTF-8 with or without a mark, UTF-16 with one, `,` `;` or tab, a
first line `sep=;`, quoted cells with line breaks, empty lines and columns at the end.
"""

import csv
import io
import re
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from linekeeper.customers.naming import hosting, name_key, tier

MAX_BYTES = 10 * 1024 * 1024
MAX_ROWS = 20_000
MAX_PROBLEMS = 50
MAX_TEXT = 200

COLUMNS = ("name", "contacts", "time zone", "locale", "owner", "critical", "hosting", "tier", "new")
_ALIASES = {
    "customer": "name",
    "customername": "name",
    "company": "name",
    "contact": "contacts",
    "email": "contacts",
    "emails": "contacts",
    "mail": "contacts",
    "timezone": "time zone",
    "tz": "time zone",
    "language": "locale",
} | {column.replace(" ", ""): column for column in COLUMNS}
_YES = {"yes", "y", "true", "1", "x", "critical", "ja", "oui", "si", "sí"}
_NO = {"no", "n", "false", "0", "-", "nein", "non"}
_MAIL = re.compile(r"[^\s@<>,;:\"()\[\]\\]{1,64}@[^\s@<>,;:\"()\[\]\\]{1,190}\.[^\s@.,;<>\"]{2,63}")
_LOCALE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where: the line of the file (1 is the first) and the column's name."""

    line: int
    column: str
    text: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", column {self.column}" if self.column else "")
        return f"{where}: {self.text}"


@dataclass(frozen=True, slots=True)
class Person:
    """A contact; the mail address in lower case."""

    email: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One customer of the file. None, or no contacts: the cell was empty, so nothing is said."""

    line: int
    name: str
    contacts: tuple[Person, ...] = ()
    time_zone: str | None = None
    locale: str | None = None
    owner: str | None = None
    critical: bool | None = None
    hosting: str | None = None
    tier: str | None = None
    new: bool | None = None
    """It is no customer that we have, though one has a similar name."""


def is_mail_address(text: str) -> bool:
    """Whether somebody can be mailed at `text`."""
    return _MAIL.fullmatch(text) is not None


class _Bad(ValueError):
    """A cell that can't be understood; the message says why."""


def read_customers(data: bytes) -> tuple[list[Row], list[Problem]]:
    """The customers of a CSV file, and what is wrong with it (at most `MAX_PROBLEMS`)."""
    try:
        text = _decode(data)
    except _Bad as error:
        return [], [Problem(_line_of(data, error), "", str(error))]
    lines = _Lines(text)
    rows: list[Row] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    places: dict[int, str] | None = None
    for line, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if places is None:
            places, wrong = _header(line, cells)
            problems += wrong
            if wrong:
                break
            continue
        row, wrong = _row(line, cells, places)
        problems += wrong
        if row is not None:
            first = seen.setdefault(name_key(row.name), line)
            if first != line:
                problems.append(
                    Problem(line, "name", f"{row.name!r} is on line {first} already: merge the two")
                )
            rows.append(row)
        if len(rows) > MAX_ROWS:
            problems.append(Problem(line, "", f"more than {MAX_ROWS:,} customers: split the file"))
            break
        if len(problems) >= MAX_PROBLEMS:
            problems = problems[:MAX_PROBLEMS]
            problems.append(Problem(line, "", "too many problems: reading stopped here"))
            break
    if lines.broken is not None:
        problems.append(lines.broken)
    if places is None and not problems:
        problems.append(Problem(1, "", f"the file is empty: the columns are {', '.join(COLUMNS)}"))
    return rows, problems


class _Lines:
    """The cells of each row with the line it starts on; `broken` says where reading ended early."""

    def __init__(self, text: str) -> None:
        self._skipped, self._delimiter, self._text = _dialect(text)
        self.broken: Problem | None = None

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(
            io.StringIO(self._text, newline=""), delimiter=self._delimiter, strict=True
        )
        while True:
            line = self._skipped + reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                hint = "a quoted cell has no closing quote" if "end of data" in str(error) else ""
                self.broken = Problem(line, "", f"this is not CSV: {hint or error}")
                return
            yield line, cells


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise _Bad(f"the file has more than {MAX_BYTES >> 20} MiB: split it")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _Bad("this is not UTF-8: save the file as “CSV UTF-8”") from error
    if "\0" in text:
        raise _Bad("there is a zero byte: this is not a text file")
    return text


def _line_of(data: bytes, error: Exception) -> int:
    """The line of the first byte that can't be read."""
    cause = error.__cause__
    end = cause.start if isinstance(cause, UnicodeDecodeError) else data.find(b"\0")
    return data[: max(end, 0)].count(b"\n") + 1


def _dialect(text: str) -> tuple[int, str, str]:
    """Lines to skip, the delimiter, and the text without them."""
    first, newline, rest = text.partition("\n")
    said = re.fullmatch(r"\s*\"?sep=(.)\"?\s*", first)
    if said is not None and newline:
        return 1, said.group(1) if said.group(1) in ",;\t|" else ",", rest
    unquoted = re.sub(r"\"[^\"]*\"", "", first)
    delimiter = max(",;\t", key=unquoted.count)  # the first of equals: a comma
    return 0, delimiter, text


def _header(line: int, cells: list[str]) -> tuple[dict[int, str], list[Problem]]:
    """Which column is where."""
    places: dict[int, str] = {}
    problems = []
    for place, cell in enumerate(cells):
        if not cell.strip():
            continue
        column = _ALIASES.get(re.sub(r"[\s_\-]+", "", cell.casefold()))
        shown = _shown(cell)
        if column is None:
            known = ", ".join(COLUMNS)
            problems.append(
                Problem(line, shown, f"no such column: the first line names the columns: {known}")
            )
        elif column in places.values():
            problems.append(Problem(line, shown, f"a second column for {column}: remove one"))
        else:
            places[place] = column
    if not problems and "name" not in places.values():
        problems.append(Problem(line, "name", "the column is missing"))
    return places, problems


def _row(line: int, cells: list[str], places: dict[int, str]) -> tuple[Row | None, list[Problem]]:
    values: dict[str, str] = {}
    problems = []
    for place, cell in enumerate(cells):
        if place in places:
            values[places[place]] = cell
        elif cell.strip():
            problems.append(
                Problem(line, str(place + 1), f"{_shown(cell)!r} is in a column without a name")
            )
    read: dict[str, object] = {}
    for column, parse in _PARSERS.items():
        try:
            read[column] = parse(values.get(column, ""))
        except _Bad as error:
            problems.append(Problem(line, column, str(error)))
    if problems:
        return None, problems
    row = Row(line, **{column.replace(" ", "_"): value for column, value in read.items()})  # type: ignore[arg-type]  # each parser gives its field's type
    return row, []


def _name(cell: str) -> str:
    text = _text(cell)
    if text is None:
        raise _Bad("it is empty: every customer has a name")
    return text


def _text(cell: str) -> str | None:
    text = " ".join(cell.split())
    if len(text) > MAX_TEXT:
        raise _Bad(f"it has {len(text):,} characters, {MAX_TEXT} are allowed")
    if not text.isprintable():
        raise _Bad("it has characters that can't be shown")
    return text or None


def _contacts(cell: str) -> tuple[Person, ...]:
    people: dict[str, Person] = {}
    for part in _parts(cell):
        name, mail = _named(part)
        if not _MAIL.fullmatch(mail):
            raise _Bad(
                f"{_shown(part)!r} is no mail address: write `Name <mail>; Name <mail>` or `mail`"
            )
        people[mail] = Person(mail, _text(name) or "")
    return tuple(people.values())


def _named(part: str) -> tuple[str, str]:
    """Name and address of `Name <mail>` or `mail`; what is neither comes back as an address.

    No pattern: one for both had to try every way to share out a run of spaces.
    """
    text = part.strip()
    name, opened, rest = text.partition("<")
    if not opened or not rest.endswith(">"):
        return "", text.lower()
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1]
    if '"' in name or ">" in name:
        return "", text.lower()
    return name, rest[:-1].strip().lower()


def _parts(cell: str) -> list[str]:
    """The contacts of a cell: separated by `;` or line breaks, or by commas between addresses."""
    parts = re.split(r"[;\r\n]", cell)
    split = [
        piece
        for part in parts
        for piece in (re.split(r",(?=[^,]*@)", part) if part.count("@") > 1 else [part])
    ]
    return [piece for piece in split if piece.strip()]


def _time_zone(cell: str) -> str | None:
    text = _text(cell)
    if text is None:
        return None
    zone = _zones().get(text.casefold().replace(" ", "_"))
    if zone is None:
        raise _Bad(f"{_shown(text)!r} is no time zone: write it as Europe/Berlin or UTC")
    return zone


def _locale(cell: str) -> str | None:
    text = _text(cell)
    if text is None:
        return None
    if len(text) > 35 or not _LOCALE.fullmatch(text):
        raise _Bad(f"{_shown(text)!r} is no locale: write it as en, de or pt-BR")
    return text.replace("_", "-")


def _yes_or_no(cell: str) -> bool | None:
    word = cell.strip().casefold()
    if not word:
        return None
    if word in _YES or word in _NO:
        return word in _YES
    raise _Bad(f"{_shown(word)!r} is neither yes nor no")


def _charged(cell: str) -> str | None:
    """A hosting or a tier, as Makini's metadata would say it."""
    word = _text(cell) or ""
    known = hosting({"hosting": word}) or tier({"tier": word})
    if word and known is None:
        raise _Bad(f"{_shown(word)!r} is neither cloud, on-premises, self-hosted nor I, II, III")
    return known


_PARSERS: dict[str, Callable[[str], object]] = {
    "name": _name,
    "contacts": _contacts,
    "time zone": _time_zone,
    "locale": _locale,
    "owner": _text,
    "critical": _yes_or_no,
    "hosting": _charged,
    "tier": _charged,
    "new": _yes_or_no,
}


@cache
def _zones() -> dict[str, str]:
    return {name.casefold(): name for name in zoneinfo.available_timezones()}


def _shown(text: str) -> str:
    """A piece of the file fit for one line."""
    plain = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return plain if len(plain) <= 40 else f"{plain[:40]}…"
