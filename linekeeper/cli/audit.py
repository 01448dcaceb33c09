"""`linekeeper audit`: who did what."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from linekeeper.views.audit import AuditEntry


def audit_command(
    *,
    days: Annotated[float, typer.Option(min=0, max=36_500, help="How far back.")] = 30,
    by: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Only entries by this person or key; a part of the name is enough."
        ),
    ] = "",
    action: Annotated[
        str, typer.Option(metavar="TEXT", help="Only this action; a part of its name is enough.")
    ] = "",
    tokens: Annotated[bool, typer.Option("--tokens", help="Show issued tokens too.")] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help=("How many entries to show, the newest first."))
    ] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")] = False,
) -> None:
    """Show who did what: in Slack, in forms, with keys, and on the command line.

    Examples:

      linekeeper audit

      linekeeper audit --by anna --days 7

      linekeeper audit --tokens --json
    """
    entries = asyncio.run(
        _read(timedelta(days=days), by=by, action=action, tokens=tokens, limit=limit + 1)
    )
    if len(entries) > limit:
        entries = entries[:limit]
        typer.echo(f"Only the newest {limit:,} entries are shown; --limit shows more.", err=True)
    if as_json:
        import json

        typer.echo(json.dumps([entry.as_json() for entry in entries], indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from linekeeper.views.audit import details_text

    table = Table()
    table.add_column("at (UTC), who", overflow="fold", min_width=16)
    table.add_column("what", no_wrap=True)
    table.add_column("to what, more", overflow="fold")
    for entry in entries:
        known = [entry.subject, details_text(entry.detail)]
        table.add_row(
            Text(f"{entry.at:%Y-%m-%d %H:%M}\n{entry.by}"),
            Text(entry.action),
            Text("\n".join(filter(None, known))),
        )
    Console(highlight=False).print(table if entries else "there is no audit entry in that time")


async def _read(
    back: timedelta, *, by: str, action: str, tokens: bool, limit: int
) -> "list[AuditEntry]":
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime
    from linekeeper.views.audit import read_audit

    async with Runtime.open() as rt:
        return await read_audit(
            rt.store, since=utcnow() - back, by=by, action=action, tokens=tokens, limit=limit
        )
