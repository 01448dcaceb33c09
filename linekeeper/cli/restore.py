"""`linekeeper restore`: everything back from one file, into an empty database."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linekeeper.cli.errors import UserError

if TYPE_CHECKING:
    from linekeeper.backup import Restored
    from linekeeper.settings import Settings


def restore_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `linekeeper backup` wrote.")],
) -> None:
    """Put a backup into an empty database, whole or not at all.

    Needs the encryption keys it was taken with, in LINEKEEPER_ENCRYPTION_KEYS or in
    HOME/encryption-keys; neither Prefect nor Makini. A backup of SQLite goes into PostgreSQL too,
    and back. What you had set in the Prefect UI comes back with the next `up` or `deploy`.

    Example:

      linekeeper restore /backups/linekeeper-2026-11-25.backup
    """
    done = asyncio.run(_restore(file))
    typer.echo(
        f"restored {done.rows:,} rows, as of {done.header.taken_at.replace('+00:00', ' UTC')}; "
        f"the schema is {done.schema}"
    )
    typer.echo("next: linekeeper up (on one machine), or linekeeper deploy and start the parts")


async def _restore(file: Path) -> "Restored":
    from linekeeper.backup import read_header, restore
    from linekeeper.cli.who import who
    from linekeeper.clock import utcnow
    from linekeeper.settings import Settings
    from linekeeper.store import Store

    settings = Settings()
    header = read_header(file)
    if not (settings.encryption_keys or (settings.home / "encryption-keys").exists()):
        # Opening the store would make new ones here, and none of those opens this file.
        raise UserError(_no_keys(file, header.keys, settings))
    async with Store.open(settings) as store:
        return await restore(store, file, by=who(), now=utcnow())


def _no_keys(file: Path, keys: tuple[str, ...], settings: "Settings") -> str:
    return (
        f"there are no encryption keys here, and {file} needs those with the fingerprint "
        f"{', '.join(keys)}: set LINEKEEPER_ENCRYPTION_KEYS, or put them into "
        f"{settings.home / 'encryption-keys'}"
    )
