"""What can't be undone is done only once its phrase was typed."""

import sys

import typer

from linekeeper.cli.errors import UserError


def require_phrase(phrase: str, given: str, *, what: str) -> None:
    """Return once `phrase` is typed, by `--confirm` or at the terminal. Raises `UserError`.

    `what` says what would be done. Upper and lower case don't matter.
    """
    typed = given.strip()
    if not typed:
        if not sys.stdin.isatty():
            raise UserError(f"{what}. Nothing was done: repeat it with --confirm “{phrase}”")
        typer.echo(f"{what}.", err=True)
        typed = str(typer.prompt(f"Type “{phrase}” to do it", err=True)).strip()
    if typed.casefold() != phrase.casefold():
        raise UserError(f"{typed!r} is not “{phrase}”: nothing was done")
