"""`linekeeper rotate-keys`: everything encrypted anew under the first key."""

import asyncio

import typer

from linekeeper.cli.who import who


def rotate_keys_command() -> None:
    """Encrypt all tokens and settings anew under the first encryption key.

    Put a new key in front of the old one (LINEKEEPER_ENCRYPTION_KEYS, or the file encryption-keys),
    restart every part, run this, then take the old key away. Stopped in between, it is run again.

    Examples:

      linekeeper rotate-keys
    """
    done = asyncio.run(_rotate())
    typer.echo(f"{done} values are encrypted under the first key; the others may go now")


async def _rotate() -> int:
    from linekeeper.clock import utcnow
    from linekeeper.runtime import Runtime
    from linekeeper.store.rotate import rotate_keys
    from linekeeper.store.tables import Audit

    async with Runtime.open() as rt:
        done = await rotate_keys(rt.store)
        async with rt.store.write() as session:
            session.add(
                Audit(
                    at=utcnow(),
                    by=who(),
                    action="keys.rotated",
                    subject="encryption keys",
                    detail={"values": done},
                )
            )
        return done
