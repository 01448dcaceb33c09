"""`linekeeper key`: what the operator's product calls Linekeeper with."""

import asyncio
from typing import Annotated

import typer

from linekeeper.cli.terminal import who
from linekeeper.refusal import UserError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Make, list and revoke the product's keys."
)


@app.callback()
def _key() -> None:
    """Make, list and revoke the product's keys."""


@app.command("add")
def add_command(
    name: Annotated[str, typer.Argument(help="Who will use the key, such as “product”.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="S",
            help="What the key may do; may be repeated. Default: every scope.",
        ),
    ] = None,
) -> None:
    """Make a key and print it alone on the last line. It can't be shown again.

    Scopes: connections:read, tokens:read, tokens:write, observations:write, changes:read,
    connect:write, mode:write, explain:read, canary:write.

    Examples:

      linekeeper key add product

      linekeeper key add dashboard --scope connections:read
    """
    made = asyncio.run(_add(name, scope or []))
    typer.echo(f"The key {name!r}. Copy it now: only its hash is stored.")
    typer.echo(made)


@app.command("list")
def list_command() -> None:
    """List the keys: name, scopes, when they were made, used and revoked."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("name", overflow="fold")
    table.add_column("scopes", no_wrap=True)
    table.add_column("when (UTC)", overflow="fold", min_width=26)
    rows = asyncio.run(_list())
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table if rows else "no key")
    if rows:
        typer.echo(
            "A use is written down once an hour: a key may have been used again up to an "
            "hour after *last used*.",
            err=True,
        )


@app.command("revoke")
def revoke_command(name: Annotated[str, typer.Argument(help="The key's name.")]) -> None:
    """End a key at once."""
    asyncio.run(_revoke(name))
    typer.echo(f"the key {name!r} is revoked")


async def _add(name: str, scopes: list[str]) -> str:
    from linekeeper.access.keys import KeyRefused, make_key
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime

    try:
        async with Runtime.open() as rt, rt.store.write() as session:
            return await make_key(session, name, scopes, by=who(), now=utcnow())
    except KeyRefused as error:
        raise UserError(str(error)) from None


async def _list() -> list[tuple[str, ...]]:
    from linekeeper.access.keys import list_keys
    from linekeeper.runtime import Runtime
    from linekeeper.store.tables import ApiKey

    async with Runtime.open() as rt, rt.store.read() as session:
        keys = await list_keys(session)

    def when(key: ApiKey) -> str:
        said = [f"made {key.created_at:%Y-%m-%d %H:%M}", f"by {key.created_by}"]
        for what, at in (("last used", key.last_used_at), ("revoked", key.revoked_at)):
            if at:
                said.append(f"{what} {at:%Y-%m-%d %H:%M}")
        return "\n".join(said)

    return [(key.name, "\n".join(key.scopes), when(key)) for key in keys]


async def _revoke(name: str) -> None:
    from linekeeper.access.keys import KeyRefused, revoke_key
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime

    try:
        async with Runtime.open() as rt, rt.store.write() as session:
            await revoke_key(session, name, by=who(), now=utcnow())
    except KeyRefused as error:
        raise UserError(str(error)) from None
