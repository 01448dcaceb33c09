"""`linekeeper tokens`: tokens in and out, in bulk."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linekeeper.cli.terminal import require_phrase, who
from linekeeper.refusal import UserError
from linekeeper.store.engine import chunked
from linekeeper.text import counted

if TYPE_CHECKING:
    from linekeeper.access.custody import Handed, HandedResult

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=("Import and export tokens in bulk.")
)


IN_ONE_GO = 50
"""Tokens that an import verifies before it stores them: at a call a second, not many minutes."""


@app.callback()
def _tokens() -> None:
    """Import and export tokens in bulk."""


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON; - reads standard input.")],
) -> None:
    """Take tokens that the product hands over: the body of `POST /api/tokens`, of any length.

    An access token alone is borrowed: Linekeeper reads with it and never renews it. A pair is
    owned once it is verified. Interrupted, run it again: what was taken is not verified again.

    Examples:

      linekeeper tokens import tokens.json
    """
    results = asyncio.run(_import(_read(file)))
    refused = [result for result in results if result.custody is None]
    for result in refused:
        typer.echo(f"{result.connection}: {result.error}", err=True)
    typer.echo(f"{counted(len(results) - len(refused), 'token')} imported, {len(refused)} refused")
    if refused:
        raise typer.Exit(1)


@app.command("export")
def export_command(
    to: Annotated[str, typer.Option(metavar="KEY", help="An age public key: age1…")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to; encrypted.")] = Path(
        "linekeeper-tokens.age"
    ),
    *,
    makini_app: Annotated[str, typer.Option("--app", help="Of which Makini app.")] = "default",
    connection: Annotated[
        list[str] | None,
        typer.Option("--connection", help="Only this one; may be repeated."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Only those with this tag.")
    ] = None,
    customer: Annotated[
        list[str] | None, typer.Option("--customer", help="Only those of this customer.")
    ] = None,
    confirm: Annotated[
        str, typer.Option(metavar="APP", help="The app's name. At a terminal you are asked.")
    ] = "",
) -> None:
    """Give tokens back, encrypted to KEY; from then on nothing here renews any of them.

    Those of every connection of the app, unless connections, tags or customers are named.

    `age --decrypt -i key.txt linekeeper-tokens.age` opens it: JSON, as `tokens import` takes it.
    Run it again if it was interrupted: it gives the same tokens.

    Examples:

      linekeeper tokens export --to age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p

      linekeeper tokens export --tag pilot --to "$(cat key.pub)"
    """
    named = (connection or [], tag or [], customer or [])
    which = "of these connections" if any(named) else f"of app {makini_app}"
    what = f"This gives back every token {which}; nothing here renews one after that"
    require_phrase(makini_app, confirm, what=what)
    count = asyncio.run(_export(makini_app, to, out, named))
    typer.echo(f"{counted(count, 'token')} in {out}. Linekeeper renews none {which} any more.")


def _read(file: Path) -> "list[Handed]":
    import json

    from linekeeper.access.custody import MOST, BadTokens, parse_handed
    from linekeeper.clock import utcnow

    name = "standard input" if str(file) == "-" else str(file)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8-sig")
        value = json.loads(text)
    except ValueError:
        raise UserError(f"{name} is not JSON") from None
    entries = value.get("tokens") if isinstance(value, dict) else value
    if not isinstance(entries, list):
        entries = [entries]
    handed = []
    try:
        for chunk in chunked(entries, MOST):
            handed += parse_handed(chunk, now=utcnow())
    except BadTokens as error:
        raise UserError(f"{name}: {error}") from None
    return handed


async def _import(handed: "list[Handed]") -> "list[HandedResult]":
    from linekeeper.access.custody import take_over
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime

    results: list[HandedResult] = []
    async with Runtime.open() as rt:
        for portion in chunked(handed, IN_ONE_GO):
            results += await take_over(rt, portion, by=who(), now=utcnow())
            if len(handed) > IN_ONE_GO:
                taken = sum(result.custody is not None for result in results)
                typer.echo(
                    f"{len(results):,} of {len(handed):,} tokens, {taken:,} imported", err=True
                )
    return results


async def _export(
    app_name: str, to: str, out: Path, named: tuple[list[str], list[str], list[str]]
) -> int:
    import json

    from sqlmodel import col, select

    from linekeeper.access.custody import return_tokens
    from linekeeper.access.modes import find_subjects, named_by
    from linekeeper.backup.age import BadRecipient, encrypt, recipient
    from linekeeper.clock import utcnow
    from linekeeper.private import keep, make_private_file
    from linekeeper.runtime import Runtime
    from linekeeper.store.tables import Connection
    from linekeeper.tokens.stored import UnreadableToken

    try:
        key = recipient(to)
    except BadRecipient as error:
        raise UserError(f"--to: {error}") from None
    partial = out.with_name(f"{out.name}.part")
    async with Runtime.open() as rt:
        await rt.app(app_name)
        partial.unlink(missing_ok=True)
        make_private_file(partial)  # where that can't be, nothing is given back
        async with rt.store.read() as session:
            rows = await session.scalars(
                select(Connection)
                .where(col(Connection.app) == app_name, col(Connection.setup) != "disconnected")
                .order_by(col(Connection.id))
            )
            connections = list(rows)
        if any(named):
            by_connection, by_tag, by_customer = named
            subjects = await find_subjects(
                rt, connections=by_connection, tags=by_tag, customers=by_customer
            )
            connections = [
                connection for connection in connections if named_by(subjects, connection)
            ]
        tokens = []
        for connection in connections:
            try:
                given = await return_tokens(rt, connection, by=who(), now=utcnow(), to=to)
            except UnreadableToken as error:
                typer.echo(str(error), err=True)
            else:
                tokens += [given] if given is not None else []
    sealed = encrypt(json.dumps({"tokens": tokens}).encode(), key)
    partial.write_bytes(sealed)
    keep(partial, out)
    return len(tokens)
