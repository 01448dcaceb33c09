"""`linekeeper demo`: a guided quarter of an hour beside `linekeeper up` and its sandbox."""

import asyncio
from typing import Annotated

import typer


def demo_command(
    *,
    chapter: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this chapter; may be repeated: login, outage, webhook, explain, step, page."
        ),
    ] = None,
) -> None:
    """Lead through what Linekeeper does: what to click next, and then wait until it happened.

    It needs `linekeeper up` with its sandbox in another terminal. A lost login is followed to
    "Reconnected", a provider's outage is taken in Slack, a lost webhook is found, a record is
    followed to the hop that is missing, a step of an implementation is answered, and a customer
    ticks what they have prepared on their own page. Ctrl-C ends it; what it broke is restored.

    Examples:

      linekeeper demo

      linekeeper demo --chapter login --chapter webhook
    """
    asyncio.run(_lead(chapter or []))


async def _lead(chosen: list[str]) -> None:
    from linekeeper.cli import demo_chapters, demo_questions
    from linekeeper.cli.demo_tour import tour

    chapters = {
        "login": demo_chapters.login,
        "outage": demo_chapters.outage,
        "webhook": demo_chapters.webhook,
        "explain": demo_questions.explain,
        "step": demo_chapters.step,
        "page": demo_questions.page,
    }

    if unknown := [name for name in chosen if name not in chapters]:
        raise typer.BadParameter(
            f"{unknown[0]} is none of {', '.join(chapters)}", param_hint="--chapter"
        )
    names = chosen or list(chapters)
    async with tour() as leading:
        leading.says(
            "Keep two tabs of your browser open:",
            f"  Slack    {leading.sandbox}/slack",
            f"  Prefect  {leading.ui}/runs",
            "This terminal says what to click next, and waits until it happened. Ctrl-C ends it.",
        )
        for number, name in enumerate(names, start=1):
            await chapters[name](leading, f"{number} of {len(names)}")
        leading.says(
            "",
            "[bold green]That was it.[/] What this tour broke is well again.",
            "Next: your own Makini, without changing anything there: docs/index.md, step 4.",
        )
