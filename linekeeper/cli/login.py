"""`linekeeper connection link|login|disconnect`: a connection's login, by hand."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from linekeeper.cli.terminal import who
from linekeeper.refusal import UserError

_WANTED = "A name, “Customer · System”, tag, Makini's key or our id."


def link_command(
    connection: Annotated[str, typer.Argument(help=f"{_WANTED} Or use --customer.")] = "",
    customer: Annotated[str, typer.Option(help="For a new system: whose it is.")] = "",
    system: Annotated[str, typer.Option(help="For a new system: which, such as UpKeep.")] = "",
    app_name: Annotated[str, typer.Option("--app", help="The Makini app.")] = "default",
) -> None:
    """Make a connect link and print it alone on the last line. Good for 7 days, once.

    Asked for again before anybody has logged in by it, it is the same link, good for 7 days from
    then.

    Examples:

      linekeeper connection link "Acme · SAP ECC"

      linekeeper connection link --customer Acme --system UpKeep
    """
    for_whom, url, made_before = asyncio.run(_link(connection, customer, system, app_name))
    typer.echo(f"{for_whom}: pass this on to the customer only")
    if made_before:
        typer.echo(made_before)
    typer.echo(url)


def login_command(
    connection: Annotated[str, typer.Argument(help=_WANTED)],
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Holds a code of Makini Link, or a token pair as JSON; - reads standard input. "
            "Without it you are asked.",
        ),
    ] = None,
) -> None:
    """Store a code or a token pair as a connection's login, verified at Makini first.

    Neither is an argument: those stay in the shell's history and show in the process list.

    Examples:

      linekeeper connection login "Acme · SAP ECC"

      linekeeper connection login 1042 --file -
    """
    typer.echo(asyncio.run(_login(connection, _given(file))))


def disconnect_command(
    connection: Annotated[str, typer.Argument(help=_WANTED)],
    confirm: Annotated[
        str, typer.Option(metavar="KEY", help="Makini's key of it. Without it: only a preview.")
    ] = "",
    by: Annotated[str, typer.Option(help="Who does it. Default: you.")] = "",
) -> None:
    """Delete a connection at Makini, destroy its tokens, return its credits. There is no undo.

    Examples:

      linekeeper connection disconnect "Acme · SAP ECC"

      linekeeper connection disconnect 1042 --confirm 1042
    """
    for line in asyncio.run(_disconnect(connection, confirm, by.strip() or who())):
        typer.echo(line)


async def _link(connection: str, customer: str, system: str, app_name: str) -> tuple[str, str, str]:
    from linekeeper.access.invite import BadInvitation, invite_again, invite_new
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt:
        try:
            made = await (
                invite_again(rt, connection, by=who(), now=utcnow())
                if connection.strip()
                else invite_new(rt, customer, system, app=app_name, by=who(), now=utcnow())
            )
        except BadInvitation as error:
            raise UserError(f"{error}; or name a connection") from None
    return made.for_whom, made.url, made.made_before


def _given(file: Path | None) -> str:
    if file is None:
        if not sys.stdin.isatty():
            raise UserError("there is no terminal to ask: use --file -")
        return str(typer.prompt("Code, or token pair as JSON", hide_input=True)).strip()
    try:
        return (sys.stdin.read() if str(file) == "-" else file.read_text("utf-8-sig")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} can't be read ({type(error).__name__})") from None


async def _login(connection: str, text: str) -> str:
    from linekeeper.access.paste import Unusable, paste, understood
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt:
        try:
            given = understood(text, now=utcnow())
        except Unusable as error:
            raise UserError(str(error)) from None
        pasted = await paste(rt, connection, given, by=who(), now=utcnow())
    if not pasted.is_stored:
        raise UserError(pasted.sentence)
    return pasted.sentence


async def _disconnect(connection: str, confirm: str, by: str) -> list[str]:
    from linekeeper.reconnect.disconnect import DisconnectNotConfirmed, disconnect, preview
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt:
        if not confirm.strip():
            seen = await preview(rt, connection)
            key = seen.named.makini_key
            return [*seen.lines, f"Nothing was done. To do it, add --confirm {key}"]
        try:
            return [await disconnect(rt, connection, confirm=confirm, by=by)]
        except DisconnectNotConfirmed as error:
            raise UserError(str(error)) from None
