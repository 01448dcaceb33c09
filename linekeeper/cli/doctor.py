"""`linekeeper doctor`: every setting and peer, and what to fix."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from linekeeper.doctor import DoctorFinding

_SIGNS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "wrong": ("✗", "bold red")}


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seconds: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds each check may take.")
    ] = 10.0,
) -> None:
    """Check every setting and peer, and say what to fix. Exit code 1 if anything is wrong.

    Only looks: nothing is minted, posted or changed.

    Examples:

      linekeeper doctor

      linekeeper doctor --json | jq '.[] | select(.level != "ok")'
    """
    from linekeeper.doctor import Level, worst
    from linekeeper.settings import Settings
    from tasks.prefect_adapter.examination import examine_everything

    findings = asyncio.run(examine_everything(Settings(), seconds=seconds))
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(
            json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False)
        )
    else:
        _show(findings)
    if worst(findings) is Level.wrong:
        raise typer.Exit(1)


def _show(findings: "Sequence[DoctorFinding]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        sign, style = _SIGNS[finding.level]
        text = Text(finding.text)
        if finding.fix:
            text.append(f"\n→ {finding.fix}", style)
        table.add_row(Text(sign, style), finding.name, text)
    console = Console(highlight=False)
    console.print(table)
    counts = {level: sum(finding.level == level for finding in findings) for level in _SIGNS}
    console.print(f"{counts['ok']} well, {counts['warn']} to look at, {counts['wrong']} wrong")
