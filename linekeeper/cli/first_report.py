"""`linekeeper first-report`: what was found in the first quarter of an hour, for a meeting."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer


def first_report_command(
    *,
    file: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the Markdown goes.", dir_okay=False)
    ] = Path("first-report.md"),
) -> None:
    """Write what is known of the fleet into a Markdown file, and into Prefect's artifacts.

    Connections by system, those in trouble with the evidence, entities that can't be read, webhooks
    that don't come, tokens that end, credits, and who would be notified of what. It reads the
    database alone and makes no call to Makini. It names customers and connections; tokens,
    addresses of people and contents of records are not in it.

    Examples:

      linekeeper first-report

      linekeeper first-report --file monday.md
    """
    from linekeeper.private import make_private_file

    markdown, shown = asyncio.run(_report())
    make_private_file(file)
    file.write_text(markdown)
    typer.echo(f"{file}: written; {shown}")


async def _report() -> tuple[str, str]:
    from linekeeper.clock import utcnow
    from linekeeper.orchestrator import OrchestratorUnavailable
    from linekeeper.runtime import Runtime
    from linekeeper.settings import Settings
    from linekeeper.views.first_report import (
        FIRST_REPORT,
        first_report_markdown,
        read_first_report,
    )
    from tasks.prefect_adapter.orchestrator import PrefectOrchestrator

    settings = Settings()
    async with Runtime.open(settings) as rt:
        markdown = first_report_markdown(await read_first_report(rt, now=utcnow()))
        try:
            async with PrefectOrchestrator.open(settings) as orchestrator:
                await orchestrator.put_page(
                    rt, FIRST_REPORT, markdown, description="The first report"
                )
        except (OrchestratorUnavailable, ValueError) as error:
            return markdown, f"the artifact {FIRST_REPORT} is not: {error}"
    return markdown, f"so is the artifact {FIRST_REPORT}"
