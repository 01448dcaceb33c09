"""`linekeeper records`: the index of what the systems hold."""

import asyncio
import errno
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from linekeeper.cli.terminal import require_phrase, who
from linekeeper.refusal import UserError
from linekeeper.text import counted

if TYPE_CHECKING:
    from linekeeper.customers.find import Named

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Export the index of records, or purge it."
)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@app.callback()
def _records() -> None:
    """Export the index of records, or purge it."""


@app.command("export")
def export_command(
    connection: Annotated[
        list[str] | None,
        typer.Argument(help="Names, “Customer · System”, tags or Makini's keys. Default: all."),
    ] = None,
    entity: Annotated[
        list[str] | None,
        typer.Option("--entity", metavar="E", help="Only these, such as eam/assets; repeat it."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="- is standard output.")
    ] = Path("-"),
    *,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Include records that are deleted.")
    ] = False,
) -> None:
    """Write the index as NDJSON: one record a line, with Makini's JSON where bodies are kept.

    Each line has connection, makini_key, entity, key, updated_at, deleted_at, hash and body.
    Whatever its size, it takes little memory; a bar on standard error shows how far it is.

    Examples:

      linekeeper records export -o records.ndjson

      linekeeper records export "Acme · SAP ECC" --entity eam/assets | jq .key
    """
    try:
        count = asyncio.run(_export(connection or [], entity or [], output, deleted=deleted))
    except OSError as error:
        if error.errno not in _FULL:
            raise
        reason = (error.strerror or "").lower()
        raise UserError(f"{output}: {reason}; the export is not whole") from None
    typer.echo(f"{counted(count, 'record')} exported", err=True)


@app.command("purge")
def purge_command(
    connection: Annotated[
        str, typer.Argument(help="A name, “Customer · System”, tag or Makini's key.")
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    confirm: Annotated[
        str,
        typer.Option(
            metavar="CONNECTION", help="The name again, to confirm. Without it you are asked."
        ),
    ] = "",
) -> None:
    """Forget what the index, with its bodies and feed, holds of one connection.

    While it is live the next run reads it again, as a new baseline. There is no undo.

    Example:

      linekeeper records purge "Acme · SAP ECC"
    """
    if not yes:
        asyncio.run(_named(connection))  # one that nobody has is said before the phrase
        require_phrase(
            connection.strip(),
            confirm,
            what=f"This forgets every record of {connection}",
            scripts_say_it=True,
        )
    typer.echo(asyncio.run(_purge(connection)))


async def _export(
    connections: list[str], entities: list[str], output: Path, *, deleted: bool
) -> int:
    import orjson
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from linekeeper.customers.find import NotFound
    from linekeeper.reconcile.export import RecordChoice, count_records, export_records
    from linekeeper.reconcile.named import UnknownEntity, find_connections, find_entities
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt:
        try:
            ids = await find_connections(rt.store, connections)
            names = await find_entities(rt, entities)
        except (NotFound, UnknownEntity) as error:
            raise UserError(str(error)) from None
        choice = RecordChoice(ids, names, deleted)
        total, done = await count_records(rt.store, choice), 0
        bar = Progress(
            "exporting",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        with ExitStack() as stack:
            file = _open(output, stack)
            stack.enter_context(bar)
            task = bar.add_task("exporting", total=total)
            async for rows in export_records(rt.store, choice):
                for row in rows:
                    if row["body"] is not None:
                        row["body"] = orjson.Fragment(row["body"])
                    file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
                done += len(rows)
                bar.update(task, completed=done)
            file.flush()
    return done


def _open(output: Path, stack: ExitStack) -> BinaryIO:
    if str(output) == "-":
        return sys.stdout.buffer
    try:
        return stack.enter_context(output.open("wb"))
    except OSError as error:
        raise UserError(f"{output} can't be written: {(error.strerror or '').lower()}") from None


async def _named(wanted: str) -> "Named":
    from linekeeper.customers.find import NotFound, find_connection
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt, rt.store.read() as session:
        try:
            return await find_connection(session, wanted)
        except NotFound as error:
            raise UserError(str(error)) from None


async def _purge(wanted: str) -> str:
    from linekeeper.reconcile.purge import StillAwaited, forget_records
    from linekeeper.runtime import Runtime

    named = await _named(wanted)
    async with Runtime.open() as rt:
        try:
            gone = await forget_records(rt.store, named.id, by=who())
        except StillAwaited:
            raise UserError(
                f"the successor of {named.label} has yet to take over its records, and nothing was "
                "forgotten: try again after the next reconcile run"
            ) from None
    if gone is None:
        raise UserError(f"{named.label} is being read, and nothing was forgotten: try again later")
    return f"{named.label}: {counted(gone, 'record')} forgotten"
