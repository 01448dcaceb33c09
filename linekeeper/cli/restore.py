"""`linekeeper restore`: everything back from one file, into an empty database."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linekeeper.refusal import UserError

if TYPE_CHECKING:
    from linekeeper.backup import Restored
    from linekeeper.settings import Settings


def restore_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file that `linekeeper backup` wrote.")
    ],
    *,
    accept_unsigned: Annotated[
        bool,
        typer.Option(
            "--accept-unsigned",
            help="Take a backup of Linekeeper 0.1, which anybody could have altered; its API keys "
            "come back revoked.",
        ),
    ] = False,
) -> None:
    """Put a backup into an empty database, whole or not at all.

    Needs the encryption keys it was taken with, in LINEKEEPER_ENCRYPTION_KEYS or in
    HOME/encryption-keys; neither Prefect nor Makini. A backup of SQLite goes into PostgreSQL too,
    and back. What you had set in the Prefect UI comes back with the next `up` or `deploy`.

    Example:

      linekeeper restore /backups/linekeeper-2026-11-25.backup
    """
    done = asyncio.run(_restore(file, accept_unsigned=accept_unsigned))
    typer.echo(
        f"restored {done.rows:,} rows, as of {done.header.taken_at.replace('+00:00', ' UTC')}; "
        f"the schema is {done.schema}"
    )
    if not done.header.is_signed:
        typer.echo(
            "warning: nothing verifies that this file is as Linekeeper wrote it; look through the "
            f"audit and the contacts. API keys that came back revoked: {done.revoked_keys:,}; make "
            "new ones with linekeeper key add",
            err=True,
        )
    typer.echo(
        "keys revoked and customers erased after that moment are back: revoke them again "
        "(linekeeper key list), erase them again (linekeeper customer erase)"
    )
    typer.echo("next: linekeeper up (on one machine), or linekeeper deploy and start the parts")


async def _restore(file: Path, *, accept_unsigned: bool) -> "Restored":
    from linekeeper.backup import read_header, restore
    from linekeeper.cli.terminal import who
    from linekeeper.clock import utcnow
    from linekeeper.settings import Settings
    from linekeeper.store import Store

    settings = Settings()
    header = read_header(file)
    if not (settings.encryption_keys or (settings.home / "encryption-keys").exists()):
        # Opening the store would make new ones here, and none of those opens this file.
        raise UserError(_no_keys(file, header.keys, settings))
    async with Store.open(settings) as store:
        return await restore(store, file, by=who(), now=utcnow(), accept_unsigned=accept_unsigned)


def _no_keys(file: Path, keys: tuple[str, ...], settings: "Settings") -> str:
    return (
        f"there are no encryption keys here, and {file} needs those with the fingerprint "
        f"{', '.join(keys)}: set LINEKEEPER_ENCRYPTION_KEYS, or put them into "
        f"{settings.home / 'encryption-keys'}"
    )
