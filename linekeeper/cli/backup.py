"""`linekeeper backup`: the whole database in one file, while everything runs."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from linekeeper.backup import BackupSummary


def backup_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write; an existing one is replaced.")
    ],
) -> None:
    """Write one file from which everything comes back: `linekeeper restore FILE`.

    It holds the database of this moment, and what you set in the Prefect UI. Secrets in it stay
    encrypted, and the keys are not in it: keep them in another place. Nothing has to be stopped.

    Example:

      linekeeper backup /backups/linekeeper-2026-11-25.backup
    """
    taken, prefect_side = asyncio.run(_back_up(file))
    typer.echo(f"{file}: {taken.rows:,} rows of {taken.tables} tables, {taken.size / 1e6:.1f} MB")
    typer.echo(f"Prefect's side: {prefect_side}")
    typer.echo(
        f"To restore it one needs the encryption key{'s' if len(taken.keys) > 1 else ''} with the "
        f"fingerprint {', '.join(taken.keys)}, which this file does not hold"
    )


async def _back_up(file: Path) -> "tuple[BackupSummary, str]":
    from linekeeper.backup import back_up
    from linekeeper.cli.terminal import who
    from linekeeper.clock import utcnow
    from linekeeper.settings import Settings
    from linekeeper.store import Store
    from linekeeper.store.engine import encryption_keys
    from linekeeper.store.schema import require_current
    from linekeeper.store.tables import Audit
    from tasks.prefect_adapter.settings import remember_now

    settings = Settings()
    async with Store.open(settings) as store:
        await require_current(store)
        prefect_side = await remember_now(store, settings)
        now = utcnow()
        taken = await back_up(store, file, encryption_keys(settings), now=now)
        async with store.write() as session:
            detail = {"rows": taken.rows, "bytes": taken.size}
            session.add(
                Audit(at=now, by=who(), action="backup.taken", subject=file.name, detail=detail)
            )
    return taken, prefect_side
