"""`linekeeper migrate`: the schema."""

import asyncio

import typer


def migrate_command() -> None:
    """Bring the database's schema up to date; harmless to repeat.

    Example:

      linekeeper migrate
    """
    before, after = asyncio.run(_migrate())
    typer.echo(
        f"the schema is {after} already"
        if before == after
        else f"the schema is now {after} (it was {before or 'empty'})"
    )


async def _migrate() -> tuple[str | None, str]:
    from linekeeper.settings import Settings
    from linekeeper.store import Store
    from linekeeper.store.migrate import migrate

    async with Store.open(Settings()) as store:
        return await migrate(store)
