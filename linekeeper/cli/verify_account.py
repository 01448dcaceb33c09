"""`linekeeper verify-account`: which assumptions about Makini hold on the operator's account."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from linekeeper.text import counted

if TYPE_CHECKING:
    from linekeeper.verify_account.service import Verification, Wish

_STYLES = {"seen so": "green", "seen otherwise": "yellow", "not seen": "dim"}


def verify_account_command(
    *,
    app: Annotated[str, typer.Option(help="Which Makini app.")] = "default",
    data: Annotated[
        bool, typer.Option("--data", help="Read statuses and records with the tokens held here.")
    ] = False,
    write_on: Annotated[
        str, typer.Option(metavar="KEY", help="Mint one token for this connection.")
    ] = "",
    confirm: Annotated[str, typer.Option(metavar="KEY", help="The same key again.")] = "",
    calls: Annotated[int, typer.Option(min=1, help="Calls to make at most.")] = 500,
    again: Annotated[bool, typer.Option("--again", help="Forget the recording first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find out on your own account which assumptions about Makini hold, and the settings to use.

    Reads the list of connections and nothing else, unless told otherwise. Ctrl-C at any time: the
    next run goes on. What was seen is in HOME/verify-account, without tokens, names or records.

    Examples:

      linekeeper verify-account

      linekeeper verify-account --data --json
    """
    from linekeeper.verify_account.service import Wish, as_data

    wish = Wish(data=data, write_on=write_on, confirm=confirm, calls=calls, again=again)
    try:
        verification = asyncio.run(_verify(app, wish))
    except KeyboardInterrupt:
        typer.echo("Interrupted. What was asked is recorded; run it again to go on.", err=True)
        raise typer.Exit(130) from None
    if as_json:
        import json

        typer.echo(json.dumps(as_data(verification), indent=2, ensure_ascii=False))
    else:
        _show(verification)
    if verification.unanswered:
        typer.echo("Not answered, and asked again by the next run:", err=True)
        for line in verification.unanswered:
            typer.echo(f"  {line}", err=True)
        raise typer.Exit(1)


async def _verify(app: str, wish: "Wish") -> "Verification":
    from linekeeper.clock import utcnow
    from linekeeper.refusal import UserError
    from linekeeper.runtime import Runtime
    from linekeeper.verify_account.service import WriteNotConfirmed, verify_account

    async with Runtime.open() as rt:
        try:
            return await verify_account(
                rt, app, wish, now=utcnow(), say=lambda line: typer.echo(line, err=True)
            )
        except WriteNotConfirmed as error:
            raise UserError(str(error)) from error


def _show(verification: "Verification") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from linekeeper.verify_account.service import counts

    table = Table(box=None, show_header=False, padding=(0, 1))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for answer in verification.answers:
        style = _STYLES[answer.verdict]
        said = Text(answer.assumption)
        said.append(f"\n→ {answer.evidence}", style)
        table.add_row(Text(answer.verdict.value, style), answer.question, said)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{counts(verification)}; {counted(verification.calls, 'call')}")
    if verification.settings:
        console.print("\nSettings to use (or the same fields of the block MakiniApp):")
        for name, value in verification.settings.items():
            console.print(f"  LINEKEEPER_{name}={value}", soft_wrap=True)
    console.print(f"\nRecording, redacted: {verification.recording}", soft_wrap=True)
