"""Availability of a month: read, decided, and as table, CSV and one line."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.availability.decide import (
    LEAD,
    AvailabilityLine,
    History,
    TimeSpan,
    Troubles,
    Turn,
    WaitedFor,
    line_of,
    total_of,
)
from linekeeper.availability.troubles import read_troubles
from linekeeper.customers.naming import label
from linekeeper.markdown import table, text
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer, Transition


class _Edges(NamedTuple):
    """The value before the month, and before what came later, by connection and axis."""

    before: Mapping[tuple[str, str], str]
    after: Mapping[tuple[str, str], str]


async def read_histories(
    session: AsyncSession, month: TimeSpan, troubles: Troubles
) -> list[History]:
    """Each connection's turns in the month, beginning with what held at its start.

    Where nobody looked at its end, the turns found afterwards are read too: they say whether a
    trouble had ended meanwhile.
    """
    unseen = chain(troubles.unwatched, *troubles.removed.values())
    until = max([month.until, *(span.until + LEAD for span in unseen)])
    connections: Sequence[Any] = (
        await session.execute(
            select(
                col(Connection.id),
                col(Connection.app),
                col(Connection.name),
                col(Connection.provider),
                col(Connection.told_apart_by),
                col(Connection.setup),
                col(Connection.health),
                col(Connection.created_at),
                col(Customer.name).label("customer"),
            )
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(col(Connection.created_at) < month.until)
            .order_by(col(Customer.name), col(Connection.provider), col(Connection.id))
        )
    ).all()
    turns: dict[tuple[str, str], list[Any]] = {}
    rows = await session.execute(
        select(
            col(Transition.connection_id),
            col(Transition.axis),
            col(Transition.at),
            col(Transition.before),
            col(Transition.after),
        )
        .where(col(Transition.at) >= month.since, col(Transition.at) < until)
        .order_by(col(Transition.at), col(Transition.id))
    )
    for row in rows:
        turns.setdefault((row.connection_id, row.axis), []).append(row)
    edges = _Edges(await _at_start(session, month.since), await _first_after(session, month.until))
    return [
        History(
            label=label(row.customer, row.provider, row.name, row.told_apart_by),
            customer=row.customer or "",
            app=row.app,
            connection_id=row.id,
            setup=_turns(row, "setup", edges, turns, month),
            health=_turns(row, "health", edges, turns, month),
        )
        for row in connections
    ]


async def _at_start(session: AsyncSession, since: datetime) -> dict[tuple[str, str], str]:
    """What each axis became last before the month."""
    return await _edge(session, func.max, col(Transition.at) < since, col(Transition.after))


async def _first_after(session: AsyncSession, until: datetime) -> dict[tuple[str, str], str]:
    """What each axis was before its first change after the month."""
    return await _edge(session, func.min, col(Transition.at) >= until, col(Transition.before))


async def _edge(
    session: AsyncSession, pick: Any, which: ColumnElement[bool], value: Any
) -> dict[tuple[str, str], str]:
    """A value of each axis's last or first transition among some."""
    edge = (
        select(
            col(Transition.connection_id),
            col(Transition.axis),
            pick(col(Transition.at)).label("at"),
        )
        .where(which)
        .group_by(col(Transition.connection_id), col(Transition.axis))
        .subquery()
    )
    rows = await session.execute(
        select(col(Transition.connection_id), col(Transition.axis), value)
        .join(
            edge,
            (edge.c.connection_id == col(Transition.connection_id))
            & (edge.c.axis == col(Transition.axis))
            & (edge.c.at == col(Transition.at)),
        )
        .order_by(col(Transition.id))
    )
    return {(row[0], row[1]): row[2] for row in rows}


def _turns(
    row: Any, axis: str, edges: _Edges, turns: Mapping[tuple[str, str], list[Any]], month: TimeSpan
) -> list[Turn]:
    """One axis in the month. A connection that came into the books later begins then."""
    key = (row.id, axis)
    turn_rows = turns.get(key, [])
    first = edges.before.get(key)
    if first is None:
        first = turn_rows[0].before if turn_rows else edges.after.get(key, getattr(row, axis))
    start = Turn(max(row.created_at, month.since), first)
    # Written by a machine whose clock is behind, a turn may seem to come before the beginning.
    return [start, *(Turn(max(each.at, start.at), each.after) for each in turn_rows)]


