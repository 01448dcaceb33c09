"""`linekeeper explain`: the way of one record, event, message or case, and the hop missing."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from linekeeper.explain.answer import Explanation


def explain_command(
    subject: Annotated[
        list[str],
        typer.Argument(
            metavar="SUBJECT",
            help="`Customer · System RECORD-KEY` (or its number); or the id of a delivery, a "
            "change, an incident or a message.",
        ),
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")] = False,
) -> None:
    """Show the way of a record or message through every hop, and name the hop that is missing.

    Examples:

      linekeeper explain "Acme · Maximo 4711"

      linekeeper explain "Acme · Maximo WO-2026-17" --json

      linekeeper explain 019a2f3e-7c1d-7b7e-9d5e-5d7a3e1f0b42
    """
    explanation = asyncio.run(_explain(" ".join(subject)))
    if as_json:
        typer.echo(json.dumps(explanation.answer().as_json(), indent=2, ensure_ascii=False))
        return
    from linekeeper.explain.render import plain

    typer.echo(plain(explanation))


async def _explain(subject: str) -> "Explanation":
    from linekeeper.clock import utcnow
    from linekeeper.explain.service import explain
    from linekeeper.runtime import Runtime

    async with Runtime.open() as rt:
        return await explain(rt.store, await rt.configuration(), subject, now=utcnow())
