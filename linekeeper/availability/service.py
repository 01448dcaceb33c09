"""Availability of a month: read, decided, and as table, CSV and one line."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from linekeeper.availability.decide import Line, Span, Waiting, line_of, total_of
from linekeeper.availability.queries import read_histories, read_troubles
from linekeeper.markdown import table, text
from linekeeper.store import Store

_MONTH = re.compile(r"(\d{4})-(\d{2})")
HEADINGS = {
    Waiting.healthy: "Healthy",
    Waiting.customer_login: "Customer's login",
    Waiting.customer_system: "Customer's system",
    Waiting.makini: "Makini",
    Waiting.us: "Us",
    Waiting.product: "Product",
    Waiting.unknown: "Unknown",
}


class InvalidMonth(ValueError):
    """That is no month."""


@dataclass(frozen=True, slots=True)
class Month:
    """One month of the fleet."""

    name: str
    span: Span
    lines: Sequence[Line]


def month_of(name: str | None, *, now: datetime) -> tuple[str, Span]:
    """The month called `2026-11`, until `now` at most; without a name, the present one. Pure."""
    name = name or f"{now:%Y-%m}"
    found = _MONTH.fullmatch(name.strip())
    if found is None or not 1 <= int(found[2]) <= 12 or not 2000 <= int(found[1]) <= 9998:
        raise InvalidMonth(f"{name!r} is no month: give one such as 2026-11")
    year, number = int(found[1]), int(found[2])
    since = datetime(year, number, 1, tzinfo=UTC)
    if since > now:
        raise InvalidMonth(f"{name} has not begun yet")
    until = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return f"{year:04}-{number:02}", Span(since, min(until, now))


async def read_month(store: Store, name: str | None, *, now: datetime) -> Month:
    """The month of every connection that was live in it. Raises `InvalidMonth`."""
    name, span = month_of(name, now=now)
    async with store.read() as session:
        histories = await read_histories(session, span)
        troubles = await read_troubles(session, span)
    lines = [line_of(history, troubles, span) for history in histories]
    return Month(name, span, [line for line in lines if line.total])


def columns_shown(month: Month) -> list[Waiting]:
    """What anybody was waited for in that month: the other columns would hold noughts. Pure."""
    return [each for each in HEADINGS if any(line.minutes[each] for line in month.lines)]


def as_csv(month: Month) -> str:
    """One line a connection; the columns of minutes sum to `total`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["month", "customer", "connection", *(each.value for each in Waiting), "total"])
    for line in month.lines:
        minutes = [line.minutes[each] for each in Waiting]
        names = [_cell(line.customer), _cell(line.label)]
        writer.writerow([month.name, *names, *minutes, line.total])
    return file.getvalue()


def markdown(month: Month) -> str:
    """The artifact `availability`: customers, then connections, in minutes. Internal."""
    customers: dict[str, list[Line]] = {}
    for line in month.lines:
        customers.setdefault(line.customer, []).append(line)
    header = ["", *HEADINGS.values(), "Total", "Available"]
    return "\n\n".join(
        [
            f"# Availability in {month.name}",
            sentence(month),
            f"Counted until {month.span.until:%Y-%m-%d %H:%M} UTC.",
            "Minutes by what was waited for. Internal: this is not sent to customers.",
            "## Customers",
            table(
                header,
                [
                    _row(customer or "—", total_of(lines))
                    for customer, lines in sorted(customers.items())
                ],
            ),
            "## Connections",
            table(header, [_row(line.label, dict(line.minutes)) for line in month.lines]),
        ]
    )


def sentence(month: Month) -> str:
    """The line in the digest of the first of the month."""
    total = total_of(month.lines)
    whole = sum(total.values())
    if not whole:
        return f"{month.name}: no connection was live"
    lost = sorted(
        (each for each in Waiting if each is not Waiting.healthy and total[each]),
        key=lambda each: -total[each],
    )
    waited = ", ".join(f"{HEADINGS[each]} {_share(total[each], whole)}" for each in lost)
    return f"{month.name}: {_share(total[Waiting.healthy], whole)} healthy" + (
        f"; waited for: {waited}" if waited else ""
    )


def _row(name: str, minutes: dict[Waiting, int]) -> list[str]:
    whole = sum(minutes.values())
    return [
        text(name),
        *(f"{minutes[each]:,}" for each in Waiting),
        f"{whole:,}",
        _share(minutes[Waiting.healthy], whole),
    ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %"


def _cell(value: str) -> str:
    """A name no spreadsheet takes for a formula."""
    return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