_MONTH = re.compile(r"(\d{4})-(\d{2})")
HEADINGS = {
    WaitedFor.healthy: "Healthy",
    WaitedFor.customer_login: "Customer's login",
    WaitedFor.customer_system: "Customer's system",
    WaitedFor.makini: "Makini",
    WaitedFor.us: "Us",
    WaitedFor.product: "Product",
    WaitedFor.unknown: "Unknown",
}


class InvalidMonth(ValueError):
    """That is no month."""


@dataclass(frozen=True, slots=True)
class Month:
    """One month of the fleet."""

    name: str
    span: TimeSpan
    lines: Sequence[AvailabilityLine]


def month_of(name: str | None, *, now: datetime) -> tuple[str, TimeSpan]:
    """The month called `2026-11`, until `now` at most; without a name, the present one. Pure."""
    name = name or f"{now:%Y-%m}"
    matched = _MONTH.fullmatch(name.strip())
    if matched is None or not 1 <= int(matched[2]) <= 12 or not 2000 <= int(matched[1]) <= 9998:
        raise InvalidMonth(f"{name!r} is not a month: write it as 2026-11")
    year, number = int(matched[1]), int(matched[2])
    since = datetime(year, number, 1, tzinfo=UTC)
    if since > now:
        raise InvalidMonth(f"{name} has not begun yet")
    until = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return f"{year:04}-{number:02}", TimeSpan(since, min(until, now))


async def read_month(store: Store, name: str | None, *, now: datetime) -> Month:
    """The month of every connection that was live in it. Raises `InvalidMonth`."""
    name, span = month_of(name, now=now)
    async with store.read() as session:
        troubles = await read_troubles(session, span)
        histories = await read_histories(session, span, troubles)
    lines = [line_of(history, troubles, span) for history in histories]
    return Month(name, span, [line for line in lines if line.total])


def columns_shown(month: Month) -> list[WaitedFor]:
    """What anybody was waited for in that month: the other columns would hold noughts. Pure."""
    return [each for each in HEADINGS if any(line.minutes[each] for line in month.lines)]


def as_csv(month: Month) -> str:
    """One line a connection; the columns of minutes sum to `total`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [
            *("month", "customer", "connection"),
            *(each.value for each in WaitedFor),
            *("total", "connection_id"),
        ]
    )
    for line in month.lines:
        minutes = [line.minutes[each] for each in WaitedFor]
        names = [_cell(line.customer), _cell(line.label)]
        writer.writerow([month.name, *names, *minutes, line.total, line.connection_id])
    return file.getvalue()


def markdown(month: Month) -> str:
    """The artifact `availability`: customers, then connections, in minutes. Internal."""
    customers: dict[str, list[AvailabilityLine]] = {}
    for line in month.lines:
        customers.setdefault(line.customer, []).append(line)
    header = ["", *HEADINGS.values(), "Total", "Available"]
    return "\n\n".join(
        [
            f"# Availability in {month.name}",
            sentence(month),
            f"Counted until {month.span.until:%Y-%m-%d %H:%M} UTC.",
            "The minutes are counted by what was waited for. This page is internal and is not "
            "sent to customers.",
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
    """The line in the first digest of the month that follows."""
    total = total_of(month.lines)
    whole = sum(total.values())
    if not whole:
        return f"{month.name}: no connection was live"
    lost = sorted(
        (each for each in WaitedFor if each is not WaitedFor.healthy and total[each]),
        key=lambda each: -total[each],
    )
    waited = ", ".join(f"{HEADINGS[each]} {_share(total[each], whole)}" for each in lost)
    return f"{month.name}: {_share(total[WaitedFor.healthy], whole)} healthy" + (
        f"; waited for: {waited}" if waited else ""
    )


def _row(name: str, minutes: dict[WaitedFor, int]) -> list[str]:
    whole = sum(minutes.values())
    return [
        text(name),
        *(f"{minutes[each]:,}" for each in WaitedFor),
        f"{whole:,}",
        _share(minutes[WaitedFor.healthy], whole),
    ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %"


_FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""What a formula begins with; some programs take the full-width forms for the same."""


def _cell(value: str) -> str:
    """A name no spreadsheet takes for a formula."""
    return f"'{value}" if value[:1] in _FORMULA else value
