"""Reading a CSV of customers: any bytes give rows and problems, never an exception. Pure.

Takes what spreadsheets write: UTF-8 with or without a mark, UTF-16 with one, `,` `;` or tab, a
first line `sep=;`, quoted cells with line breaks, empty lines and columns at the end.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from linekeeper.customers.csv_cells import PARSERS, BadCell, ContactCell, shown
from linekeeper.customers.naming import name_key

MAX_BYTES = 10 * 1024 * 1024
MAX_ROWS = 20_000
MAX_PROBLEMS = 50

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
class CustomerRow:
    """One customer of the file. None, or no contacts: the cell was empty, so nothing is said."""

    line: int
    name: str
    contacts: tuple[ContactCell, ...] = ()
    time_zone: str | None = None
    locale: str | None = None
    owner: str | None = None
    critical: bool | None = None
    hosting: str | None = None
    tier: str | None = None
    new: bool | None = None
    """It is no customer that we have, though one has a similar name."""


def read_customers(data: bytes) -> tuple[list[CustomerRow], list[Problem]]:
    """The customers of a CSV file, and what is wrong with it (at most `MAX_PROBLEMS`)."""
    try:
        text = _decode(data)
    except BadCell as error:
        return [], [Problem(_line_of(data, error), "", str(error))]
    lines = _Lines(text)
    rows: list[CustomerRow] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    column_at: dict[int, str] | None = None
    for line, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if column_at is None:
            column_at, wrong = _header(line, cells)
            problems += wrong
            if wrong:
                break
            continue
        row, wrong = _row(line, cells, column_at)
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
    if column_at is None and not problems:
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
        raise BadCell(f"the file has more than {MAX_BYTES >> 20} MiB: split it")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadCell("this is not UTF-8: save the file as “CSV UTF-8”") from error
    if "\0" in text:
        raise BadCell("there is a zero byte: this is not a text file")
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
    column_at: dict[int, str] = {}
    problems = []
    for index, cell in enumerate(cells):
        if not cell.strip():
            continue
        column = _ALIASES.get(re.sub(r"[\s_\-]+", "", cell.casefold()))
        heading = shown(cell)
        if column is None:
            known = ", ".join(COLUMNS)
            problems.append(
                Problem(line, heading, f"no such column: the first line names the columns: {known}")
            )
        elif column in column_at.values():
            problems.append(Problem(line, heading, f"a second column for {column}: remove one"))
        else:
            column_at[index] = column
    if not problems and "name" not in column_at.values():
        problems.append(Problem(line, "name", "the column is missing"))
    return column_at, problems


def _row(
    line: int, cells: list[str], column_at: dict[int, str]
) -> tuple[CustomerRow | None, list[Problem]]:
    values: dict[str, str] = {}
    problems = []
    for index, cell in enumerate(cells):
        if index in column_at:
            values[column_at[index]] = cell
        elif cell.strip():
            problems.append(
                Problem(line, str(index + 1), f"{shown(cell)!r} is in a column without a name")
            )
    read: dict[str, object] = {}
    for column, parse in PARSERS.items():
        try:
            read[column] = parse(values.get(column, ""))
        except BadCell as error:
            problems.append(Problem(line, column, str(error)))
    if problems:
        return None, problems
    row = CustomerRow(line, **{column.replace(" ", "_"): value for column, value in read.items()})  # type: ignore[arg-type]  # each parser gives its field's type
    return row, []
