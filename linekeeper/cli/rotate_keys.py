"""`linekeeper rotate-keys`: everything encrypted anew under the first key."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from linekeeper.cli.terminal import who

if TYPE_CHECKING:
    from collections.abc import Sequence

    from linekeeper.store.processes import DatabaseProcess
    from linekeeper.store.rotate import Rotation

LOOK_AGAIN_SECONDS = 60.0
"""How long processes with an older key are waited for: most flow runs and commands end within."""


def rotate_keys_command(
    now: Annotated[
        bool, typer.Option("--now", help="Do it although processes with another key still run.")
    ] = False,
) -> None:
    """Encrypt all tokens and settings anew under the first encryption key.

    Put a new key in front of the old one (LINEKEEPER_ENCRYPTION_KEYS, or the file encryption-keys),
    restart every part, run this, then take the old key away. It waits a minute for processes that
    still encrypt with the old key; where some remain it names them and changes nothing, because
    they may not have the new one. Stopped in between, it goes on where it was when it is run again.

    Examples:

      linekeeper rotate-keys
    """
    from linekeeper.store.rotate import OthersEncrypt

    try:
        done = asyncio.run(_rotate(now))
    except OthersEncrypt as others:
        typer.echo(
            f"Nothing was changed: {_beside(others.writers)}, and perhaps can't read what is "
            "encrypted with the new one. Restart them with the new key in front, or let them end, "
            "and run this again (--now, if they have it behind another)"
        )
        raise typer.Exit(1) from None
    did = f"{done.changed} of {done.seen} rows were encrypted anew"
    if done.is_complete:
        typer.echo(
            f"{did}; all are under the first key now, and so was everything on a second look. No "
            "process that has the database open encrypts with another: the others may go"
        )
        return
    typer.echo(did)
    if done.unreadable:
        typer.echo(
            f"None of the keys opens {len(done.unreadable)} rows, which were left as they are: "
            f"{_listed(done.unreadable)}"
        )
    if done.written_since:
        typer.echo(
            f"{len(done.written_since)} rows were written under an older key meanwhile: "
            f"{_listed(done.written_since)}. Run this again once every part was restarted with the "
            "new key"
        )
    if done.writers:
        typer.echo(
            f"{_beside(done.writers)}. Restart them with the new key in front, or let them end, "
            "and run this again. A process that was killed is forgotten an hour after its last "
            "sign of life"
        )
    typer.echo("Keep the other keys")
    raise typer.Exit(1)


def _beside(writers: "Sequence[DatabaseProcess]") -> str:
    """Who has the database open beside this command."""
    named = _listed([str(writer) for writer in writers])
    if len(writers) == 1:
        return f"1 process has the database open and encrypts with another key: {named}"
    return f"{len(writers)} processes have the database open and encrypt with another key: {named}"


def _listed(rows: list[str]) -> str:
    return ", ".join(rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")


def _report(rotation: "Rotation") -> None:
    typer.echo(
        f"{rotation.seen} of {rotation.total} rows, {rotation.changed} encrypted anew", err=True
    )


async def _rotate(now: bool) -> "Rotation":
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime
    from linekeeper.store.rotate import rotate_keys
    from linekeeper.store.tables import Audit

    async with Runtime.open() as rt:
        done = await rotate_keys(
            rt.store,
            alone_within=None if now else LOOK_AGAIN_SECONDS,
            report=_report,
            look_again_after=LOOK_AGAIN_SECONDS,
        )
        async with rt.store.write() as session:
            session.add(
                Audit(
                    at=utcnow(),
                    by=who(),
                    action="keys.rotated",
                    subject="encryption keys",
                    detail={"rows": done.seen, "changed": done.changed},
                )
            )
        return done
