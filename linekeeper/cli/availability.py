"""`linekeeper availability`: minutes of a month by what was waited for."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from linekeeper.refusal import UserError

if TYPE_CHECKING:
    from linekeeper.availability.service import Month


def availability_command(
    *,
    month: Annotated[
        str | None,
        typer.Option(metavar="MONTH", help="Such as 2026-11; without it, this month so far."),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line a connection.")] = False,
) -> None:
    """Show how many minutes of a month each connection was not healthy, by what was waited for.

    The customer's login, the customer's system, Makini, us, the product, or unknown: the minutes
    of a connection sum to those in which it was live. Internal: nothing of it goes to customers.

    Examples:

      linekeeper availability

      linekeeper availability --month 2026-11 --csv
    """
    availability = asyncio.run(_read(month))
    from linekeeper.availability import service

    if as_csv:
        typer.echo(service.as_csv(availability), nl=False)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=service.sentence(availability), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("minutes of", overflow="fold")
    shown = service.columns_shown(availability)
    for heading in (*(service.HEADINGS[each] for each in shown), "Total"):
        table.add_column(heading, justify="right")
    for line in availability.lines:
        minutes = [f"{line.minutes[each]:,}" for each in shown]
        table.add_row(Text(line.label), *minutes, f"{line.total:,}")
    Console(highlight=False).print(table if availability.lines else service.sentence(availability))


async def _read(name: str | None) -> "Month":
    from linekeeper.availability.service import InvalidMonth, read_month
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt:
        try:
            return await read_month(rt.store, name, now=utcnow())
        except InvalidMonth as error:
            raise UserError(str(error)) from None
