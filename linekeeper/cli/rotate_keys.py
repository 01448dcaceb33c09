"""`linekeeper rotate-keys`: everything encrypted anew under the first key."""

import asyncio
from typing import TYPE_CHECKING

import typer

from linekeeper.cli.who import who

if TYPE_CHECKING:
    from linekeeper.store.rotate import Rotation


def rotate_keys_command() -> None:
    """Encrypt all tokens and settings anew under the first encryption key.

    Put a new key in front of the old one (LINEKEEPER_ENCRYPTION_KEYS, or the file encryption-keys),
    restart every part, run this, then take the old key away. Stopped in between, it goes on where
    it was when it is run again.

    Examples:

      linekeeper rotate-keys
    """
    done = asyncio.run(_rotate())
    typer.echo(
        f"{done.changed} of {done.seen} rows were encrypted anew; all are under the first key now, "
        "and the others may go"
    )


def _tell(rotation: "Rotation") -> None:
    typer.echo(
        f"{rotation.seen} of {rotation.total} rows, {rotation.changed} encrypted anew", err=True
    )


async def _rotate() -> "Rotation":
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime
    from linekeeper.store.rotate import rotate_keys
    from linekeeper.store.tables import Audit

    async with Runtime.open() as rt:
        done = await rotate_keys(rt.store, tell=_tell)
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
