"""`linekeeper demo`: a guided quarter of an hour beside `linekeeper up` and its sandbox."""

import asyncio
from typing import Annotated

import typer


def demo_command(
    *,
    chapter: Annotated[
        list[str] | None,
        typer.Option(help="Only this one; may be repeated: login, outage, webhook, step."),
    ] = None,
) -> None:
    """Lead through what Linekeeper does: what to click next, and then wait until it happened.

    It needs `linekeeper up` with its sandbox in another terminal. A lost login is followed to
    "Reconnected", a provider's outage is taken in Slack, a lost webhook is found, a step of an
    implementation is answered. Ctrl-C ends it; what it broke is restored.

    Examples:

      linekeeper demo

      linekeeper demo --chapter login --chapter webhook
    """
    asyncio.run(_lead(chapter or []))


async def _lead(chosen: list[str]) -> None:
    from linekeeper.cli.demo_tour import CHAPTERS, tour

    if unknown := [name for name in chosen if name not in CHAPTERS]:
        raise typer.BadParameter(
            f"{unknown[0]} is none of {', '.join(CHAPTERS)}", param_hint="--chapter"
        )
    names = chosen or list(CHAPTERS)
    async with tour() as leading:
        leading.says(
            "Keep two tabs of your browser open:",
            f"  Slack    {leading.sandbox}/slack",
            f"  Prefect  {leading.ui}/runs",
            "This terminal says what to click next, and waits until it happened. Ctrl-C ends it.",
        )
        for number, name in enumerate(names, start=1):
            await CHAPTERS[name](leading, f"{number} of {len(names)}")
        leading.says(
            "",
            "[bold green]That was it.[/] Everything that was broken is well again.",
            "Next: your own Makini, without changing anything there: docs/index.md, step 4.",
        )
