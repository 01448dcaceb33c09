"""Who sits at the terminal; and what can't be undone is done only once its phrase was typed."""

import getpass
import sys

import typer

from linekeeper.refusal import UserError


def who() -> str:
    """`anna (command line)`."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "somebody"
    return f"{name} (command line)"


def require_phrase(phrase: str, given: str, *, what: str, scripts_say_it: bool = False) -> None:
    """Return once `phrase` is typed, by `--confirm` or at the terminal. Raises `UserError`.

    `what` says what would be done. Upper and lower case don't matter. A script, which nobody can be
    asked in, has named what it wants; with `scripts_say_it` it has to give the phrase, too.
    """
    typed = given.strip()
    if not typed:
        if not sys.stdin.isatty():
            if scripts_say_it:
                raise UserError(f"{what}. Nothing was done: repeat it with --confirm “{phrase}”")
            return
        typer.echo(f"{what}.", err=True)
        typed = str(typer.prompt(f"Type “{phrase}” to do it", err=True)).strip()
    if typed.casefold() != phrase.casefold():
        raise UserError(f"{typed!r} is not “{phrase}”: nothing was done")
